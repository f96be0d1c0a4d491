"""All rules on one file: what was found, and what the recipe accepts with a reason."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

from builder.analysis.neural_engine.table import RULES
from builder.artifacts import LintFinding
from builder.errors import SourceError

_EXAMPLES = 5
_ORDER = ("measured", "high", "medium", "low")


def lint(path: Path) -> tuple[LintFinding, ...]:
    """Return what probably keeps the model at `path` off the Neural Engine, the surest first.

    On a Mac the compute plan comes first. Raises SourceError where the file cannot be read.
    """
    from builder.analysis.neural_engine.read import read_model
    from builder.backends import backend_of_file
    from builder.backends.coreml.compute_plan import planned
    from coreml_runtime.errors import RuntimeFailure

    known = backend_of_file(path).lint(path)
    if known is not None:
        return accepted(known, {})
    try:
        model = read_model(path)
    except RuntimeFailure as error:
        raise SourceError(f"the model cannot be read: {error}", code="B0302") from error
    found = [*planned(path)]
    for name, rule in RULES.items():
        hits = list(rule.find(model))
        if hits:
            found.append(
                LintFinding(
                    rule=name,
                    confidence=rule.confidence,
                    count=len(hits),
                    examples=tuple(f"{hit.name} {hit.said}" for hit in hits[:_EXAMPLES]),
                    advice=rule.advice,
                    sources=rule.sources,
                )
            )
    return accepted(found, {})


def accepted(findings: Iterable[LintFinding], ignore: Mapping[str, str]) -> tuple[LintFinding, ...]:
    """Mark what a recipe accepts, with its reason by rule; those findings stay, behind the others."""
    marked = [replace(finding, ignored=ignore.get(finding.rule)) for finding in findings]
    return tuple(sorted(marked, key=lambda finding: (finding.ignored is not None, _ORDER.index(finding.confidence))))


def format_findings(findings: tuple[LintFinding, ...]) -> list[str]:
    """Lines for people."""
    lines = []
    for finding in findings:
        times = f", {finding.count} times" if finding.count > 1 else ""
        lines.append(f"{finding.rule} ({finding.confidence}{times}): {finding.examples[0]}")
        if finding.ignored is not None:
            lines.append(f"    accepted: {finding.ignored}")
            continue
        lines += [f"    also {example}" for example in finding.examples[1:]]
        lines.append(f"    -> {finding.advice}")
        lines += [f"    source: {source}" for source in finding.sources]
    return lines or ["nothing is known that would keep this model off the Neural Engine"]
