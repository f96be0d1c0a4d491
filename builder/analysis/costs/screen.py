"""Costs in words, for the terminal and the report."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial

from builder.artifacts.costs import Costs, OperatorCost
from builder.util.text import size

_SHOWN = 8
_UNITS = (("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e3))


def amount(macs: int) -> str:
    """A number of multiply-accumulates as people say it: `300.8 M`."""
    for unit, factor in _UNITS:
        if macs >= factor:
            return f"{macs / factor:.1f} {unit}"
    return str(macs)


def percent(share: float) -> str:
    """A share, with one decimal; what is not all is never shown as all, nor what is something as nothing."""
    shown = round(100 * share, 1)
    if shown == 100 and share < 1:
        return "over 99.9 %"
    return "under 0.1 %" if shown == 0 and share > 0 else f"{shown:g} %"


def facts(costs: Costs) -> Iterator[tuple[str, str]]:
    """What there is to say of a whole function: names with values."""
    yield "Multiply-accumulates", amount(costs.macs) + (" at least" if costs.unknown or costs.open_loops else "")
    yield "Weights", f"{size(costs.weights_stored)} stored, {size(costs.weights_computed)} computed with"
    yield "Activations", f"{size(costs.activations)} written in one prediction"
    yield "Memory of activations", _memory(costs)
    if costs.states:
        yield "States", size(costs.states)
    if costs.intensity is not None:
        yield "Arithmetic intensity", f"{costs.intensity:.1f} operations a byte"
    if costs.clear_share is not None:
        yield "No known obstacle", f"{percent(costs.clear_share)} of the MACs are in operators with no known obstacle"


def _memory(costs: Costs) -> str:
    what = size(costs.peak)
    if costs.peak_is_least:
        what += ", which no order of operators needs less than"
    else:
        what += " at the best order found"
    if costs.peak_in_file_order != costs.peak:
        what += f" ({size(costs.peak_in_file_order)} in the order of the file)"
    return what


def notes(costs: Costs) -> Iterator[str]:
    """What the numbers do not hold."""
    if costs.sizes:
        yield f"Counted at the default sizes: {'; '.join(costs.sizes)}."
    if costs.unknown:
        names = ", ".join(each.name for each in costs.operators if each.macs is None)
        yield f"Not counted, since values decide their shapes or the app computes them: {names}."
    if costs.open_loops:
        many = costs.open_loops > 1
        yield f"{costs.open_loops} {'loops' if many else 'loop'} counted with one turn: the inputs decide how many."


def heaviest(operators: Sequence[OperatorCost], shown: int = _SHOWN) -> list[OperatorCost]:
    """The operators with most multiply-accumulates, the first of equals first."""
    return sorted((each for each in operators if each.total), key=lambda each: -each.total)[:shown]


def by_module(costs: Costs, most: int = 20) -> list[tuple[str, int]]:
    """Multiply-accumulates by module, in the order of the program, at the deepest level with `most` groups at most.

    Where no module is known, by type of operator.
    """
    counted = [each for each in costs.operators if each.total]
    deepest = max((each.module.count(".") + 1 for each in counted if each.module), default=0)
    if not deepest:
        return sorted(_totals(counted, _operator).items(), key=lambda each: -each[1])
    groups: dict[str, int] = {}
    for depth in range(1, deepest + 1):
        cut = _totals(counted, partial(_module, depth=depth))
        if groups and len(cut) > most:
            break
        groups = cut
    return list(groups.items())


def _totals(operators: Iterable[OperatorCost], group: Callable[[OperatorCost], str]) -> dict[str, int]:
    found: dict[str, int] = {}
    for each in operators:
        found[group(each)] = found.get(group(each), 0) + each.total
    return found


def _operator(each: OperatorCost) -> str:
    return each.operator


def _module(each: OperatorCost, depth: int) -> str:
    return ".".join(each.module.split(".")[:depth]) or "of no module"


def format_costs(costs: Costs) -> list[str]:
    """Lines for people."""
    title = f"Costs of {costs.function}" if costs.function else "Costs"
    if costs.not_counted:
        return [f"{title}: not counted: {costs.not_counted}"]
    lines = [f"{title}, from the program alone (nothing was executed)"]
    lines += [f"  {name}: {value}" for name, value in facts(costs)]
    lines += [f"  {note}" for note in notes(costs)]
    lines += [f"  {row}" for row in _rows(costs)]
    return lines


def _rows(costs: Costs) -> Iterator[str]:
    for each in heaviest(costs.operators):
        share = percent(each.total / costs.macs)
        of = f" of {each.module}" if each.module else ""
        at = f", {each.intensity:.1f} operations a byte" if each.intensity else ""
        yield f"{amount(each.total):>9} MACs ({share}): {each.name} ({each.operator}){of}{at}"
