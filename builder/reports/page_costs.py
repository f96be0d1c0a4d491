"""Costs on the page: what the artifact computes and moves, by module and by operator."""

from __future__ import annotations

from collections.abc import Iterator

from builder.analysis.costs.screen import amount, by_module, facts, heaviest, notes, percent
from builder.artifacts.costs import Costs, OperatorCost
from builder.artifacts.record import BuildRecord
from builder.reports import markup
from builder.reports.markup import Content, Markup, bars, code, details, element, join, section, table
from builder.reports.plain import size

_SHOWN = 8
_HEAD = ("operator", "MACs", "share", "weights", "read", "written", "operations a byte")


def costs(record: BuildRecord) -> Markup | None:
    """What there is to say of each function: totals, a plot by module, the heaviest operators and all of them."""
    parts = [part for each in record.costs for part in _function(each)]
    return section("Costs", *parts) if parts else None


def _function(found: Costs) -> Iterator[Markup]:
    if found.function:
        yield element("h3", found.function)
    if found.not_counted:
        yield _quiet(f"Not counted: {found.not_counted}.")
        return
    yield markup.facts(facts(found))
    for note in notes(found):
        yield _quiet(note)
    if found.macs:
        modules = [(name, float(total), _share(total, found)) for name, total in by_module(found)]
        title = "By module" if any(each.module for each in found.operators) else "By type of operator"
        yield element("h3", f"{title}, in multiply-accumulates")
        yield bars(modules, label="multiply-accumulates by module")
        yield table(_HEAD, [_row(each, found) for each in heaviest(found.operators, _SHOWN)])
    every = [_row(each, found) for each in found.operators]
    yield details(f"all {len(every)} operators, in the order of the program", table(_HEAD, every))
    yield _quiet(
        "Counted from the program, nothing was executed: multiply-accumulates of convolutions, matrix products, "
        "attention and recurrent cells; bytes as each operator reads and writes them once. It says nothing of time."
    )


def _share(total: int, found: Costs) -> str:
    return percent(total / found.macs)


def _row(each: OperatorCost, found: Costs) -> tuple[Content, ...]:
    times = f" {each.times} times" if each.times > 1 else ""
    name: list[Content] = [code(each.name), f" {each.operator}{times}"]
    if each.module:
        name.append(element("span", f"in {each.module}", class_="meaning"))
    weights = size(each.weights_stored) if each.weights_stored else ""
    if each.weights_stored != each.weights_computed:
        weights += f" ({size(each.weights_computed)} dense)"
    return (
        join(*name),
        _number("not known" if each.macs is None else amount(each.total) if each.total else ""),
        _number(_share(each.total, found) if each.total else ""),
        _number(weights),
        _number(size(each.read) if each.read else ""),
        _number(size(each.written) if each.written else ""),
        _number(f"{each.intensity:.1f}" if each.intensity else ""),
    )


def _number(text: str) -> Markup:
    return element("span", text, class_="number")


def _quiet(text: str) -> Markup:
    return element("p", text, class_="quiet")
