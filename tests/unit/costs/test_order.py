"""The least memory of any order, against all orders of small graphs."""

from __future__ import annotations

import itertools
import random

from builder.analysis.costs.graph import Graph, Step
from builder.analysis.costs.order import peak


def step(name: str, *reads: str, view: bool = False) -> Step:
    return Step(name=name, kind="x", reads=reads, writes=(name,), macs=0, is_view=view)


def by_all_orders(graph: Graph) -> int:
    """The least of all orders, computed from what is live at each moment."""
    best = None
    for order in itertools.permutations(graph.steps):
        there, fits = set(graph.inputs), True
        for each in order:
            fits = fits and set(each.reads) <= there
            there |= set(each.writes)
        if not fits:
            continue
        last = {name: place for place, each in enumerate(order) for name in (*each.reads, *each.writes)}
        live = set(graph.inputs)
        most = sum(graph.bytes[name] for name in live)
        for place, each in enumerate(order):
            live |= set(each.writes)
            most = max(most, sum(graph.bytes[name] for name in live))
            live = {name for name in live if last.get(name, -1) > place or name in graph.outputs}
            live |= {name for name in graph.inputs if last.get(name, -1) > place}
        best = most if best is None else min(best, most)
    assert best is not None
    return best


def test_random_graphs_need_what_their_best_order_needs() -> None:
    chance = random.Random(0)
    better = 0
    for _ in range(60):
        names = ["a", "b"]
        steps = []
        for number in range(6):
            reads = chance.sample(names, min(len(names), chance.randint(1, 2)))
            names.append(f"v{number}")
            steps.append(step(f"v{number}", *reads))
        used = {name for each in steps for name in each.reads}
        inputs = tuple(name for name in ("a", "b") if name in used)
        graph = Graph(
            steps=tuple(steps),
            bytes={name: chance.randint(1, 9) for name in names},
            inputs=inputs,
            outputs=(names[-1],),
        )
        found = peak(graph)
        assert (found.least, found.proven) == (by_all_orders(graph), True)
        better += found.least < found.in_file_order
    assert better > 5


def test_a_view_takes_no_memory_and_holds_what_it_shows() -> None:
    # given a large value that is reshaped, and read again after the reshaped one
    steps = (step("big", "x"), step("flat", "big", view=True), step("small", "flat"), step("end", "small", "big"))
    graph = Graph(
        steps=steps, bytes={"x": 1, "big": 100, "flat": 100, "small": 1, "end": 1}, inputs=("x",), outputs=("end",)
    )
    # then it is there once
    assert peak(graph).least == 102


def test_a_long_chain_of_wide_blocks_is_answered_soon() -> None:
    # given 400 blocks of 6 ways each, which a plain search would not finish
    steps = []
    for block in range(400):
        start = f"j{block - 1}" if block else "x"
        ways = [f"w{block}_{way}" for way in range(6)]
        steps += [step(way, start) for way in ways]
        steps.append(step(f"j{block}", *ways))
    sizes = {name: 1 for each in steps for name in each.writes} | {"x": 1}
    found = peak(Graph(steps=tuple(steps), bytes=sizes, inputs=("x",), outputs=("j399",)))
    assert (found.least, found.proven) == (7, True)
