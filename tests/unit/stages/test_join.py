"""Programs joined to functions of one: nothing changes but where weights lie, and equal weights lie once."""

from __future__ import annotations

import gc
import warnings
from pathlib import Path

import coremltools as ct
import numpy as np
import pytest
import torch

import coreml_runtime as runtime
from builder.artifacts.stages import CompressedModel
from builder.backends.coreml.multifunction import join_functions
from builder.backends.coreml.seal import seal
from builder.spec import BuildSpec
from builder.spec.functions import specs_by_function
from tests.unit.stages.small_builds import TENSOR, Convolutions, convert_module, make_spec


def _models(spec: BuildSpec) -> dict[str, CompressedModel]:
    """One model for each function, from the same module."""
    module = Convolutions()
    return {
        name: CompressedModel(model=convert_module(module, own).model)
        for name, own in specs_by_function(spec).items()
    }  # fmt: skip


@pytest.fixture(scope="module")
def spec() -> BuildSpec:
    functions = {"small": {}, "large": {"shape": {"x": [1, 3, 32, 32]}}}
    return make_spec(
        input={"x": TENSOR}, target={"name": "ios18"}, precision={"kind": "fp32"}, functions=functions
    )  # fmt: skip


def test_one_program_keeps_its_weight_file_to_the_byte(spec: BuildSpec, tmp_path: Path) -> None:
    # given a program of coremltools, when it is joined with nothing
    model = _models(spec)["small"].model
    joined = join_functions({"small": model})
    # then the file that we write is the one that coremltools wrote
    own, theirs = (Path(m.weights_dir) / "weight.bin" for m in (joined, model))
    assert own.read_bytes() == theirs.read_bytes()


def test_the_result_is_what_coremltools_makes_of_the_same_programs(spec: BuildSpec, tmp_path: Path) -> None:
    # given two programs, joined by us and by coremltools
    models = _models(spec)
    ours = seal(models, spec, tmp_path / "ours.mlpackage", seeded=False).path
    descriptor = ct.utils.MultiFunctionDescriptor()
    for name, each in models.items():
        each.model.save(str(tmp_path / f"{name}.mlpackage"))
        descriptor.add_function(
            str(tmp_path / f"{name}.mlpackage"), src_function_name="main", target_function_name=name
        )
    descriptor.default_function_name = "small"
    theirs = tmp_path / "theirs.mlpackage"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # coremltools leaves a temporary folder to the collector
        ct.utils.save_multifunction(descriptor, str(theirs))
        gc.collect()
    # then both take and give the same, function by function, the first by default
    for function in (None, "small", "large"):
        mine, other = runtime.load(ours, function), runtime.load(theirs, function)
        size = 32 if function == "large" else 16
        x = np.random.default_rng(0).standard_normal((1, 3, size, size)).astype(np.float32)
        assert str(mine.inputs) == str(other.inputs)
        for key, value in mine.predict({"x": x}).items():
            np.testing.assert_array_equal(value, other.predict({"x": x})[key])
    # and the weights are there once
    sizes = [(p / "Data/com.apple.CoreML/weights/weight.bin").stat().st_size for p in (ours, theirs)]
    assert sizes[0] == sizes[1]
    assert ct.models.utils.load_spec(str(ours)).description.defaultFunctionName == "small"


def test_different_weights_are_both_kept(spec: BuildSpec) -> None:
    small, large = (specs_by_function(spec)[name] for name in ("small", "large"))
    other = Convolutions()
    torch.nn.init.normal_(other.body.weight)
    models = {"small": convert_module(Convolutions(), small).model, "large": convert_module(other, large).model}
    joined = join_functions(models)
    both, one = ((Path(m.weights_dir) / "weight.bin").stat().st_size for m in (joined, models["small"]))
    assert both >= one + other.body.weight.numel() * 4
