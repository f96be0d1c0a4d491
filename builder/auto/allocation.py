"""Which layer to make smaller next: a path from no compression to the smallest artifact, cheapest bytes first.

Noises of layers add up at the outputs, so of two moves that save the same bytes the one that adds less noise comes
first (Shoham and Gersho, Efficient bit allocation for an arbitrary set of quantizers, IEEE Trans. ASSP 36, 1988).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What a method makes of a layer."""

    bytes: int
    noise: float
    """At the model's outputs, by signal."""


Costs = Mapping[str, Cost]
"""Of one layer, by the method's name."""

Allocation = tuple[str, ...]
"""The method of each layer."""


def path(layers: Sequence[Costs], start: str) -> list[Allocation]:
    """Every allocation on the way from the method `start` for all layers to the fewest bytes of each.

    Each is the one with the least noise of its size that moves along the convex hulls of the layers reach.
    """
    moves = sorted(
        (slope, layer, number, option)
        for layer, costs in enumerate(layers)
        for number, (slope, option) in enumerate(_hull(costs, start))
    )
    current = [start] * len(layers)
    found = [tuple(current)]
    for _, layer, _, option in moves:
        current[layer] = option
        found.append(tuple(current))
    return found


def _hull(costs: Costs, start: str) -> Iterator[tuple[float, str]]:
    """The methods of a layer that are worth taking in turn, each with the noise that a saved byte costs.

    These grow from one to the next: what would cost more for a byte than a smaller method after it is left out.
    """
    here, slope = costs[start], 0.0
    while True:
        smaller = [
            ((cost.noise - here.noise) / (here.bytes - cost.bytes), cost.bytes, option)
            for option, cost in costs.items()
            if cost.bytes < here.bytes
        ]
        if not smaller:
            return
        least, _, option = min(smaller)
        slope = max(slope, least)
        yield slope, option
        here = costs[option]
