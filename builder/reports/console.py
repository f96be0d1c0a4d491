"""The terminal behind all that is printed with styles: what recipes, files and models say stays text."""

from __future__ import annotations

from collections.abc import Iterable

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

from builder.util.text import visible


class TextConsole(Console):
    """A rich console whose texts have no control characters of their own; those of rich itself work."""

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Render as rich does, with every text made visible."""
        for segment in super().render(renderable, options):
            if segment.control is not None:
                yield segment
            else:
                yield Segment(visible(segment.text), segment.style)
