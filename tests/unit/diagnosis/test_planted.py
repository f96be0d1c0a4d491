"""For modules that each plant one obstacle, `doctor` names operator, module and line, and a remedy that works."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

import coreml_runtime as runtime
from builder.artifacts.stages import LoadedModel
from builder.backends.coreml.convert import convert
from builder.backends.coreml.preflight.obstacles import Diagnosis, Obstacle
from builder.data import make_examples
from builder.engine.diagnose import PreflightInput, diagnose
from builder.errors import ConversionError
from builder.model.capture.archive import archived
from builder.spec import BuildSpec
from builder.stages.capture import capture
from builder.stages.prepare import prepare
from tests.unit.diagnosis.planted import CASES, NOTES, Case, Function, Planted, windows


def given_recipe(case: Case, **changes: Any) -> BuildSpec:
    recipe: dict[str, Any] = {
        "source": {"kind": "python", "factory": "nets:make"},
        "input": {"x": {"kind": "tensor", "shape": list(case.shape)}},
        "precision": {"kind": "fp32"},
        "target": {"name": case.target},
        "tracking": {"kind": "none"},
        "capture": {"method": case.method},
    }
    return BuildSpec.model_validate(recipe | changes)


def patient(module: torch.nn.Module, spec: BuildSpec) -> PreflightInput:
    loaded = LoadedModel(module=module.eval(), digest="0" * 64, origin={})
    examples = make_examples(spec)
    return PreflightInput(loaded=loaded, prepared=prepare(loaded, examples, spec), examples=examples, spec=spec)


def planted(case: Case, inner: torch.nn.Module | None = None) -> torch.nn.Module:
    torch.manual_seed(0)
    return Planted(case.inner() if inner is None else inner)


def marked_line(case: Case) -> int:
    lines, start = inspect.getsourcelines(case.line_of)
    return start + next(i for i, line in enumerate(lines) if line.rstrip().endswith("# planted"))


def found(case: Case, diagnosis: Diagnosis) -> Obstacle:
    """The planted obstacle, wherever the diagnosis has it, at its module and line."""
    best = diagnosis.best
    same = [
        o
        for o in (*best.in_the_way, *best.ours, *best.obstacles)
        if o.operator == case.operator or (o.operator is None and case.operator is None)
    ]
    here = [
        o
        for o in same
        for site in o.sites
        if site.module == case.module and site.place is not None and site.place.line == marked_line(case)
    ]
    assert here, f"{case.operator} is not named at {case.module}, line {marked_line(case)}: {best}"
    assert all(site.place.file == inspect.getsourcefile(case.line_of) for site in here[0].sites)
    return here[0]


def assert_builds(module: torch.nn.Module, spec: BuildSpec, folder: Path) -> None:
    """What a build does to convert, and then the artifact computes what torch computes."""
    ill = patient(module, spec)
    captured = capture(ill.prepared, ill.examples, spec.capture.method, {}, strict=True)
    kept = archived(captured, folder / "program") or captured
    converted = convert(ill.prepared, kept, ill.examples, spec)
    converted.model.save(str(folder / "model.mlpackage"))
    model = runtime.load(folder / "model.mlpackage")
    for sample in ill.examples.samples:
        wanted = ill.prepared.reference(*sample.tensors.values())
        got = model.predict({name: tensor.numpy() for name, tensor in sample.tensors.items()})
        for name, tensor in zip(ill.prepared.output_names, wanted, strict=True):
            # a few roundings of float32 on values of about 1; coremltools writes infinity in traces as 3.4e38
            found, expected = (np.clip(x, -3e38, 3e38) for x in (got[name].reshape(tensor.shape), tensor.numpy()))
            np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", CASES)
def test_an_obstacle_is_named_with_a_remedy_that_works(name: str, tmp_path: Path) -> None:
    # given a module with one obstacle
    case = CASES[name]
    spec = given_recipe(case)
    module = planted(case)
    # when it is diagnosed
    diagnosis = diagnose(patient(module, spec))
    # then the obstacle is at its module and line
    obstacle = found(case, diagnosis)
    remedy = obstacle.remedy
    # and what is said of it is true
    if obstacle in diagnosis.best.ours:
        assert not diagnosis.best.in_the_way
        assert_builds(module, spec, tmp_path)
    elif remedy is None:
        pytest.fail(f"{obstacle} has no remedy")
    elif remedy.paste is not None:
        assert_builds(module, given_recipe(case, **yaml.safe_load(remedy.paste)), tmp_path)
    elif remedy.kind == "rewrite":
        assert case.rewritten is not None, f"{remedy} was not tried"
        x = torch.randn(case.shape)
        if not case.is_random:
            torch.testing.assert_close(case.rewritten(x), case.inner()(x), equal_nan=True)
        with_remedies = planted(case, Function(case.rewritten))
        assert not diagnose(patient(with_remedies, spec)).best.in_the_way
        if name != "infinite_triangle":  # whose zeros and infinities are compared below
            assert_builds(with_remedies, spec, tmp_path)
    else:
        assert remedy.kind == "none"
        assert remedy.summary.startswith("not convertible, because")
        with pytest.raises(ConversionError):
            assert_builds(module, spec, tmp_path)


@pytest.mark.parametrize("name", NOTES)
def test_what_converts_and_may_differ_is_named_but_not_in_the_way(name: str, tmp_path: Path) -> None:
    case = NOTES[name]
    diagnosis = diagnose(patient(planted(case), given_recipe(case)))
    assert found(case, diagnosis).severity == "note"
    assert not diagnosis.best.in_the_way
    assert_builds(planted(case), given_recipe(case), tmp_path)


def test_there_are_thirty_obstacles() -> None:
    assert len(CASES) >= 30
    assert len({case.operator for case in CASES.values()}) >= 30


def test_what_coremltools_splits_into_fewer_dimensions_is_no_obstacle(tmp_path: Path) -> None:
    case = Case(inner=lambda: Function(windows), operator="view", shape=(1, 2, 4, 4))
    assert not diagnose(patient(planted(case), given_recipe(case))).best.in_the_way
    assert_builds(planted(case), given_recipe(case), tmp_path)
