"""Which weights of a traced program are compressed ones of the file, however a kernel laid their axes."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from coreml_runtime.forms import Form

Array = np.ndarray

_LARGEST_RANK = 5
_LEAST = 10
"""Weights with fewer elements are no smaller in any form."""
_ROUNDED = 2.0**-9
"""The values and the parameters that make them are rounded, each by 2**-11 at most."""
_FLOATS: dict[torch.dtype, np.dtype] = {torch.float16: np.dtype(np.float16), torch.float32: np.dtype(np.float32)}


def match_forms(weights: Mapping[str, torch.Tensor], forms: Sequence[Form]) -> dict[str, Form]:
    """By the path of a weight, the form in the file that makes the same values, in the weight's shape.

    Weights that are narrower than what the file has are its values rounded, within twice what that rounding changes.
    """
    by_sizes: dict[tuple[int, ...], list[Form]] = {}
    for form in forms:
        by_sizes.setdefault(_sizes(form.dense.shape), []).append(form)
    found = {}
    for path, weight in weights.items():
        dtype = _FLOATS.get(weight.dtype)
        if dtype is None or weight.numel() < _LEAST:
            continue
        values = weight.detach().numpy()
        for form in by_sizes.get(_sizes(values.shape), ()):
            is_narrower = dtype.itemsize < form.dense.dtype.itemsize
            laid = _laid(form.as_stored(dtype) if is_narrower else form, values, _ROUNDED if is_narrower else 0.0)
            if laid is not None:
                found[path] = laid
                break
    return found


def _sizes(shape: Sequence[int]) -> tuple[int, ...]:
    """The sizes of a shape in order of size, without those of 1."""
    return tuple(sorted(size for size in shape if size != 1))


def _laid(form: Form, values: NDArray[np.floating], tolerance: float) -> Form | None:
    """The form with its axes moved so that it gives `values`; None where no order of axes does."""
    for order in _orders(form.dense.shape, values.shape):
        if _is_same(_moved(form.dense, order, values.shape), values, tolerance):
            return form if order == tuple(range(form.dense.ndim)) == tuple(range(values.ndim)) else _move(
                form, order, values.shape
            )  # fmt: skip
    return None


def _is_same(one: Array, other: NDArray[np.floating], tolerance: float) -> bool:
    if not tolerance:
        return np.array_equal(one, other)
    return bool(np.allclose(one.astype(np.float32), other.astype(np.float32), rtol=tolerance, atol=2.0**-20))


def _orders(given: Sequence[int], wanted: Sequence[int]) -> Iterator[tuple[int, ...]]:
    """The orders of axes in which `given` has the sizes of `wanted`, those of 1 aside; as it is comes first."""
    if len(given) > _LARGEST_RANK:
        return
    large = [size for size in wanted if size != 1]
    several = [axis for axis, size in enumerate(given) if size != 1]
    ones = tuple(axis for axis, size in enumerate(given) if size == 1)
    if tuple(given) == tuple(wanted):
        yield tuple(range(len(given)))
    for order in itertools.permutations(several):
        if [given[axis] for axis in order] == large:
            yield (*order, *ones)


def _moved(array: Array, order: Sequence[int], shape: Sequence[int]) -> Array:
    return array.transpose(order).reshape(shape) if tuple(order) != tuple(range(array.ndim)) else array.reshape(shape)


def _move(form: Form, order: tuple[int, ...], shape: tuple[int, ...]) -> Form:
    """Every array of the form in another order of axes, with those of 1 where `shape` has them."""
    places = _places(form.dense.shape, order, shape)

    def lay(array: Array, behind: int = 0) -> Array:
        """`behind` are the last axes, which stay."""
        rank = array.ndim - behind
        tail = array.shape[rank:]
        moved = array.transpose(*order, *range(rank, array.ndim))
        sizes = [1 if place is None else moved.shape[place] for place in places]
        return np.ascontiguousarray(moved.reshape(*sizes, *tail))

    scaled, palette = form.scaled, form.palette
    if scaled is not None:
        scaled = replace(
            scaled, data=lay(scaled.data), scale=lay(scaled.scale), zero=lay(scaled.zero),
            shift=None if scaled.shift is None else lay(scaled.shift),
        )  # fmt: skip
    if palette is not None:
        palette = replace(
            palette, indices=lay(palette.indices), table=lay(palette.table, 2), axis=_axis(palette.axis, order, places),
            scale=None if palette.scale is None else lay(palette.scale),
        )  # fmt: skip
    mask = None if form.mask is None else lay(form.mask)
    return Form(dense=_moved(form.dense, order, shape), scaled=scaled, palette=palette, mask=mask)


def _places(given: Sequence[int], order: Sequence[int], shape: Sequence[int]) -> list[int | None]:
    """For each axis of `shape`, its place among the moved axes; None for those of 1."""
    place = iter(range(len([axis for axis in order if given[axis] != 1])))
    return [None if size == 1 else next(place) for size in shape]


def _axis(axis: int, order: Sequence[int], places: Sequence[int | None]) -> int:
    """Where an axis is after the move; the first one where it was of size 1."""
    moved = order.index(axis)
    return places.index(moved) if moved in places else 0
