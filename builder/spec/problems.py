"""A setting that cannot work, and the problem that all versions share: what a target does not have yet."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from builder.spec.target import Target, same_system_name

Path = tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Problem:
    """Something wrong with one setting: `path` leads to it from the root of the BuildSpec."""

    path: Path
    message: str
    hint: str | None = None


def needs(target: Target, path: Path, what: str, generation: int) -> Iterator[Problem]:
    """Yield a problem when `what` came with a later generation than the target's."""
    if target.generation < generation:
        least = same_system_name(target, generation)
        yield Problem(
            path=path,
            message=f"{what} needs {least} or later, and the target is {target.name}",
            hint=f"write `target: {least}` in the defaults list, or `target={least}` on the command line",
        )
