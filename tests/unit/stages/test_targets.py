"""Every target that a recipe may name builds a model of the right format and specification version."""

from __future__ import annotations

import pytest
import torch

from builder.backends.coreml.convert import convert
from builder.spec.rules.compatibility import find_incompatibilities
from builder.spec.target import GENERATIONS, TARGET_NAMES, Target, target_of_format
from tests.unit.stages.small_builds import TENSOR, capture_module, make_spec

SPECIFICATIONS = {13: 4, 14: 5, 15: 6, 16: 7, 17: 8, 18: 9, 26: 10}
"""By iOS generation, the version that `Model.proto` gives for the first system that reads the file."""


CORE_ML = [name for name in TARGET_NAMES if Target(name=name).generation in SPECIFICATIONS]


@pytest.mark.parametrize("name", CORE_ML)
def test_a_target_has_its_format_and_specification_version(name: str) -> None:
    # given the smallest net
    generation = Target(name=name).generation
    old = generation < 15
    spec = make_spec(
        input={"x": TENSOR},
        target={"name": name},
        format="mlmodel" if old else "mlpackage",
        precision={"kind": "fp32"},
    )
    assert find_incompatibilities(spec) == []
    # when it is converted
    converted = convert(*capture_module(torch.nn.ReLU(), spec))
    # then the file is of the system's generation
    specification = converted.model.get_spec()
    assert specification.WhichOneof("Type") == ("neuralNetwork" if old else "mlProgram")
    # a neural network declares the oldest version that has its layers
    assert specification.specificationVersion <= SPECIFICATIONS[generation]
    assert old or specification.specificationVersion == SPECIFICATIONS[generation]
    if not old:
        opset = f"CoreML{SPECIFICATIONS[generation] - 1}"
        assert specification.mlProgram.functions["main"].opset == opset


@pytest.mark.parametrize("name", CORE_ML)
def test_a_format_that_the_target_does_not_have_is_refused_with_one_that_it_has(name: str) -> None:
    generation = Target(name=name).generation
    wrong = "mlpackage" if generation < 15 else "mlmodel"
    (problem,) = find_incompatibilities(
        make_spec(input={"x": TENSOR}, target={"name": name}, format=wrong, precision={"kind": "fp32"})
    )
    assert problem.path == ("format",)
    system = name.rstrip("0123456789_")
    if wrong == "mlpackage":
        assert f"needs {system}1" in problem.message.replace("macos12", "macos1").replace("watchos8", "watchos1")
    else:
        assert "ends with" in problem.message


def test_visionos_is_built_as_its_ios() -> None:
    names = {name: Target(name=name).coremltools_name for name in CORE_ML if name.startswith("visionos")}
    assert names == {"visionos1": "iOS17", "visionos2": "iOS18", "visionos26": "iOS26"}
    assert set(GENERATIONS) == set(SPECIFICATIONS)


@pytest.mark.parametrize("system", ["ios", "macos", "watchos", "tvos", "visionos"])
@pytest.mark.parametrize("artifact_format", ["mlpackage", "mlmodel"])
def test_a_system_that_coremltools_does_not_know_is_refused_with_what_to_write(
    system: str, artifact_format: str
) -> None:
    spec = make_spec(
        input={"x": TENSOR}, target={"name": f"{system}27"}, format=artifact_format, precision={"kind": "fp32"}
    )
    (problem,) = find_incompatibilities(spec)
    assert problem.path == ("target",)
    assert f"coremltools does not know {system}27 yet" in problem.message
    assert f"`target: {system}26`" in (problem.hint or "")


@pytest.mark.parametrize("target", ["ios15", "macos26", "visionos27"])
def test_core_ai_takes_the_first_system_that_has_it(target: str) -> None:
    spec = make_spec(
        input={"x": TENSOR},
        target={"name": target},
        format="aimodel",
        precision={"kind": "fp32"},
        capture={"method": "export"},
    )
    assert find_incompatibilities(spec) == []
    system = target.rstrip("0123456789")
    assert target_of_format(spec.target, spec.format).name == f"{system}27"
