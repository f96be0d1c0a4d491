"""What a diagnosis consists of: obstacles with their places, remedies, and what each method of capture met."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from builder.backends.coreml.preflight.operators import Operator, Place

Severity = Literal["stops", "distorts", "note"]
"""Whether the conversion fails, gives a wrong artifact, or works but is worth a look."""
ORDER: tuple[Severity, ...] = ("stops", "distorts", "note")


@dataclass(frozen=True, kw_only=True)
class Site:
    """Where an obstacle is in the user's model and code."""

    module: str
    """As `named_modules` of the user's model gives it; empty for the model itself."""
    place: Place | None


@dataclass(frozen=True, kw_only=True)
class Remedy:
    """What to do about an obstacle."""

    kind: Literal["lowering", "substitution", "method", "target", "rewrite", "none"]
    summary: str
    """A line for people; of `none` the reason."""
    paste: str | None = None
    """YAML that goes into the recipe; it was tried, and the obstacle was gone."""


@dataclass(frozen=True, kw_only=True)
class Obstacle:
    """One thing that stands in the way, everywhere it does."""

    rule: str
    """`operator`, `refused`, `rank`, `dtype`, `in_place`, `values`, `capture` or `bug`."""
    what: str
    severity: Severity
    operator: str | None = None
    sites: tuple[Site, ...] = ()
    """Each once, in the order of the graph."""
    count: int = 1
    remedy: Remedy | None = None

    @property
    def in_the_way(self) -> bool:
        """Whether a build would fail or miss a check."""
        return self.severity != "note"


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """What capture by one method met."""

    method: str
    obstacles: tuple[Obstacle, ...]
    ours: tuple[Obstacle, ...] = ()
    """Operators that coremltools lacks or gets wrong, and that a lowering of ours converts: no obstacles."""
    complete: bool = True
    """False where nothing is known of what comes behind an obstacle."""

    @property
    def in_the_way(self) -> tuple[Obstacle, ...]:
        """The obstacles that a build would not get over."""
        return tuple(obstacle for obstacle in self.obstacles if obstacle.in_the_way)


@dataclass(frozen=True, kw_only=True)
class Diagnosis:
    """All that was found for one recipe."""

    attempts: tuple[Attempt, ...]
    """By method, in the order in which a build tries them, up to the first that works."""

    @property
    def best(self) -> Attempt:
        """The attempt that a build takes, or the one with the fewest obstacles."""
        return min(
            self.attempts, key=lambda attempt: (bool(attempt.in_the_way), not attempt.complete, len(attempt.in_the_way))
        )


def gather(
    rule: str, found: Iterable[tuple[Operator, str]], severity: Severity, *, by: Sequence[str] = ()
) -> list[Obstacle]:
    """One obstacle for each text and operator, with all its sites; `by` is the order of texts, if there is one."""
    grouped: dict[tuple[str, str], list[Operator]] = {}
    for operator, what in found:
        grouped.setdefault((what, operator.name), []).append(operator)
    obstacles = [
        Obstacle(
            rule=rule,
            what=what,
            severity=severity,
            operator=name,
            sites=tuple(dict.fromkeys(Site(module=o.module, place=o.place) for o in operators)),
            count=len(operators),
        )
        for (what, name), operators in grouped.items()
    ]
    return sorted(obstacles, key=lambda o: by.index(o.what)) if by else obstacles


def most_important_first(obstacles: Iterable[Obstacle]) -> tuple[Obstacle, ...]:
    """By severity, then by how often."""
    return tuple(sorted(obstacles, key=lambda o: (ORDER.index(o.severity), -o.count)))


def with_remedy(obstacle: Obstacle, remedy: Remedy) -> Obstacle:
    """The same obstacle with what to do about it."""
    return replace(obstacle, remedy=remedy)
