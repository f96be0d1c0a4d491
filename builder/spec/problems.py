"""The diagnostic that all rules share: what a target does not have yet."""

from __future__ import annotations

from collections.abc import Iterator

from builder.errors import Diagnostic
from builder.spec.target import Target, same_system_name

Path = tuple[str, ...]


def needs(target: Target, path: Path, what: str, generation: int) -> Iterator[Diagnostic]:
    """Yield a problem when `what` came with a later generation than the target's."""
    if target.generation < generation:
        least = same_system_name(target, generation)
        yield Diagnostic(
            code="B0241",
            path=path,
            message=f"{what} needs {least} or later, and the target is {target.name}",
            hint=f"write `target: {least}` in the defaults list, or `target={least}` on the command line",
        )
