"""Numbers in prose come from here: a measured value, held to what the text says of it."""


def expect(
    what: str,
    value: float,
    target: float | None = None,
    *,
    within: float | None = None,
    at_most: float | None = None,
    at_least: float | None = None,
) -> None:
    """Say that ``what`` is ``target``, give or take ``within``, or lies inside limits, after having made sure of it.

    The line is the same on every machine, because it prints the bound that holds and not the raw value.
    Raises: AssertionError if it does not hold. ValueError unless there is either a target with ``within`` or a limit.
    """
    if (target is None) != (within is None) or (target is None) == (at_most is None and at_least is None):
        raise ValueError(
            f"expected for {what!r} either a target with within=, or at_most= or at_least=; "
            f"got target={target}, within={within}, at_most={at_most}, at_least={at_least}. Say which one is meant."
        )
    from pocourse import _check  # brings in torch, and `pocourse.lesson` itself does without

    value = float(value)
    if target is None:
        limits = {word: x for word, x in (("at least", at_least), ("at most", at_most)) if x is not None}
        for limit in limits.values():
            _check.number(limit=limit)
        said = " and ".join(f"{word} {limit:g}" for word, limit in limits.items())
        holds = (at_least is None or value >= at_least) and (at_most is None or value <= at_most)
    else:
        _check.number(target=target)
        _check.number(within=within, at_least=0)
        said = f"{target:g}" + (f" (to within {within:g})" if within else " (exactly)")
        holds = abs(value - target) <= within
    if not holds:
        raise AssertionError(f"{what}: expected {said}, got {value:.6g}.")
    print(f"{what}: {said}")
