"""Numbers in prose come from here: a measured value, held to what the text says of it."""


def expect(what: str, value: float, target: float, *, within: float) -> None:
    """Say that ``what`` is ``target``, give or take ``within``, after having made sure that it is.

    The line is the same on every machine, because it prints the bound that holds and not the raw value.
    Raises: AssertionError if ``value`` is further than ``within`` from ``target``.
    """
    from pocourse import _check  # brings in torch, and `pocourse.lesson` itself does without

    _check.number(target=target)
    _check.number(within=within, at_least=0)
    value = float(value)
    if not abs(value - target) <= within:
        raise AssertionError(f"{what}: expected {target:g} give or take {within:g}, got {value:.6g}.")
    print(f"{what}: {target:g}" + (f" (to within {within:g})" if within else " (exactly)"))
