"""What cannot work about the functions of an artifact, found before anything is loaded."""

from __future__ import annotations

from collections.abc import Iterator

from builder.errors import Diagnostic
from builder.spec import BuildSpec
from builder.spec.functions import with_shapes
from builder.spec.problems import Path, needs
from builder.spec.rules.features import find_feature_problems
from builder.spec.source_kinds import kind_of
from builder.util.suggest import did_you_mean


def function_problems(spec: BuildSpec) -> Iterator[Diagnostic]:
    """Yield every problem of `functions`, those that a function's own shapes make among them."""
    if not spec.functions:
        return
    yield from _artifact(spec)
    if spec.format_kind.is_program:
        yield from needs(spec.target, ("functions",), "an artifact with several functions", 18)
    known = {(problem.path, problem.message) for problem in find_feature_problems(spec)}
    for name, function in spec.functions.items():
        path = ("functions", name, "shape")
        wrong = list(_shapes(spec, path, function.shape))
        yield from wrong
        for problem in find_feature_problems(with_shapes(spec, function)) if not wrong else ():
            if (problem.path, problem.message) not in known and problem.path[0] == "input":
                yield Diagnostic(
                    code=problem.code, path=(*path, problem.path[1]), message=problem.message, hint=problem.hint
                )


def _artifact(spec: BuildSpec) -> Iterator[Diagnostic]:
    """What has one function only."""
    if not spec.format_kind.is_program:
        yield Diagnostic(
            code="B0242",
            path=("functions",),
            message="a neural network (format mlmodel) has one function; several need an ML program",
            hint="write `format: mlpackage` with target ios18 or later",
        )
    if kind_of(spec.source).is_finished:
        yield Diagnostic(
            code="B0245",
            path=("functions",),
            message="an existing Core ML model is not captured again, so it has no shapes of its own for functions",
            hint="take the model from where it was converted",
        )
    if spec.classifier is not None:
        yield Diagnostic(
            code="B0252",
            path=("functions",),
            message="a classifier has one function",
            hint="leave `classifier` out: the app then gets the scores of each function as an array",
        )
    if spec.detection is not None:
        yield Diagnostic(code="B0252", path=("functions",), message="a detector has one function")
    for name in spec.module_compression:
        yield Diagnostic(
            code="B0252",
            path=("compression", name),
            message="a step that changes the PyTorch model would change it for each function on its own",
            hint="the functions would no longer share weights: take a step on the program, such as int8",
        )


def _shapes(spec: BuildSpec, path: Path, shapes: dict[str, list[int]]) -> Iterator[Diagnostic]:
    for name, shape in shapes.items():
        if name not in spec.artifact_inputs:
            yield Diagnostic(
                code="B0252",
                path=(*path, name),
                message=f"there is no input {name}; the recipe has {', '.join(spec.artifact_inputs)}",
                hint=did_you_mean(name, spec.artifact_inputs),
            )
        elif len(shape) != len(spec.artifact_inputs[name].shape):
            rank = len(spec.artifact_inputs[name].shape)
            yield Diagnostic(
                code="B0252",
                path=(*path, name),
                message=f"input {name} has {rank} dimensions, and this shape {len(shape)}",
            )
