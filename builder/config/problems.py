"""Problems with a recipe or command line: where they are, what is allowed instead, and how they are shown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from builder.errors import ConfigurationError, SourceSpan
from builder.util.text import visible

MOST_SHOWN = 24
"""Of longer lists of allowed names only the nearest are shown."""


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing that is wrong."""

    message: str
    key: str = ""
    """The dotted key that it is about."""
    spot: SourceSpan | None = None
    allowed: Sequence[str] = ()
    nearest: str | None = None
    hint: str | None = None


class FindingsError(ConfigurationError):
    """Everything that is wrong with a recipe and a command line, ready to be printed."""

    def __init__(self, findings: Iterable[Finding]) -> None:
        self.findings = _in_order(findings)
        super().__init__("\n\n".join(render(finding) for finding in self.findings))


def _in_order(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    def place(finding: Finding) -> tuple[bool, str, int, int]:
        spot = finding.spot
        return (False, str(spot.file or ""), spot.line, spot.column) if spot else (True, "", 0, 0)

    found = list(findings)
    return tuple(sorted((f for i, f in enumerate(found) if f not in found[:i]), key=place))


def render(finding: Finding) -> str:
    """Return a finding as it is printed: place, message, the line with carets, what is allowed, what helps."""
    place = f"{finding.spot}: " if finding.spot else ""
    key = f"{finding.key}: " if finding.key else ""
    lines = [f"{place}error: {key}{finding.message}"]
    if finding.spot and finding.spot.text.strip():
        lines += _excerpt(finding.spot)
    if finding.allowed:
        lines.append(f"  allowed: {', '.join(_shortened(finding.allowed, finding.nearest))}")
    if finding.nearest:
        lines.append(f"  did you mean `{finding.nearest}`?")
    if finding.hint:
        lines.append(f"  hint: {finding.hint}")
    return "\n".join(lines)


def _excerpt(spot: SourceSpan) -> list[str]:
    number = f"{spot.line:5}" if spot.file else " " * 5
    text = spot.text.replace("\t", " ")
    start, width = spot.column - 1, 160
    cut = max(0, start - width // 2) if len(text) > width else 0
    before, marked = text[cut:start], text[start : min(start + spot.length, cut + width)]
    after = text[start + len(marked) : cut + width]
    line = "".join(visible(part) for part in (before, marked, after))
    return [f"{number} | {line}", f"{' ' * 5} | {' ' * len(visible(before))}{'^' * max(1, len(visible(marked)))}"]


def _shortened(names: Sequence[str], nearest: str | None) -> Sequence[str]:
    if len(names) <= 2 * MOST_SHOWN:
        return names
    first = [nearest] if nearest else []
    return [*first, *[name for name in names if name != nearest][:MOST_SHOWN], f"… ({len(names)} in all)"]


def command_line_spot(argument: str, part: str | None = None, *, first: bool = False) -> SourceSpan:
    """Return the place of `part` (all unless given), its last or its `first`, in one argument of the command line."""
    start = (argument.find(part) if first else argument.rfind(part)) if part else -1
    column, length = (start + 1, len(part or "")) if start >= 0 else (1, len(argument))
    return SourceSpan(file=None, line=1, column=column, length=length, text=argument.replace("\n", " "))
