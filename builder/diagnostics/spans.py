"""Places in the arguments of a command line."""

from __future__ import annotations

from builder.errors import SourceSpan


def command_line_span(argument: str, part: str | None = None, *, first: bool = False) -> SourceSpan:
    """Return the place of `part` (all unless given), its last or its `first`, in one argument of the command line."""
    start = (argument.find(part) if first else argument.rfind(part)) if part else -1
    column, length = (start + 1, len(part or "")) if start >= 0 else (1, len(argument))
    return SourceSpan(file=None, line=1, column=column, length=length, text=argument.replace("\n", " "))
