"""The only place that judges tensors and hyperparameters.

Each function raises a ValueError that says what was expected, what came, and how to mend it.
Nothing is ever repaired silently.

Two sorts of check. Those of shape, dtype, gradient and of plain Python numbers read no data and
always run. Those that read values (NaN, probabilities that do not sum to one) would make a GPU
wait for the host, so they run for CPU tensors only, outside functorch transforms, and not inside
``values_unread()``, the context in which the engine runs its loop.
"""

import contextlib
import contextvars
import math
import operator
from pathlib import Path

import torch

_values_unread = contextvars.ContextVar("values_unread", default=False)


@contextlib.contextmanager
def values_unread():
    """Skip every check that reads values, as a training loop that must not wait for the host does."""
    token = _values_unread.set(True)
    try:
        yield
    finally:
        _values_unread.reset(token)


def _readable(tensor):
    """Whether looking at the values costs nothing and is possible at all."""
    return (
        not _values_unread.get()
        and tensor.device.type == "cpu"
        and not torch._C._functorch.is_functorch_wrapped_tensor(tensor)
        and not torch.compiler.is_compiling()
    )


def same_shape(**tensors):
    """All named tensors are floating point, of one shape, dtype and device, and free of NaN.

    Shapes that torch would broadcast are refused as well: a [64] against a [64, 1] becomes a
    [64, 64] without a word, and the mean over it is a wrong number rather than an error.
    """
    reference_name, reference = next(iter(tensors.items()))
    for name, tensor in tensors.items():
        floating(**{name: tensor})
        if tensor.shape != reference.shape:
            raise ValueError(
                f"expected {name} in the shape of {reference_name}, {list(reference.shape)}; "
                f"got {list(tensor.shape)}. Torch might broadcast these silently: "
                "reshape or index them to one shape first."
            )
        if tensor.dtype != reference.dtype or tensor.device != reference.device:
            raise ValueError(
                f"expected {name} with the dtype and device of {reference_name}, {reference.dtype} on "
                f"{reference.device}; got {tensor.dtype} on {tensor.device}. "
                f"Convert it with {name}.to({reference_name})."
            )


def floating(**tensors):
    """Each named value is a floating-point tensor free of NaN."""
    for name, tensor in tensors.items():
        if not isinstance(tensor, torch.Tensor):
            raise ValueError(
                f"expected {name} as a torch.Tensor; got {type(tensor).__name__}. Wrap it with torch.as_tensor({name})."
            )
        if not tensor.is_floating_point():
            raise ValueError(
                f"expected {name} in a floating-point dtype; got {tensor.dtype}. Convert it with {name}.float()."
            )
        # One NaN makes the sum NaN, which is ten times quicker to see; so does inf - inf, hence the second look.
        if _readable(tensor) and bool(tensor.detach().sum().isnan()) and bool(tensor.isnan().any()):
            count = int(tensor.isnan().sum())
            raise ValueError(
                f"expected {name} without NaN; got {count} of {tensor.numel()} entries NaN. "
                "Look for a log of zero, 0/0 or inf - inf where it was computed."
            )


def flags(like, **tensors):
    """Each named tensor is boolean and of the shape of ``like``: flags of episodes, masks."""
    for name, tensor in tensors.items():
        if not isinstance(tensor, torch.Tensor) or tensor.dtype != torch.bool:
            got = tensor.dtype if isinstance(tensor, torch.Tensor) else type(tensor).__name__
            raise ValueError(f"expected {name} as a torch.bool tensor; got {got}. Convert it with {name}.bool().")
        if tensor.shape != like.shape:
            raise ValueError(
                f"expected {name} in the shape {list(like.shape)}; got {list(tensor.shape)}. "
                "Reshape or index it to that shape first."
            )


def constant(**tensors):
    """No named tensor carries gradient: these are data, and a gradient through them is a bug."""
    for name, tensor in tensors.items():
        if tensor.requires_grad:
            raise ValueError(
                f"expected {name} as plain data without gradient; got a tensor with requires_grad=True. "
                f"Call {name}.detach(), or compute it under torch.no_grad()."
            )


def number(*, above=None, at_least=None, below=None, at_most=None, **values):
    """Each named hyperparameter is a finite real number inside the stated limits."""
    limits = _limits(above, at_least, below, at_most)
    wanted = _in_words(limits) or "finite"
    for name, value in values.items():
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
            raise ValueError(
                f"expected {name} as a finite number, {wanted}; got {value!r}. "
                "Pass a Python int or float, such as the default."
            )
        if not all(test(value, limit) for _, limit, test in limits):
            raise ValueError(f"expected {name} {wanted}; got {value!r}. Choose {name} inside these limits.")


def entries(*, above=None, at_least=None, below=None, at_most=None, remedy=None, **tensors):
    """Every entry of each named tensor lies inside the stated limits: ratios, mixture weights."""
    floating(**tensors)
    limits = _limits(above, at_least, below, at_most)
    for name, tensor in tensors.items():
        if not _readable(tensor):
            continue
        tensor = tensor.detach()
        inside = torch.ones_like(tensor, dtype=torch.bool)
        for _, limit, test in limits:
            inside &= test(tensor, limit)
        if not bool(inside.all()):
            outside = tensor[~inside]
            usual = f"Look at how {name} was computed: a ratio is exp(logp - logp_old), a probability a softmax."
            raise ValueError(
                f"expected every entry of {name} {_in_words(limits)}; got {outside.numel()} of {tensor.numel()} "
                f"outside, the first {float(outside[0]):g}. {remedy or usual}"
            )


def one_sign(*, remedy, **tensors):
    """Along its last axis no named tensor has both positive and negative entries."""
    for name, tensor in tensors.items():
        if not _readable(tensor):
            continue
        both = (tensor > 0).any(-1) & (tensor < 0).any(-1)
        if bool(both.any()):
            raise ValueError(
                f"expected {name} of one sign along its last axis; got both signs in {int(both.sum())} of "
                f"{both.numel()} rows. {remedy}"
            )


def _limits(above, at_least, below, at_most):
    stated = (
        ("> ", above, operator.gt),
        (">= ", at_least, operator.ge),
        ("< ", below, operator.lt),
        ("<= ", at_most, operator.le),
    )
    return [limit for limit in stated if limit[1] is not None]


def _in_words(limits):
    return " and ".join(f"{word}{limit:g}" for word, limit, _ in limits)


def probabilities(**tensors):
    """Each named tensor holds distributions on its last axis: not negative, summing to one."""
    floating(**tensors)
    for name, tensor in tensors.items():
        if tensor.ndim == 0 or tensor.shape[-1] == 0:
            raise ValueError(
                f"expected {name} with the outcomes on its last axis; got the shape {list(tensor.shape)}. "
                "Give it at least one axis of at least one outcome."
            )
        if not _readable(tensor):
            continue
        tensor = tensor.detach()
        if bool((tensor < 0).any()):
            raise ValueError(
                f"expected {name} without negative entries; got a smallest entry of {float(tensor.min()):g}. "
                "Pass probabilities, not logits: softmax(logits, -1)."
            )
        error = float((tensor.sum(-1) - 1).abs().max())
        if error > 1e3 * torch.finfo(tensor.dtype).eps:
            raise ValueError(
                f"expected {name} to sum to 1 on its last axis; got a sum that is off by {error:g}. "
                f"Divide by {name}.sum(-1, keepdim=True)."
            )


def axes(at_least, **tensors):
    """Each named tensor has at least so many axes and at least one entry: time first, or state and action last."""
    for name, tensor in tensors.items():
        if not isinstance(tensor, torch.Tensor) or tensor.ndim < at_least or tensor.numel() == 0:
            got = f"the shape {list(tensor.shape)}" if isinstance(tensor, torch.Tensor) else type(tensor).__name__
            raise ValueError(
                f"expected {name} as a tensor with at least {at_least} axes, none of them empty; got {got}. "
                f"Add the missing axis with {name}.unsqueeze(...), also where its size is 1."
            )


def shape(wanted, **tensors):
    """Each named tensor has exactly the shape ``wanted``."""
    for name, tensor in tensors.items():
        if not isinstance(tensor, torch.Tensor) or tensor.shape != wanted:
            got = list(tensor.shape) if isinstance(tensor, torch.Tensor) else type(tensor).__name__
            raise ValueError(
                f"expected {name} in the shape {list(wanted)}; got {got}. "
                f"Reshape or index it, or repeat it with {name}.expand(...)."
            )


def integers(like, **tensors):
    """Each named tensor is int64 and of the shape of ``like``: actions, indices."""
    for name, tensor in tensors.items():
        if not isinstance(tensor, torch.Tensor) or tensor.dtype != torch.int64:
            got = tensor.dtype if isinstance(tensor, torch.Tensor) else type(tensor).__name__
            raise ValueError(f"expected {name} as a torch.int64 tensor; got {got}. Convert it with {name}.long().")
        shape(like.shape, **{name: tensor})


def memory(needed, device, *, what, remedy):
    """So many bytes are free on a device; where the system does not say how many are, nothing is judged."""
    free = free_memory(device)
    if free is not None and needed > free:
        raise ValueError(
            f"expected memory for {what}, {needed / 2**30:.1f} GiB; got {free / 2**30:.1f} GiB that are free on "
            f"{device}. {remedy}"
        )


def free_memory(device):
    """Bytes that are free on a device; None where the system does not say."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
    except (OSError, ValueError, StopIteration):  # not a Linux: nobody tells
        return None
