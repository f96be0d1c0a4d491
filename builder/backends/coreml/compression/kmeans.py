"""k-means of single numbers: the same table for every number of threads, and in milliseconds."""

from __future__ import annotations

import heapq

import numpy as np
from numpy.typing import NDArray

_ROUNDS = 1000
"""Lloyd's algorithm ends long before: a few hundred rounds for 256 centers of a million weights."""

Floats = NDArray[np.float64]


def cluster_values(values: np.ndarray, count: int) -> tuple[Floats, NDArray[np.intp]]:
    """At most `count` centers for values (N), ascending, and the index (N) of the nearest center of each value.

    Lloyd's algorithm (IEEE Trans. Inf. Theory 28, 1982) on the sorted different values: each center is the mean of an
    interval, so a round is one binary search per center and differences of running sums. It finds a local optimum;
    the better one from two starts is taken.
    """
    unique, inverse, counts = np.unique(values.astype(np.float64), return_inverse=True, return_counts=True)
    if len(unique) <= count:
        return unique, inverse
    sums = _Sums(unique, counts)
    starts = (_split(sums, count), _ends(unique, _evenly(unique, counts, count)))
    ends = min((_lloyd(sums, start) for start in starts), key=sums.error)
    labels = np.searchsorted(ends, np.arange(len(unique)), side="right")
    return sums.means(ends), labels[inverse]


class _Sums:
    """Running sums over sorted values, which give every interval's mean and error at once."""

    def __init__(self, values: Floats, counts: NDArray[np.intp]) -> None:
        self.values = values
        self.weight = np.concatenate([[0.0], np.cumsum(counts)])
        self.first = np.concatenate([[0.0], np.cumsum(counts * values)])

    def means(self, ends: NDArray[np.intp]) -> Floats:
        """The mean of each interval; `ends` are the places where the next one begins, without the last."""
        bounds = np.concatenate([[0], ends, [len(self.values)]])
        mean: Floats = np.diff(self.first[bounds]) / np.diff(self.weight[bounds])
        return mean

    def error(self, ends: NDArray[np.intp]) -> float:
        """The squared error, but for a constant: less the squares of the means."""
        bounds = np.concatenate([[0], ends, [len(self.values)]])
        return -float(np.sum(np.diff(self.weight[bounds]) * self.means(ends) ** 2))


def _lloyd(sums: _Sums, ends: NDArray[np.intp]) -> NDArray[np.intp]:
    for _ in range(_ROUNDS):
        moved = _ends(sums.values, sums.means(ends))
        if np.array_equal(moved, ends):
            break
        ends = moved
    return ends


def _ends(values: Floats, centers: Floats) -> NDArray[np.intp]:
    """Where the values of each center end, with at least one value for each."""
    ends = np.searchsorted(values, (centers[1:] + centers[:-1]) / 2)
    steps = np.arange(len(ends))
    ends = np.maximum.accumulate(np.maximum(ends, 1) - steps) + steps
    last = len(values) - len(ends) + steps
    limited: NDArray[np.intp] = np.minimum(ends, last)
    return limited


def _split(sums: _Sums, count: int) -> NDArray[np.intp]:
    """The ends of `count` intervals, each time splitting the one that gains most at its best place.

    Follows a distribution with long tails, which evenly spaced starts do not.
    """
    intervals = [_best_split(sums, 0, len(sums.values))]
    while len(intervals) < count:
        _, start, middle, end = heapq.heappop(intervals)
        for part in ((start, middle), (middle, end)):
            heapq.heappush(intervals, _best_split(sums, *part))
    return np.sort(np.array([start for _, start, _, _ in intervals], dtype=np.intp))[1:]


def _best_split(sums: _Sums, start: int, end: int) -> tuple[float, int, int, int]:
    """(negative gain, start, middle, end) of the interval from start to end; a single value comes last."""
    if end - start < 2:
        return np.inf, start, start, end
    middles = slice(start + 1, end)
    weight = sums.weight[end] - sums.weight[start]
    first = sums.first[end] - sums.first[start]
    left_weight = sums.weight[middles] - sums.weight[start]
    left_first = sums.first[middles] - sums.first[start]
    gains = left_first**2 / left_weight + (first - left_first) ** 2 / (weight - left_weight) - first**2 / weight
    best = int(np.argmax(gains))
    return -float(gains[best]), start, start + 1 + best, end


def _evenly(unique: Floats, counts: NDArray[np.intp], count: int) -> Floats:
    """Centers spread with the cube root of the density, best for many centers of a smooth density.

    Panter and Dite, Proc. IRE 39, 1951.
    """
    bins, edges = np.histogram(unique, bins=min(1024, len(unique)), weights=counts)
    mass = np.concatenate([[0.0], np.cumsum(np.cbrt(bins))])
    centers: Floats = np.interp((np.arange(count) + 0.5) / count * mass[-1], mass, edges)
    return centers
