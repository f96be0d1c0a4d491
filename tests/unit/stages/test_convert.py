"""The convert stage: names, dtypes, precision, labels and shapes of the program that comes out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import coreml_runtime as runtime
from builder.backends.coreml import convert as convert_stage
from builder.errors import ConfigurationError, ConversionError
from tests.unit.stages.small_builds import (
    IMAGE,
    TENSOR,
    Convolutions,
    convert_module,
    make_spec,
    operators,
)


def _dtypes(ops: list[Any]) -> list[tuple[str, str]]:
    return [(op.op_type, op.outputs[0].dtype.__name__) for op in ops]


def test_fp16_keeps_the_normalisation_of_an_image_in_fp32_and_casts_once() -> None:
    # given a model that takes an image with mean and std, at half precision
    # when it is converted
    ops = operators(convert_module(Convolutions(), make_spec()))
    # then the factor and the offset per channel are float32 operators, followed by one cast and half precision
    assert _dtypes(ops[:4]) == [("mul", "fp32"), ("add", "fp32"), ("cast", "fp16"), ("conv", "fp16")]
    assert [op.op_type for op in ops].count("cast") == 2  # the other makes the output float32


def test_the_normalisation_is_exact() -> None:
    # given the program's own factors
    ops = operators(convert_module(Convolutions(), make_spec(precision={"kind": "fp32"})))
    scale, bias = (np.squeeze(op.y.val) for op in ops[:2])
    # when all levels of 0 to 255 are normalised with them
    levels = np.arange(256, dtype=np.float32)[:, None]
    result = levels * scale + bias
    # then they are what torchvision's formula gives, within a few roundings of float32 at a magnitude of 2.6
    mean, std = np.array(IMAGE["mean"]), np.array(IMAGE["std"])
    assert np.abs(result - (levels.astype(np.float64) / 255 - mean) / std).max() < 5e-7


def test_a_batch_norm_of_the_model_behind_the_normalisation_computes_in_half() -> None:
    class StartsWithNorm(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm = torch.nn.BatchNorm2d(3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.relu(self.norm(x))

    # given a model whose first layer could be taken for a normalisation
    # when it is converted
    ops = operators(convert_module(StartsWithNorm(), make_spec()))
    # then only the recipe's own normalisation stays in float32
    assert ("batch_norm", "fp16") in _dtypes(ops)


def test_fp32_has_no_half_precision_anywhere() -> None:
    ops = operators(convert_module(Convolutions(), make_spec(precision={"kind": "fp32"})))
    assert {dtype for _, dtype in _dtypes(ops)} == {"fp32"}


@pytest.mark.parametrize(
    ("keep", "kept"),
    [
        ({"fp32_op_types": ["linear"]}, "linear"),
        ({"fp32_modules": ["head"]}, "linear"),
        ({"fp32_modules": ["h*d"]}, "linear"),
        ({"fp32_op_types": ["lin*"]}, "linear"),
        ({"fp32_op_types_if_present": ["linear", "layer_norm"]}, "linear"),
        ({"fp32_names": ["input"]}, "reduce_mean"),
    ],
)
def test_mixed_keeps_what_the_recipe_names(keep: dict[str, list[str]], kept: str) -> None:
    # given a recipe that keeps a kind of operator, a module or an output in float32
    spec = make_spec(precision={"kind": "mixed", **keep})
    # when the model is converted
    dtypes = _dtypes(operators(convert_module(Convolutions(), spec)))
    # then exactly that operator computes in float32, but for the normalisation of the image and casts
    assert {kind for kind, dtype in dtypes if dtype == "fp32"} - {"mul", "add", "cast"} == {kept}
    assert ("conv", "fp16") in dtypes


@pytest.mark.parametrize(
    ("keep", "hint"),
    [
        ({"fp32_op_types": ["linea"]}, "`linear`"),
        ({"fp32_modules": ["heads"]}, "`head`"),
        ({"fp32_names": ["inputt"]}, "`input`"),
    ],
)
def test_a_pattern_that_matches_nothing_is_an_error(keep: dict[str, list[str]], hint: str) -> None:
    with pytest.raises(ConfigurationError, match="matches no") as caught:
        convert_module(Convolutions(), make_spec(precision={"kind": "mixed", **keep}))
    assert hint in (caught.value.hint or "")


def test_an_operator_type_that_no_model_has_is_an_error() -> None:
    with pytest.raises(ConfigurationError, match="layer_norn is not an operator type of MIL") as caught:
        convert_module(
            Convolutions(), make_spec(precision={"kind": "mixed", "fp32_op_types_if_present": ["layer_norn"]})
        )
    assert caught.value.hint == "did you mean `layer_norm`?"


def test_mixed_after_fp16_starts_anew() -> None:
    # given a conversion with a selection of operators
    convert_module(Convolutions(), make_spec(precision={"kind": "mixed", "fp32_op_types": ["linear"]}))
    # when the next one has none
    dtypes = _dtypes(operators(convert_module(Convolutions(), make_spec())))
    # then nothing of the first is left
    assert ("linear", "fp16") in dtypes


@pytest.mark.parametrize("format_and_target", [("mlpackage", "ios16"), ("mlmodel", "ios14")])
def test_a_classifier_has_labels_and_a_dictionary_of_the_outputs_name(format_and_target: tuple[str, str]) -> None:
    # given 250 labels for 250 classes
    chosen, target = format_and_target
    labels = [f"class {i}" for i in range(250)]
    spec = make_spec(format=chosen, target={"name": target}, classifier={"labels": labels})
    # when the model is converted
    description = convert_module(Convolutions(), spec).model.get_spec().description
    # then its outputs are the label and the probabilities, under the recipe's names
    kinds = {output.name: output.type.WhichOneof("Type") for output in description.output}
    assert kinds == {"classLabel": "stringType", "probabilities": "dictionaryType"}
    assert description.predictedFeatureName == "classLabel"
    assert description.predictedProbabilitiesName == "probabilities"


@pytest.mark.parametrize("capture", ["trace", "export"])
def test_inputs_and_outputs_have_the_declared_names_and_dtypes(capture: str) -> None:
    # given a tensor input in half, an output in half and one of integers
    class Two(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            return torch.relu(x), x.flatten(1).argmax(1)

    spec = make_spec(
        input={"values": TENSOR | {"dtype": "float16"}},
        output={"positive": {"dtype": "float16"}, "index": {}},
        capture={"method": capture},
    )
    # when it is converted
    description = convert_module(Two(), spec).model.get_spec().description
    # then the interface is what the recipe says, and integers stay integers
    features = {f.name: f.type.multiArrayType.dataType for f in (*description.input, *description.output)}
    float16, int32 = 0x10010, 0x20020  # FeatureTypes.proto
    assert features == {"values": float16, "positive": float16, "index": int32}


def test_flexible_and_enumerated_shapes_reach_the_interface() -> None:
    # given a model that takes any size
    sizes = {"min": 8, "max": 32, "default": 16}
    spec = make_spec(input={"image": IMAGE | {"shape": [1, 3, sizes, sizes]}})
    # when it is converted
    image = convert_module(Convolutions(), spec).model.get_spec().description.input[0].type.imageType
    # then the image may have these sizes
    assert (image.imageSizeRange.widthRange.lowerBound, image.imageSizeRange.widthRange.upperBound) == (8, 32)
    # and given enumerated shapes
    shapes = [[1, 3, 16, 16], [1, 3, 24, 24]]
    spec = make_spec(input={"x": TENSOR | {"enumerated_shapes": shapes}})
    # then those are declared
    array = convert_module(Convolutions(), spec).model.get_spec().description.input[0].type.multiArrayType
    assert sorted(list(s.shape) for s in array.enumeratedShapes.shapes) == shapes


@pytest.mark.parametrize(("layout", "number"), [("G", 10), ("G16", 40)])
def test_grayscale_images_in_8_bits_and_in_half(layout: str, number: int) -> None:
    # given a model of one channel
    spec = make_spec(input={"image": {"kind": "image", "shape": [1, 1, 16, 16], "color_layout": layout, "scale": 0.1}})
    # when it is converted
    converted = convert_module(torch.nn.Conv2d(1, 4, 3), spec)
    # then the input is an image of that colour space (FeatureTypes.proto), normalised in float32
    assert converted.model.get_spec().description.input[0].type.imageType.colorSpace == number
    assert ("mul", "fp32") in _dtypes(operators(converted))


def test_a_neural_network_in_fp16_has_half_the_bytes() -> None:
    # given one model as a neural network in both precisions
    specs = [
        make_spec(format="mlmodel", target={"name": "ios14"}, precision={"kind": kind}) for kind in ("fp32", "fp16")
    ]
    # when both are converted
    full, half = (len(convert_module(Convolutions(), s).model.get_spec().SerializeToString()) for s in specs)
    # then weights take half the room; the rest is names and shapes
    assert half < 0.55 * full


def test_what_coremltools_raises_is_one_readable_line(capfd: pytest.CaptureFixture[str]) -> None:
    class Unsupported(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.linalg.svdvals(x)

    # given an operator that coremltools has no conversion for
    # when it is converted
    with pytest.raises(ConversionError) as caught:
        convert_module(Unsupported(), make_spec())
    # then the message is one line that names it, the cause is kept, and the terminal stays quiet
    assert "\n" not in caught.value.message
    assert "svd" in caught.value.message
    assert caught.value.__cause__ is not None
    assert capfd.readouterr() == ("", "")


def test_no_temporary_package_outlives_its_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # given a private folder for temporary files
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    # when a model is converted, both formats, and dropped
    converted = convert_module(Convolutions(), make_spec())
    assert Path(converted.model.weights_dir).is_relative_to(tmp_path)
    del converted
    convert_module(Convolutions(), make_spec(format="mlmodel", target={"name": "ios14"}))
    # then the folder is empty
    assert [path for path in tmp_path.iterdir() if path.name.startswith("builder-convert-")] == []


def test_the_final_program_is_validated_once(monkeypatch: pytest.MonkeyPatch) -> None:
    # given a count of validations that really run
    validated = []
    validate = convert_stage.validate_program
    monkeypatch.setattr(convert_stage, "validate_program", lambda p: (validated.append(p), validate(p)))
    # when a model is converted
    converted = convert_module(Convolutions(), make_spec())
    # then it was its final program
    assert validated == [converted.model._mil_program]


class Heads(nn.Module):
    """Scores, and two outputs more."""

    def __init__(self) -> None:
        super().__init__()
        self.scores, self.other = nn.Linear(4, 3), nn.Linear(4, 2)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return self.scores(x), self.other(x), self.other(x).sum(1)


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_a_classifier_may_have_further_outputs(precision: str, tmp_path: Path) -> None:
    # given
    torch.manual_seed(0)
    module = Heads().eval()
    spec = make_spec(
        input={"x": {"kind": "tensor", "shape": [1, 4]}},
        output={"scores": None, "other": None, "total": None},
        classifier={"labels": ["a", "b", "c"]},
        precision={"kind": precision},
        target={"name": "ios16"},
    )
    # when
    convert_module(module, spec).model.save(str(tmp_path / "m.mlpackage"))
    x = torch.ones(1, 4)
    found = runtime.load(tmp_path / "m.mlpackage").predict({"x": x.numpy()})
    # then
    scores, other, total = module(x)
    best = int(scores.argmax())
    assert found["classLabel"] == "abc"[best]
    assert found["scores"]["abc"[best]] == pytest.approx(float(scores.softmax(-1)[0, best]), rel=1e-2)
    torch.testing.assert_close(torch.as_tensor(found["other"]), other, rtol=1e-2, atol=1e-2)
    torch.testing.assert_close(torch.as_tensor(found["total"]), total, rtol=1e-2, atol=1e-2)
