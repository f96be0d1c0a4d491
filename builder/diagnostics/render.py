"""How diagnostics are shown: place, severity and code, message, the line with carets, what is allowed, what helps."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Sequence

from builder.errors import BuilderError, ConfigurationError, Diagnostic, SourceSpan
from builder.util.text import visible

_EXCERPT, _LEAST_EXCERPT, _GUTTER = 160, 24, 8
"""Columns of an excerpt at most and at least, and in front of it: the carets must stand below what they mark."""
MOST_SHOWN = 24
"""Of longer lists of allowed names only the nearest are shown."""


class DiagnosticsError(ConfigurationError):
    """Everything that is wrong with a recipe and a command line; the message is all of it, rendered."""

    def __init__(self, diagnostics: Iterable[Diagnostic]) -> None:
        found = _in_order(diagnostics)
        super().__init__("\n\n".join(render(diagnostic) for diagnostic in found), code=found[0].code)
        self._diagnostics = found

    @property
    def diagnostics(self) -> tuple[Diagnostic, ...]:
        """By file and line."""
        return self._diagnostics


def render_error(error: BuilderError) -> str:
    """Return everything that an error has to say, as it is printed."""
    return "\n\n".join(render(diagnostic) for diagnostic in error.diagnostics)


def _in_order(diagnostics: Iterable[Diagnostic]) -> tuple[Diagnostic, ...]:
    def place(diagnostic: Diagnostic) -> tuple[bool, str, int, int]:
        span = diagnostic.span
        return (False, str(span.file or ""), span.line, span.column) if span else (True, "", 0, 0)

    found = list(diagnostics)
    return tuple(sorted((d for i, d in enumerate(found) if d not in found[:i]), key=place))


def render(diagnostic: Diagnostic) -> str:
    """Return one diagnostic as it is printed."""
    span, nearest = diagnostic.span, diagnostic.nearest
    place = f"{span}: " if span else ""
    key = f"{diagnostic.key}: " if diagnostic.key else ""
    lines = [f"{place}{diagnostic.severity}[{diagnostic.code}]: {key}{diagnostic.message}"]
    if span and span.text.strip():
        lines += _excerpt(span)
    if diagnostic.allowed:
        lines.append(f"  allowed: {', '.join(_shortened(diagnostic.allowed, nearest))}")
    if nearest:
        lines.append(f"  did you mean `{nearest}`?")
    if diagnostic.hint:
        lines.append(f"  hint: {diagnostic.hint}")
    return "\n".join(lines)


def _excerpt(span: SourceSpan) -> list[str]:
    number = f"{span.line:5}" if span.file else " " * 5
    text = span.text.replace("\t", " ")
    columns = shutil.get_terminal_size((_EXCERPT + _GUTTER, 0)).columns
    start, width = span.column - 1, min(_EXCERPT, max(_LEAST_EXCERPT, columns - _GUTTER))
    cut = max(0, start - width // 2) if len(text) > width else 0
    before, marked = text[cut:start], text[start : min(start + span.length, cut + width)]
    after = text[start + len(marked) : cut + width]
    line = "".join(visible(part) for part in (before, marked, after))
    return [f"{number} | {line}", f"{' ' * 5} | {' ' * len(visible(before))}{'^' * max(1, len(visible(marked)))}"]


def _shortened(names: Sequence[str], nearest: str | None) -> Sequence[str]:
    if len(names) <= 2 * MOST_SHOWN:
        return names
    first = [nearest] if nearest else []
    return [*first, *[name for name in names if name != nearest][:MOST_SHOWN], f"… ({len(names)} in all)"]
