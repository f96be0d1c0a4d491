"""What a search may say (an option of `conf/search/`, and `search.…=` on the command line); no build ever sees it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from builder.spec.base import Part, PositiveInt, Seed

Scalar = str | int | float | bool | None
SamplerName = Literal["tpe", "nsga2", "random", "grid"]


class _Entry(Part):
    """What every entry of the space says."""

    setting: Annotated[str, Field(pattern=r"^[A-Za-z_]\w*(\.\w+)*$")]
    """A group of the recipe (`compression`) or a dotted setting (`compression.prune.target_sparsity`)."""
    when: dict[str, list[Scalar]] = Field(default_factory=dict)
    """Values that entries above must have: in other trials this setting is left alone."""


class ChoiceEntry(_Entry):
    """One of several values, or options of a group; a list chooses several options at once."""

    kind: Literal["choice"]
    choices: Annotated[list[Scalar | list[str]], Field(min_length=1)]


class IntegerEntry(_Entry):
    """An integer from `min` to `max`, both included."""

    kind: Literal["integer"]
    min: int
    max: int
    step: PositiveInt = 1
    log: bool = False
    """Whether small numbers are as far apart as large ones in proportion, not in difference."""

    @model_validator(mode="after")
    def _is_a_range(self) -> Self:
        _check_range(self.min, self.max, log=self.log, stepped=self.step != 1)
        return self


class FloatEntry(_Entry):
    """A number from `min` to `max`, both included."""

    kind: Literal["float"]
    min: float
    max: float
    step: Annotated[float, Field(gt=0)] | None = None
    log: bool = False
    """Whether small numbers are as far apart as large ones in proportion, not in difference."""

    @model_validator(mode="after")
    def _is_a_range(self) -> Self:
        _check_range(self.min, self.max, log=self.log, stepped=self.step is not None)
        return self


def _check_range(low: float, high: float, *, log: bool, stepped: bool) -> None:
    if low > high:
        raise ValueError(f"its min {low:g} is above its max {high:g}")
    if log and low <= 0:
        raise ValueError(f"with log its min must be above 0, and it is {low:g}")
    if log and stepped:
        raise ValueError("log and step do not go together: steps are of equal size")


Entry = Annotated[ChoiceEntry | IntegerEntry | FloatEntry, Field(discriminator="kind")]


class Objective(Part):
    """A measured value that the search makes small or large."""

    measure: str
    """What is measured, such as `artifact.bytes` or `checks.parity.snr_db`."""
    goal: Literal["minimize", "maximize"]


class Constraint(Part):
    """Bounds within which a measured value makes a trial count; at least one is given."""

    measure: str
    min: float | None = None
    max: float | None = None

    @model_validator(mode="after")
    def _bounds(self) -> Self:
        if self.min is None and self.max is None:
            raise ValueError("must have a min or a max")
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ValueError(f"its min {self.min:g} is above its max {self.max:g}")
        return self

    def excess(self, value: float) -> float:
        """By how much `value` is out of bounds; 0 or less inside, infinite for NaN."""
        if math.isnan(value):
            return math.inf
        below = -math.inf if self.min is None else self.min - value
        above = -math.inf if self.max is None else value - self.max
        return max(below, above)


def _named(field: str) -> BeforeValidator:
    """Let an entry leave out `field` where its name says it already."""

    def fill(entries: object) -> Any:
        if not isinstance(entries, Mapping):
            return entries
        return {n: {field: n, **e} if isinstance(e, Mapping) else e for n, e in entries.items()}

    return BeforeValidator(fill)


class Search(Part):
    """Which settings are tried, what makes one better than another, and for how long."""

    space: Annotated[dict[str, Entry], Field(min_length=1), _named("setting")]
    """The settings that vary, by names of your own; `setting` may be left out where the name is the setting."""
    objectives: Annotated[dict[str, Objective], Field(min_length=1), _named("measure")]
    """What is better, by names of your own; `measure` may be left out where the name is the measure."""
    constraints: Annotated[dict[str, Constraint], _named("measure")] = Field(default_factory=dict)
    """What a trial must keep to, by names of your own, beside the limits of the recipe's own checks."""
    trials: PositiveInt = 20
    """How many trials the study has in the end, those that failed included."""
    sampler: SamplerName = "tpe"
    """How the next settings are chosen: `tpe` and `nsga2` learn from earlier trials, `random` draws, `grid` takes all
    combinations in their order."""
    seed: Seed = 0
    jobs: PositiveInt = 1
    """How many trials run at a time; with one, the same seed gives the same trials."""
    prune: bool = True
    """Whether a trial is stopped when nothing that it can still measure would bring it to the front."""
    winner: str = "balanced"
    """Which trial of the front becomes a recipe: `balanced` is nearest to the best in all objectives, the name of an
    objective takes the best in that one."""
    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._=,-]*$")] | None = None
    """The name of the study; that of the option unless given."""

    @model_validator(mode="after")
    def _refers_to_what_exists(self) -> Self:
        names = ["balanced", *self.objectives]
        if self.winner not in names:
            raise ValueError(f"its winner must be one of {', '.join(names)}, and this is {self.winner!r}")
        return self


class Root(Part):
    """A search as it stands below its key, so that places of mistakes begin with `search`."""

    search: Search
