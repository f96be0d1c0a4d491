"""The path of mixtures: every step saves bytes, none of its size does better on the hulls, and it ends at the least."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from builder.auto.allocation import Allocation, Cost, Costs, path

METHODS = ("a", "b", "c", "d")


@st.composite
def layers(draw: st.DrawFn) -> list[Costs]:
    def costs() -> Costs:
        found = {m: Cost(bytes=draw(st.integers(1, 99)), noise=draw(st.integers(0, 99)) / 8) for m in METHODS}
        return {"none": Cost(bytes=100, noise=0.0), **found}

    return [costs() for _ in range(draw(st.integers(1, 4)))]


def totals(given_layers: list[Costs], allocation: Allocation) -> tuple[int, float]:
    chosen = [costs[option] for costs, option in zip(given_layers, allocation, strict=True)]
    return sum(cost.bytes for cost in chosen), sum(cost.noise for cost in chosen)


@given(layers())
def test_the_path_saves_bytes_from_step_to_step_down_to_the_least(given_layers: list[Costs]) -> None:
    found = path(given_layers, "none")
    sizes = [totals(given_layers, allocation)[0] for allocation in found]
    assert found[0] == ("none",) * len(given_layers)
    assert sizes == sorted(sizes, reverse=True)
    assert len(set(sizes)) == len(sizes)
    assert sizes[-1] == sum(min(cost.bytes for cost in costs.values()) for costs in given_layers)


@given(layers())
def test_no_allocation_is_smaller_and_less_noisy_than_one_on_the_path(given_layers: list[Costs]) -> None:
    # the hull is optimal for its own sizes (Shoham and Gersho): nothing has at most its bytes and less noise
    every = [totals(given_layers, each) for each in itertools.product(*given_layers)]
    for allocation in path(given_layers, "none"):
        size, noise = totals(given_layers, allocation)
        assert all(other_noise >= noise - 1e-9 for other_size, other_noise in every if other_size <= size)
