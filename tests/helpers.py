"""What several tests share."""

import functools

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from pocourse.lesson import exercises

_SYNCS = {torch.ops.aten._local_scalar_dense.default, torch.ops.aten.nonzero.default}
_INDEXING = {
    torch.ops.aten.index.Tensor,
    torch.ops.aten.index_put.default,
    torch.ops.aten.index_put_.default,
    torch.ops.aten._index_put_impl_.default,
}


class NoHostSync(TorchDispatchMode):
    """Refuses the operations for which a GPU makes the host wait.

    These are reading a value (``.item()``, ``if tensor:``), ``nonzero``, and indexing with a bool
    tensor, whose result has a shape that depends on the values. A machine without a GPU notices
    them here all the same.
    """

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        waits = func in _SYNCS or (func in _INDEXING and any(_is_mask(index) for index in args[1]))
        if waits:
            raise AssertionError(f"{func} makes the host wait for the device")
        return func(*args, **(kwargs or {}))


def _is_mask(index):
    return index is not None and index.dtype in (torch.bool, torch.uint8)


def in_tree(widget, kind):
    """All widgets of a kind inside another one, in order."""
    found = [widget] if isinstance(widget, kind) else []
    for child in getattr(widget, "children", ()):
        found += in_tree(child, kind)
    return found


@functools.cache
def matrix(id):
    """The matrix of an exercise as it is registered, computed once for all tests of a process."""
    return exercises.matrix(id)


@functools.cache
def verdict_on(id, name):
    """The verdict on one of an exercise's own wrong answers, reached once for all tests of a process."""
    (mutant,) = (mutant for mutant in exercises.find(id).mutants if mutant.name == name)
    return exercises.judge(id, mutant.run)
