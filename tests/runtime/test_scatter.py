"""The scatter family against loops written out in numpy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from coreml_runtime.errors import PredictionError
from coreml_runtime.ops.scatter import scatter, scatter_along_axis, scatter_nd
from tests.runtime.contexts import make_context

COMBINE: dict[str, Callable[[Any, Any], Any]] = {
    "update": lambda old, new: new,
    "add": lambda old, new: old + new,
    "sub": lambda old, new: old - new,
    "mul": lambda old, new: old * new,
    "div": lambda old, new: old / new,
    "max": max,
    "min": min,
}
IOS15, IOS17 = make_context("ios15"), make_context("ios17")


@pytest.mark.parametrize("mode", COMBINE)
@pytest.mark.parametrize("axis", [0, 1, -1])
def test_scatter_along_axis_combines_repeated_indices_in_order(mode: str, axis: int) -> None:
    # given: repeated and negative indices
    random = np.random.default_rng(3)
    data, updates = random.uniform(1, 2, (3, 4, 2)), random.uniform(1, 2, (3, 4, 2))
    indices = random.integers(-data.shape[axis], data.shape[axis], data.shape)
    expected = data.copy()
    for place in np.ndindex(*indices.shape):
        target = list(place)
        target[axis] = indices[place]
        expected[tuple(target)] = COMBINE[mode](expected[tuple(target)], updates[place])

    # when
    result = scatter_along_axis(
        data=torch.tensor(data), indices=torch.tensor(indices, dtype=torch.int32), updates=torch.tensor(updates),
        axis=axis, mode=mode, context=IOS15,
    )  # fmt: skip

    # then: double precision, so only the order of products may differ
    np.testing.assert_allclose(result.numpy(), expected, rtol=1e-12)


@pytest.mark.parametrize("mode", COMBINE)
def test_scatter_writes_slices(mode: str) -> None:
    # given
    random = np.random.default_rng(4)
    data, updates = random.uniform(1, 2, (2, 5, 3)), random.uniform(1, 2, (2, 4, 3))
    indices = np.array([4, 0, 4, -2])
    expected = data.copy()
    for i, index in enumerate(indices):
        for place in np.ndindex(2, 3):
            old = expected[place[0], index, place[1]]
            expected[place[0], index, place[1]] = COMBINE[mode](old, updates[place[0], i, place[1]])

    # when
    result = scatter(
        data=torch.tensor(data), indices=torch.tensor(indices, dtype=torch.int32), updates=torch.tensor(updates),
        axis=-2, mode=mode, context=IOS15,
    )  # fmt: skip

    # then
    np.testing.assert_allclose(result.numpy(), expected, rtol=1e-12)


@pytest.mark.parametrize("mode", COMBINE)
@pytest.mark.parametrize("depth", [1, 2, 3])
def test_scatter_nd_addresses_slices_by_coordinates(mode: str, depth: int) -> None:
    # given
    random = np.random.default_rng(5)
    data = random.uniform(1, 2, (3, 4, 2))
    indices = np.stack([random.integers(0, data.shape[i], (2, 6)) for i in range(depth)], axis=-1)
    updates = random.uniform(1, 2, (2, 6, *data.shape[depth:]))
    expected = data.copy()
    for place in np.ndindex(2, 6):
        for rest in np.ndindex(*data.shape[depth:]):
            target = (*indices[place], *rest)
            expected[target] = COMBINE[mode](expected[target], updates[(*place, *rest)])

    # when
    result = scatter_nd(
        data=torch.tensor(data), indices=torch.tensor(indices, dtype=torch.int32), updates=torch.tensor(updates),
        mode=mode, context=IOS17,
    )  # fmt: skip

    # then
    np.testing.assert_allclose(result.numpy(), expected, rtol=1e-12)


def test_scatter_of_integers_divides_towards_zero() -> None:
    # given, when
    result = scatter(
        data=torch.tensor([7, -7], dtype=torch.int32), indices=torch.tensor([0, 1], dtype=torch.int32),
        updates=torch.tensor([2, 2], dtype=torch.int32), mode="div", context=IOS15,
    )  # fmt: skip

    # then
    assert result.tolist() == [3, -3]
    assert result.dtype is torch.int32


@pytest.mark.parametrize("bad", [-1, 2, 10])
def test_since_ios17_an_index_outside_is_dropped_or_refused(bad: int) -> None:
    # given
    data, updates = torch.tensor([1.0, 2.0]), torch.tensor([10.0, 20.0])
    indices = torch.tensor([bad, 0], dtype=torch.int32)

    # when
    kept = scatter(data=data, indices=indices, updates=updates, context=IOS17)
    kept_nd = scatter_nd(data=data, indices=indices[:, None], updates=updates, context=IOS17)

    # then
    assert kept.tolist() == kept_nd.tolist() == [21.0, 2.0]
    with pytest.raises(PredictionError, match="Unable to compute the prediction using ML Program"):
        scatter(data=data, indices=indices, updates=updates, validate_indices=True, context=IOS17)
    with pytest.raises(PredictionError, match="out of range"):
        scatter_along_axis(data=data, indices=indices, updates=updates, validate_indices=True, context=IOS17)
    with pytest.raises(PredictionError, match="out of range"):
        scatter_nd(data=data, indices=indices[:, None], updates=updates, validate_indices=True, context=IOS17)


def test_the_input_is_not_changed() -> None:
    # given
    data = torch.zeros(3)

    # when
    scatter(data=data, indices=torch.tensor([1]), updates=torch.ones(1), context=IOS15)

    # then
    assert data.tolist() == [0, 0, 0]


@pytest.mark.parametrize("rest", [(), (3,)])
def test_scatter_nd_of_nothing_changes_nothing(rest: tuple[int, ...]) -> None:
    # given: no indices, as of a mask in which nothing is set
    data = torch.arange(6.0).reshape(6, *(1 for _ in rest)).expand(6, *rest)
    # when
    result = scatter_nd(
        data=data, indices=torch.zeros(0, 1, dtype=torch.int32), updates=torch.zeros(0, *rest), mode="update",
        context=IOS15,
    )  # fmt: skip
    # then
    assert torch.equal(result, data)
