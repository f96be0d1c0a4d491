"""What a model takes beside what the app gives: constants, scalars, and arguments that the recipe calls otherwise."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

import coreml_runtime as runtime
from builder.artifacts.stages import LoadedModel
from builder.backends.coreml.convert import convert
from builder.data import make_examples
from builder.errors import ConversionError
from builder.spec import BuildSpec
from builder.spec.rules.features import find_feature_problems
from builder.stages.capture import capture
from builder.stages.prepare import prepare

X = {"kind": "tensor", "shape": [2, 3]}


class Scaled(nn.Module):
    """Branches on a number, scales by a scalar, adds an array; returns an array and a scalar."""

    def forward(self, x: torch.Tensor, rate: int, scale: torch.Tensor, offset: torch.Tensor):
        assert scale.ndim == 0
        y = (x if rate == 16000 else -x) * scale + offset
        return y, y.sum()


def spec_of(**inputs):
    return BuildSpec.model_validate(
        {
            "source": {"kind": "python", "factory": "nets:scaled"},
            "input": inputs,
            "precision": {"kind": "fp32"},
            "target": {"name": "ios16"},
            "tracking": {"kind": "none"},
        }
    )


@pytest.mark.parametrize("method", ["trace", "export"])
def test_constants_scalars_and_other_names_reach_the_model(method, tmp_path):
    # given names in another order than the model's, as keyword arguments
    spec = spec_of(
        rate={"constant": 16000},
        offset={"constant": [0.5, 1.5, 2.5]},
        factor={"kind": "tensor", "shape": [], "source_name": "scale"},
        x=X,
    )
    examples = make_examples(spec)
    loaded = LoadedModel(module=Scaled(), digest="d", origin={"kind": "python"})

    # when the artifact is built
    prepared = prepare(loaded, examples, spec)
    converted = convert(prepared, capture(prepared, examples, method, {}), examples, spec)
    converted.model.save(str(tmp_path / "m.mlpackage"))
    artifact = runtime.load(tmp_path / "m.mlpackage")

    # then the app gives what is left, the scalar as an array of one element
    assert {name: feature.shape for name, feature in artifact.inputs.items()} == {"factor": (1,), "x": (2, 3)}
    given = examples.samples[0].given
    y = given["x"] * given["factor"] + np.array([0.5, 1.5, 2.5], np.float32)
    predicted = artifact.predict(dict(given))
    np.testing.assert_allclose(predicted["output_0"], y, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(predicted["output_1"], y.sum().reshape(1), rtol=1e-5)


@pytest.mark.parametrize(
    ("inputs", "path", "said"),
    [
        ({"x": {"constant": 1}}, ("input",), "every input is a constant"),
        ({"state": X}, ("input", "state"), "a word of Core ML's own language"),
        ({"x": X, "y": X | {"source_name": "x"}}, ("input", "y"), "named twice"),
    ],
)
def test_names_that_cannot_be(inputs, path, said):
    assert [(p.path, said in p.message) for p in find_feature_problems(spec_of(**inputs))] == [(path, True)]


def test_the_remedy_of_a_reserved_name_can_be_pasted():
    import yaml

    (problem,) = find_feature_problems(spec_of(state=X | {"low": -1.0}, x=X))
    assert problem.hint is not None
    pasted = yaml.safe_load(problem.hint.split("`")[1])
    assert pasted == {"state_input": X | {"low": -1.0, "source_name": "state"}}
    assert list(find_feature_problems(spec_of(**pasted, x=X))) == []


class Picked(nn.Module):
    """Takes by index as only int64 can: `gather` and `one_hot` of torch refuse int32."""

    def forward(self, x: torch.Tensor, places: torch.Tensor):
        return torch.gather(x, 1, places) + nn.functional.one_hot(places, 3)[..., 1]


@pytest.mark.parametrize("method", ["trace", "export"])
def test_a_model_that_takes_no_int32_gets_its_integers_as_int64(method, tmp_path):
    spec = spec_of(x=X, places={"kind": "tensor", "shape": [2, 3], "dtype": "int32", "high": 3})
    examples = make_examples(spec)
    loaded = LoadedModel(module=Picked(), digest="d", origin={"kind": "python"})
    # when
    prepared = prepare(loaded, examples, spec)
    convert(prepared, capture(prepared, examples, method, {}), examples, spec).model.save(str(tmp_path / "m.mlpackage"))
    # then the app gives int32, as Core ML has it
    given = {"x": np.float32([[1, 2, 3], [4, 5, 6]]), "places": np.int32([[2, 0, 1], [1, 1, 0]])}
    expected = Picked()(torch.tensor(given["x"]), torch.tensor(given["places"]).long())
    artifact = runtime.load(tmp_path / "m.mlpackage")
    assert artifact.inputs["places"].dtype == "int32"
    np.testing.assert_array_equal(artifact.predict(given)["output"], expected.numpy())


def test_a_model_that_runs_with_neither_is_refused_for_the_first_reason():
    spec = spec_of(x=X, places={"kind": "tensor", "shape": [5, 3], "dtype": "int32", "high": 3})
    loaded = LoadedModel(module=nn.Bilinear(3, 3, 3), digest="d", origin={"kind": "python"})
    with pytest.raises(ConversionError, match="does not run on inputs of shape"):
        prepare(loaded, make_examples(spec), spec)


def test_a_range_with_one_integer_is_refused():
    spec = spec_of(mask={"kind": "tensor", "shape": [1, 8], "dtype": "int32", "low": 0, "high": 1})
    (problem,) = find_feature_problems(spec)
    assert problem.message == "the only integer from low (0) to below high (1) is 0"
    assert problem.hint is not None
    assert "`high: 2`" in problem.hint
