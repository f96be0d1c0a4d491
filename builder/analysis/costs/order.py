"""The least memory that activations need: operators may run in any order that has their inputs ready.

To find the best order is hard in general. Here orders are searched by the memory that they have needed so far, the
least first; an operator that needs no more than was needed before, and leaves no more behind, is run at once, since no
order gets worse by that. What a search of `MOST_STATES` does not finish is answered by the best order seen.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from builder.analysis.costs.graph import Graph

MOST_STATES = 2_000


@dataclass(frozen=True, kw_only=True)
class Peak:
    """Bytes that are needed at the same time."""

    least: int
    """At the best order found."""
    in_file_order: int
    proven: bool
    """Whether no order needs less."""


def needed(graph: Graph) -> int:
    """Bytes at the best order found."""
    return peak(graph).least


def peak(graph: Graph) -> Peak:
    """Inputs are there from the beginning, outputs until the end, all else from its operator to its last reader."""
    tasks = _Tasks(graph)
    file_order = tasks.run(range(len(tasks.writes)))
    bound = tasks.bound()
    if file_order == bound:
        return Peak(least=bound, in_file_order=file_order, proven=True)
    found = tasks.search()
    best = min(file_order, tasks.greedy() if found is None else found)
    return Peak(least=best, in_file_order=file_order, proven=found is not None or best == bound)


class _Tasks:
    """The graph with buffers by number: a view has the buffer of what it shows."""

    def __init__(self, graph: Graph) -> None:
        """Number buffers and operators; views vanish, and are read through."""
        owner: dict[str, int] = {}
        self.sizes: list[int] = []
        for name in graph.inputs:
            self._buffer(name, graph.bytes, owner)
        self.start = tuple(range(len(self.sizes)))
        self.reads: list[tuple[int, ...]] = []
        self.writes: list[tuple[int, ...]] = []
        self.extra: list[int] = []
        for step in graph.steps:
            given = tuple(dict.fromkeys(self._read(name, owner) for name in step.reads))
            if step.is_view and given and len(step.writes) == 1:
                owner[step.writes[0]] = given[0]
                continue
            self.reads.append(given)
            self.writes.append(tuple(self._buffer(name, graph.bytes, owner) for name in step.writes))
            self.extra.append(step.extra)
        self.ends = frozenset(owner[name] for name in graph.outputs if name in owner)
        self.readers = [0] * len(self.sizes)
        for index, given in enumerate(self.reads):
            for buffer in given:
                self.readers[buffer] |= 1 << index
        made = {buffer: index for index, written in enumerate(self.writes) for buffer in written}
        self.after = [sum({1 << made[b] for b in given if b in made}) for given in self.reads]
        self.next: list[list[int]] = [[] for _ in self.writes]
        for index, given in enumerate(self.reads):
            for maker in sorted({made[b] for b in given if b in made}):
                self.next[maker].append(index)
        self.everything = (1 << len(self.writes)) - 1

    def _buffer(self, name: str, sizes: Mapping[str, int], owner: dict[str, int]) -> int:
        owner[name] = len(self.sizes)
        self.sizes.append(sizes.get(name, 0))
        return owner[name]

    def _read(self, name: str, owner: dict[str, int]) -> int:
        """The buffer of a value; one from outside of a loop is not counted here."""
        return owner[name] if name in owner else self._buffer(name, {}, owner)

    @property
    def at_first(self) -> int:
        """Bytes before anything runs."""
        return sum(self.sizes[buffer] for buffer in self.start)

    def bound(self) -> int:
        """No order needs less than the neediest operator, the inputs, or the outputs."""
        each = (
            sum(self.sizes[b] for b in {*given, *written}) + extra
            for given, written, extra in zip(self.reads, self.writes, self.extra, strict=True)
        )
        return max(self.at_first, sum(self.sizes[b] for b in self.ends), *each, 0)

    def execute(self, index: int, done: int, live: int) -> tuple[int, int]:
        """Bytes while an operator runs, and after it."""
        while_ = live + sum(self.sizes[b] for b in self.writes[index]) + self.extra[index]
        left = ~(done | 1 << index)
        freed = sum(
            self.sizes[b]
            for b in (*self.reads[index], *self.writes[index])
            if b not in self.ends and not self.readers[b] & left
        )
        return while_, while_ - self.extra[index] - freed

    def run(self, order: Iterable[int]) -> int:
        """The peak of an order."""
        done, live, most = 0, self.at_first, self.at_first
        for index in order:
            while_, live = self.execute(index, done, live)
            most = max(most, while_)
            done |= 1 << index
        return most

    def begin(self) -> _State:
        """Nothing has run."""
        ready = tuple(index for index, needs in enumerate(self.after) if not needs)
        return _State(done=0, live=self.at_first, ready=ready)

    def then(self, state: _State, index: int) -> tuple[int, _State]:
        """The bytes while an operator runs, and what is behind it."""
        while_, live = self.execute(index, state.done, state.live)
        done = state.done | 1 << index
        new = (each for each in self.next[index] if not self.after[each] & ~done)
        return while_, _State(done=done, live=live, ready=(*(each for each in state.ready if each != index), *new))

    def settled(self, state: _State, most: int) -> _State:
        """Run all operators that cost nothing: no more than was needed, and nothing left behind."""
        again = True
        while again:
            again = False
            for index in state.ready:
                while_, live = self.execute(index, state.done, state.live)
                if while_ <= most and live <= state.live:
                    state, again = self.then(state, index)[1], True
                    break
        return state

    def search(self) -> int | None:
        """The least peak of all orders; None where there are too many to look at."""
        first = self.settled(self.begin(), self.at_first)
        waiting = [(self.at_first, -first.done.bit_count(), 0, first)]
        best, pushed = {first.done: self.at_first}, 0
        for _ in range(MOST_STATES):
            if not waiting:
                return None
            most, _, _, state = heapq.heappop(waiting)
            if state.done == self.everything:
                return most
            if best[state.done] < most:
                continue
            for index in state.ready:
                while_, after = self.then(state, index)
                now = max(most, while_)
                after = self.settled(after, now)
                if now < best.get(after.done, now + 1):
                    best[after.done], pushed = now, pushed + 1
                    heapq.heappush(waiting, (now, -after.done.bit_count(), pushed, after))
            if pushed > 4 * MOST_STATES:
                return None
        return None

    def greedy(self) -> int:
        """The peak where each time that operator runs that needs least, or leaves least behind."""
        state, most = self.begin(), self.at_first
        while state.ready:
            choices = ((*self.execute(index, state.done, state.live), index) for index in state.ready)
            while_, _, index = min(choices, key=lambda each: (max(most, each[0]), each[1], each[2]))
            most = max(most, while_)
            state = self.then(state, index)[1]
        return most


@dataclass(frozen=True, kw_only=True, slots=True)
class _State:
    """What has run, the bytes that are live behind it, and what can run next."""

    done: int
    live: int
    ready: tuple[int, ...]
