"""Findings as lines for people: the worst suspect first, each with what to change."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from builder.analysis.headroom.screen import format_headroom
from builder.analysis.numerics.findings import Findings, Range, Suspect, decibels
from builder.analysis.numerics.operators import Comparison, Measured

_SHOWN = 5
"""How many are shown of each list where not all are asked for."""


def format_report(findings: Findings, *, everything: bool = False) -> list[str]:
    """The lines of a look at an artifact; one screen unless `everything` is asked for."""
    guilty = [suspect for suspect in findings.suspects if suspect.noise > 0]
    lines = [_headline(findings)]
    shown = guilty if everything else guilty[:_SHOWN]
    for number, suspect in enumerate(shown, start=1):
        lines += ["", *_suspect(suspect, f"{number}. ")]
    if len(shown) < len(guilty):
        lines += ["", f"and {len(guilty) - len(shown)} more that add less: -v shows all"]
    if findings.unfit:
        lines += ["", "values that half precision cannot hold, in float32:"]
        some = findings.unfit if everything else findings.unfit[:_SHOWN]
        lines += [f"  {_operator(suspect)}: {_range(suspect.range)}" for suspect in some if suspect.range]
        if len(some) < len(findings.unfit):
            lines.append(f"  and {len(findings.unfit) - len(some)} more: -v shows all")
    if findings.unmatched:
        count = len(findings.unmatched)
        lines += ["", f"{count} values have no counterpart in float32; their error counts for the next one that has"]
        lines += [f"  {name}" for name in findings.unmatched] if everything else []
    return [*lines, *_headroom(findings, everything=everything)]


def _headroom(findings: Findings, *, everything: bool) -> Iterator[str]:
    """Where numbers can go wrong, on these samples or on others."""
    if findings.headroom is None:
        return
    yield ""
    yield from format_headroom(findings.headroom, shown=_SHOWN if not everything else len(findings.headroom.operators))
    for finding in findings.headroom.findings:
        yield f"{finding.rule} ({finding.confidence}): {finding.examples[0]}"
        yield from (f"    also {example}" for example in finding.examples[1:])
        yield f"    -> {finding.advice}"


def worst_operators(compared: Comparison) -> list[Measured]:
    """The operators whose errors at the outputs were measured, the worst first, each once."""
    noisy = sorted((each for each in compared.measured if each.noise), key=lambda each: -(each.noise or 0.0))
    found: dict[str, Measured] = {}
    for each in noisy:
        found.setdefault(each.name, each)  # of a value and its casts, the worst
    return list(found.values())


def ranked_line(compared: Comparison, modules: Mapping[str, str], outputs: Sequence[str]) -> str:
    """What adds most of the error, on the samples that were compared."""
    at = f" at {', '.join(outputs)}, on samples that missed a limit," if outputs else ""
    worst = next(iter(worst_operators(compared)), None)
    if worst is None:
        return f"no operator by itself adds an error that was measured{at.rstrip(',')}"
    module = modules.get(worst.name, modules.get(worst.given_name))
    of = f" of module {module}" if module else ""
    operator = compared.operators.get(worst.name, worst.operator)
    left = _snr(worst.noise or 0)
    return f"most of the error comes from {operator} {worst.name}{of}: what it alone leaves{at} is {left}"


def _headline(findings: Findings) -> str:
    if findings.worst is None:
        message = "nothing adds an error"
    else:
        message = f"against the same program in float32, uncompressed, the SNR is {_snr(findings.noise)}"
    return f"{message} ({findings.compared} values compared on {findings.samples} samples, by the runtime)"


def _suspect(suspect: Suspect, bullet: str) -> Iterator[str]:
    indent = " " * len(bullet)
    yield f"{bullet}{_what(suspect)}"
    own = "" if suspect.own_noise is None else f"; at its own output {_snr(suspect.own_noise)}"
    yield f"{indent}  what it alone leaves at the model's outputs: {_snr(suspect.noise)}{own}"
    if suspect.range is not None and suspect.range.is_unfit:
        yield f"{indent}  {_range(suspect.range)}"
    if suspect.remedy is not None:
        first, *rest = suspect.remedy.splitlines()
        yield f"{indent}to try: {first}"
        yield from (f"{indent}        {line}" for line in rest)


def _what(suspect: Suspect) -> str:
    if suspect.kind == "substitution":
        replaced = ", ".join(suspect.modules) or "the whole model"
        return f"substitution {suspect.name} (of {replaced})"
    if suspect.kind == "conversion":
        return f"capture by {suspect.name} and conversion, before precision and compression"
    return _operator(suspect)


def _operator(suspect: Suspect) -> str:
    module = f" of module {suspect.modules[0]}" if suspect.modules else ""
    return f"{suspect.operator} {suspect.name}{module}"


def _range(found: Range | None) -> str:
    assert found is not None
    facts = [f"at most {found.largest:.3g}"]
    if found.overflow:
        facts.append(f"{found.overflow:.2%} beyond 65504, which become infinite")
    if found.denormal:
        facts.append(f"{found.denormal:.2%} below 6.1e-5, which lose bits")
    if found.vanishing:
        facts.append(f"{found.vanishing:.2%} become zero")
    return "; ".join(facts)


def _snr(noise: float) -> str:
    value = decibels(noise)
    return "nothing (no finite numbers)" if value == float("-inf") else f"{value:.1f} dB"
