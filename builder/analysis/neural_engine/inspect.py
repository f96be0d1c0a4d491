"""All rules on one file: what was found, and what the recipe accepts with a reason."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from builder.analysis.costs.screen import percent
from builder.analysis.neural_engine.model import Hit
from builder.analysis.neural_engine.table import RULES
from builder.artifacts.costs import Costs
from builder.artifacts.findings import LintFinding
from builder.errors import SourceError

_EXAMPLES = 5
_ORDER = ("measured", "high", "medium", "low")


@dataclass(frozen=True, kw_only=True)
class Examined:
    """What a file says by itself."""

    findings: tuple[LintFinding, ...]
    """The surest first."""
    costs: tuple[Costs, ...]


def examine(path: Path) -> Examined:
    """Return what probably keeps the model at `path` off the Neural Engine, and what its operators cost.

    On a Mac the compute plan comes first. Raises SourceError where the file cannot be read.
    """
    from builder.analysis.costs.analyse import analyse_costs
    from builder.backends import backend_of_file
    from builder.backends.coreml.compute_plan import planned
    from coreml_runtime.errors import RuntimeFailure

    known = backend_of_file(path).lint(path)
    try:
        if known is not None:
            return Examined(findings=accepted(known, {}), costs=analyse_costs(path))
        hits = _hits(path)
        named = {hit.name for found in hits.values() for hit in found}
        costs = analyse_costs(path, named)
    except RuntimeFailure as error:
        raise SourceError(f"the model cannot be read: {error}", code="B0302") from error
    found = [*planned(path), *(_finding(name, each, costs) for name, each in hits.items())]
    return Examined(findings=accepted(found, {}), costs=costs)


def lint(path: Path) -> tuple[LintFinding, ...]:
    """The findings alone. Raises as `examine`."""
    return examine(path).findings


def _hits(path: Path) -> dict[str, list[Hit]]:
    """What each rule finds, without those that find nothing."""
    from builder.analysis.neural_engine.read import read_model

    model = read_model(path)
    hits = {name: list(rule.find(model)) for name, rule in RULES.items()}
    return {name: found for name, found in hits.items() if found}


def _finding(name: str, hits: Sequence[Hit], costs: Sequence[Costs]) -> LintFinding:
    rule = RULES[name]
    return LintFinding(
        rule=name,
        confidence=rule.confidence,
        count=len(hits),
        examples=tuple(f"{hit.name} {hit.summary}" for hit in hits[:_EXAMPLES]),
        advice=rule.advice,
        sources=rule.sources,
        share=_share({hit.name for hit in hits}, costs),
    )


def _share(names: Collection[str], costs: Sequence[Costs]) -> float | None:
    """The share of all multiply-accumulates in operators of these names; None where no name is an operator's."""
    operators = [each for function in costs for each in function.operators]
    total = sum(each.total for each in operators)
    if not total or not any(each.name in names for each in operators):
        return None
    return sum(each.total for each in operators if each.name in names) / total


def accepted(findings: Iterable[LintFinding], ignore: Mapping[str, str]) -> tuple[LintFinding, ...]:
    """Mark what a recipe accepts, with its reason by rule; those findings stay, behind the others."""
    marked = [replace(finding, ignored=ignore.get(finding.rule)) for finding in findings]
    return tuple(sorted(marked, key=lambda finding: (finding.ignored is not None, _ORDER.index(finding.confidence))))


def format_findings(findings: tuple[LintFinding, ...]) -> list[str]:
    """Lines for people."""
    lines = []
    for finding in findings:
        times = f", {finding.count} times" if finding.count > 1 else ""
        times += "" if finding.share is None else f", {percent(finding.share)} of the MACs"
        lines.append(f"{finding.rule} ({finding.confidence}{times}): {finding.examples[0]}")
        if finding.ignored is not None:
            lines.append(f"    accepted: {finding.ignored}")
            continue
        lines += [f"    also {example}" for example in finding.examples[1:]]
        lines.append(f"    -> {finding.advice}")
        lines += [f"    source: {source}" for source in finding.sources]
    return lines or ["nothing is known that would keep this model off the Neural Engine"]
