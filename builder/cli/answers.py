"""What `--json` prints: one document a verb, whose keys stay; `docs/reference/json.md` is made of these classes.

A key may be added; one that changes its meaning or goes away raises `schema`. Answers and errors go to stdout, where
exactly one document stands, whatever the exit code is.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from builder.artifacts.costs import Costs
from builder.artifacts.findings import LintFinding
from builder.artifacts.headroom import Headroom, OperatorRange
from builder.config.meanings import DescribedSchema
from builder.errors import BuilderError, Diagnostic
from builder.reports.plain import plain
from builder.util.locations import shown
from builder.util.text import visible_json

SCHEMA: Literal[1] = 1


class Answer(BaseModel):
    """A frozen part of an answer."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Recipe(Answer):
    """A recipe that can be built."""

    name: str
    description: str
    """The first sentence of the comment that opens it."""
    file: str


class ListAnswer(Answer):
    """What `list --json` prints."""

    schema_: Literal[1] = Field(default=SCHEMA, alias="schema")
    verb: Literal["list"] = "list"
    recipes: tuple[Recipe, ...]
    """By name."""


class InputChange(Answer):
    """An input of a stage that differs from that of the nearest earlier result."""

    input: str
    old: Any
    new: Any


class PlannedStage(Answer):
    """A stage of a build."""

    name: str
    state: Literal["hit", "miss", "after"]
    """`hit`: the store has its result; `miss`: it would run; `after`: it runs if a stage before it gives something new.
    """
    result: str | None = None
    """Of a hit, the line that a build prints."""
    is_new: bool = False
    """Whether there is no earlier result at all to compare with."""
    changes: tuple[InputChange, ...] = ()


class PlanAnswer(Answer):
    """What `plan --json` prints."""

    schema_: Literal[1] = Field(default=SCHEMA, alias="schema")
    verb: Literal["plan"] = "plan"
    recipe: str
    variant: str
    state: Literal["up to date", "stored", "changed"]
    """`up to date`: a build would do nothing; `stored`: it would write the output again; `changed`: stages run."""
    artifact: str | None
    """The artifact that is up to date."""
    stages: tuple[PlannedStage, ...]
    """In the order in which they run."""


class ShowAnswer(Answer):
    """What `show --json` prints."""

    schema_: Literal[1] = Field(default=SCHEMA, alias="schema")
    verb: Literal["show"] = "show"
    recipe: str
    variant: str
    config: dict[str, Any]
    """The recipe as it is composed."""
    origins: dict[str, str]
    """By dotted key, where its value was written: `recipes/x.yaml:8:3`, or `command line`."""


class ObstaclePlace(Answer):
    """Where an obstacle is."""

    module: str
    """The path of the module in the user's model; empty for the model itself."""
    file: str | None
    line: int | None


class ObstacleAnswer(Answer):
    """One thing that a conversion meets."""

    rule: str
    what: str
    operator: str | None
    severity: Literal["stops", "distorts", "note"]
    """Whether the conversion fails, gives a wrong artifact, or works but is worth a look."""
    count: int
    places: tuple[ObstaclePlace, ...]
    remedy: str | None
    paste: str | None
    """YAML for the recipe that was tried, and helped."""


class RecipeDiagnosis(Answer):
    """What `doctor` finds in a recipe's model."""

    method: str
    """The method of capture that a build takes, or that has the fewest obstacles."""
    converts: bool
    obstacles: tuple[ObstacleAnswer, ...]


class InstallationFinding(Answer):
    """One thing of the installation that was looked at."""

    about: str
    text: str
    is_fit: bool
    """Whether builds can work with it."""
    is_notable: bool
    hint: str | None


class DoctorAnswer(Answer):
    """What `doctor --json` prints: of a recipe, or of the installation."""

    schema_: Literal[1] = Field(default=SCHEMA, alias="schema")
    verb: Literal["doctor"] = "doctor"
    is_fit: bool
    """Whether nothing is in the way."""
    recipe: RecipeDiagnosis | None = None
    installation: tuple[InstallationFinding, ...] | None = None


class LintAnswerFinding(Answer):
    """A warning of the lint."""

    rule: str
    """Its section in `docs/reference/lint.md`."""
    confidence: Literal["measured", "high", "medium", "low"]
    count: int
    examples: tuple[str, ...]
    advice: str
    sources: tuple[str, ...]
    accepted: str | None
    """The recipe's reason why this is accepted."""
    share: float | None
    """The share of the artifact's multiply-accumulates in these operators."""


class OperatorCostAnswer(Answer):
    """What an operator computes, and the bytes that it moves in one execution."""

    name: str
    operator: str
    module: str
    macs: int | None
    """Multiply-accumulates; null where they are not known."""
    times: int
    """How often it is executed."""
    weights_stored: int
    weights_computed: int
    read: int
    written: int
    intensity: float | None
    """Operations (two a multiply-accumulate) per byte."""


class CostsAnswer(Answer):
    """What a function of the artifact costs, counted from its program; sizes are in bytes."""

    function: str
    sizes: tuple[str, ...]
    """Of flexible inputs, what is counted with."""
    macs: int
    weights_stored: int
    weights_computed: int
    activations: int
    peak: int
    """The least memory of activations, at the best order of operators found."""
    peak_is_least: bool
    states: int
    intensity: float | None
    unknown: int
    """Operators that are not counted."""
    open_loops: int
    """Loops that are counted with one turn."""
    clear_share: float | None
    """The share of multiply-accumulates that no rule is about."""
    not_counted: str
    """Why nothing is known, where it is not."""
    operators: tuple[OperatorCostAnswer, ...]


class OperatorHeadroom(Answer):
    """The values of an operator, and by how many bits they are below the largest of half precision."""

    name: str
    operator: str
    module: str
    low: float | None
    high: float | None
    seen_low: float | None
    seen_high: float | None
    bits_seen: float | None
    is_proven: bool
    """Whether half precision holds all its values, for any input in the domain."""


class HeadroomAnswer(Answer):
    """What is known of the values of a function of the artifact."""

    function: str
    domain: tuple[str, ...]
    """What inputs are taken to be."""
    seen_on: str
    not_analysed: str
    """Why nothing is known, where it is not."""
    findings: tuple[LintAnswerFinding, ...]
    least: tuple[OperatorHeadroom, ...]
    """The operators in half precision with the least headroom, at most ten."""


class LintAnswer(Answer):
    """What `lint --json` prints."""

    schema_: Literal[1] = Field(default=SCHEMA, alias="schema")
    verb: Literal["lint"] = "lint"
    model: str
    findings: tuple[LintAnswerFinding, ...]
    """The surest first."""
    costs: tuple[CostsAnswer, ...]
    headroom: tuple[HeadroomAnswer, ...]


class VerifyAnswer(Answer):
    """What `verify --json` prints where a release is as it was made."""

    schema_: Literal[1] = Field(default=SCHEMA, alias="schema")
    verb: Literal["verify"] = "verify"
    folder: str
    artifact: str
    digest: str
    files: int
    signature: Literal["checked", "not checked", "none"]
    rebuilt: bool
    """Whether it was built again, to the same bytes."""
    other_tools: tuple[str, ...]
    """Versions of tools that differ from those that made the release, where it was rebuilt."""


class BuiltFacts(Answer):
    """What an artifact is, and what its checks say."""

    status: Literal["built", "up to date", "broken", "failed", "killed", "wrong", "interrupted", "not started"]
    """As in the table of a sweep; `wrong` where the recipe is."""
    exit_code: int
    message: str
    """Why it failed."""
    artifact: str | None
    bytes: int | None
    digest: str | None
    snr_db: float | None
    """The least signal-to-noise ratio that a check measured, over all outputs, in decibels."""
    verdicts: dict[str, Literal["passed", "failed", "inconclusive", "skipped"]]
    """By check."""


class CiRecipe(Answer):
    """What became of a recipe."""

    name: str
    plan: Literal["up to date", "stored", "changed", "wrong"]
    """What `plan` said before: whether stages had to run."""
    now: BuiltFacts
    base: BuiltFacts | None
    """The same of the other branch; None where it has no such recipe, or no other branch is given."""


class CiAnswer(Answer):
    """What `ci --report FILE` writes."""

    schema_: Literal[1] = Field(default=SCHEMA, alias="schema")
    verb: Literal["ci"] = "ci"
    exit_code: int
    """That of the first recipe that failed, else 0."""
    recipes: tuple[CiRecipe, ...]


class Problem(Answer):
    """One thing that is wrong."""

    code: str
    """Explained in `docs/reference/errors`, and by `explain`."""
    severity: Literal["error", "warning", "note"]
    message: str
    key: str
    """The dotted setting of the recipe that it is about; empty for none."""
    file: str | None
    """None for the command line, and where no place is known."""
    line: int | None
    column: int | None
    hint: str | None


class ErrorAnswer(Answer):
    """What `--json` prints where a verb fails; the exit code of the process is `exit_code`."""

    schema_: Literal[1] = Field(default=SCHEMA, alias="schema")
    verb: str
    exit_code: int
    errors: tuple[Problem, ...]


ANSWERS: Mapping[str, type[Answer]] = {
    "list": ListAnswer,
    "plan": PlanAnswer,
    "show": ShowAnswer,
    "doctor": DoctorAnswer,
    "lint": LintAnswer,
    "verify": VerifyAnswer,
    "ci": CiAnswer,
    "error": ErrorAnswer,
}
"""By verb, and what any of them prints when it fails."""


def render(answer: Answer) -> str:
    """Return the document as it is printed; numbers that JSON lacks are the texts `inf`, `-inf` and `nan`."""
    return visible_json(json.dumps(plain(answer), indent=2, ensure_ascii=False))


def answer_schema(verb: str) -> dict[str, object]:
    """Return the JSON schema of what `verb` prints; KeyError where it has no `--json`."""
    schema = ANSWERS[verb].model_json_schema(schema_generator=DescribedSchema, mode="serialization")
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


def error_answer(verb: str, error: BuilderError) -> ErrorAnswer:
    """The document for a failure."""
    return ErrorAnswer(verb=verb, exit_code=error.exit_code, errors=tuple(map(_problem, error.diagnostics)))


def _problem(found: Diagnostic) -> Problem:
    span = found.span
    return Problem(
        code=found.code,
        severity=found.severity,
        message=found.message,
        key=found.key,
        file=None if span is None or span.file is None else shown(span.file),
        line=None if span is None else span.line,
        column=None if span is None else span.column,
        hint=found.hint or (f"did you mean `{found.nearest}`?" if found.nearest else None),
    )


def lint_findings(found: Sequence[LintFinding]) -> tuple[LintAnswerFinding, ...]:
    """Findings as they are printed."""
    return tuple(
        LintAnswerFinding(
            rule=each.rule,
            confidence=each.confidence,
            count=each.count,
            examples=each.examples,
            advice=each.advice,
            sources=each.sources,
            accepted=each.ignored,
            share=each.share,
        )
        for each in found
    )


def costs_answer(costs: Costs) -> CostsAnswer:
    """What one function costs."""
    operators = tuple(
        OperatorCostAnswer(**{name: getattr(each, name) for name in OperatorCostAnswer.model_fields})
        for each in costs.operators
    )
    named = {name: getattr(costs, name) for name in CostsAnswer.model_fields if name != "operators"}
    return CostsAnswer(**named, operators=operators)


def headroom_answer(headroom: Headroom, findings: Sequence[LintFinding]) -> HeadroomAnswer:
    """What is known of one function."""
    return HeadroomAnswer(
        function=headroom.function,
        domain=headroom.domain,
        seen_on=headroom.seen_on,
        not_analysed=headroom.not_analysed,
        findings=lint_findings(findings),
        least=tuple(map(_operator, headroom.tightest[:10])),
    )


def _operator(each: OperatorRange) -> OperatorHeadroom:
    return OperatorHeadroom(
        name=each.name,
        operator=each.operator,
        module=each.module,
        low=each.low,
        high=each.high,
        seen_low=each.seen_low,
        seen_high=each.seen_high,
        bits_seen=each.bits,
        is_proven=each.proven,
    )
