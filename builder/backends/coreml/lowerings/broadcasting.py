"""Tensors of one shape by the rules of broadcasting, also where it is not known which of two open sizes is one."""

from __future__ import annotations

from collections.abc import Sequence

from builder.backends.coreml.lowerings.lowering import Builder, Var


def broadcast_together(mb: Builder, tensors: Sequence[Var]) -> list[Var]:
    """All in their common shape.

    coremltools takes any of several symbols of one axis for its size. Two symbols may be one size that was not
    recognised as the same, or a one that is not known to be one (the mask of an attention after `expand`): the largest
    is taken, while the artifact runs.
    """
    from coremltools.converters.mil.frontend._utils import pymil_broadcast_tensors, pymil_broadcast_to

    rank = max(tensor.rank for tensor in tensors)
    axes = [_sizes(tensors, axis, rank) for axis in range(rank)]
    if all(len(sizes) < 2 or _known(sizes) > 1 for sizes in axes):
        broadcast: list[Var] = pymil_broadcast_tensors(list(tensors))
        return broadcast
    shape = mb.concat(values=[_size(mb, sizes) for sizes in axes], axis=0)
    return [pymil_broadcast_to(tensor, shape, f"{tensor.name}_after_broadcast") for tensor in tensors]


def _sizes(tensors: Sequence[Var], axis: int, rank: int) -> dict[str, tuple[Var, int]]:
    """By size, where it is found: a tensor and its own axis; without ones, unless there is nothing else."""
    found: dict[str, tuple[Var, int]] = {}
    for tensor in tensors:
        own = axis - (rank - tensor.rank)
        if own >= 0 and str(tensor.shape[own]) != "1":
            found.setdefault(str(tensor.shape[own]), (tensor, own))
    return found


def _known(sizes: dict[str, tuple[Var, int]]) -> int:
    """The largest size that is a number; 1 where there is none."""
    return max((int(size) for size in sizes if size.isdigit()), default=1)


def _size(mb: Builder, sizes: dict[str, tuple[Var, int]]) -> Var | int:
    from coremltools.converters.mil.frontend._utils import pymil_value_at

    if not sizes or _known(sizes) > 1:
        return _known(sizes)
    values = [pymil_value_at(mb.shape(x=tensor), axis) for tensor, axis in sizes.values()]
    largest = values[0]
    for value in values[1:]:
        largest = mb.maximum(x=largest, y=value)
    return largest
