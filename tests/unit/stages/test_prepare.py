"""The prepared module is the original with exact normalisation, named outputs and labels that fit."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import coreml_runtime as runtime
from builder.artifacts.stages import ExampleInputs, LoadedModel, Preprocessing, Sample
from builder.backends.coreml.convert import convert
from builder.data import make_examples
from builder.errors import BuilderError, ConfigurationError, ConversionError
from builder.spec import BuildSpec
from builder.stages.capture import capture
from builder.stages.prepare import prepare
from builder.store.inputs import spec_view
from tests.unit.stages.small_builds import make_spec

IMAGENET = Preprocessing(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))


class Net(nn.Module):
    """Three classes; a dropout that only train mode applies."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3)
        self.act = nn.ReLU6()
        self.drop = nn.Dropout(0.9)
        self.fc = nn.Linear(8, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(self.drop(self.act(self.conv(x)).mean((2, 3))))


class Twice(nn.Module):
    def forward(self, x: torch.Tensor):
        y = x.sum((1, 2, 3))
        return y, x, y, x, y > 0, y.sum()


class Parts(nn.Module):
    def forward(self, x: torch.Tensor):
        return {"sum": x.sum((1, 2, 3)), "max": x.amax((1, 2, 3))}


class FirstRun(nn.Module):
    """As ConViT does: what depends on the shape alone is computed by the first run, and kept in a buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("places", torch.zeros(1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.places.shape[0] != x.shape[-1]:
            self.places = torch.arange(x.shape[-1], dtype=torch.float32)
        return (x * self.places).sum((1, 2, 3))


class Memory(nn.Module):
    """Writes into a buffer what it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("last", torch.zeros(1, 3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        before = self.last.clone()
        self.last.copy_(x.mean((2, 3)))
        return before + self.last


def prepared(module: nn.Module | None = None, labels=None, is_finished=False, **settings):
    torch.manual_seed(0)
    image = {"kind": "image", "shape": [1, 3, 8, 8], "from_weights": True}
    spec = BuildSpec.model_validate(
        {
            "source": {"kind": "torchvision", "name": "mobilenet_v2", "weights": "DEFAULT"},
            "input": {"image": image},
            "precision": {"kind": "fp32"},
            "target": {"name": "ios15"},
            "tracking": {"kind": "none"},
        }
        | settings
    )
    generator = torch.Generator().manual_seed(0)
    levels = [torch.randint(0, 256, (1, 3, 8, 8), generator=generator).float() for _ in range(3)]
    samples = tuple(Sample(given={}, tensors={"image": x}) for x in levels)
    loaded = LoadedModel(
        module=(module or Net()).train(),
        digest="sha256:0",
        origin={},
        preprocessing=IMAGENET,
        labels=labels,
        is_finished=is_finished,
    )
    examples = ExampleInputs(samples=samples, digest="sha256:0")
    return prepare(loaded, examples, spec_view("prepare", spec)), loaded, levels  # what the engine gives the stage


def test_reference_and_module_are_the_original_on_normalised_levels():
    # when
    result, loaded, levels = prepared()
    # then: torchvision's formula, eval mode forced, and the loaded model left as it was
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (IMAGENET.mean, IMAGENET.std))
    expected = loaded.module.eval()((levels[0] / 255 - mean) / std)
    torch.testing.assert_close(result.reference(levels[0])[0], expected)
    torch.testing.assert_close(result.module(levels[0])[0], expected, atol=1e-5, rtol=1e-5)  # one rounding more
    assert result.output_names == ("output",)


def test_only_a_finished_file_is_noted():
    result, loaded, _ = prepared()
    assert result.file is None
    assert prepared(is_finished=True)[0].file == loaded.digest


def test_train_mode_of_the_source_does_not_reach_the_artifact():
    result, *_ = prepared()
    assert not any(m.training for m in result.module.modules())


def test_a_classifier_gets_softmax_labels_and_a_name():
    result, _, levels = prepared(labels=("cat", "dog", "cow"), classifier={"labels": "from_weights"})
    assert result.labels == ("cat", "dog", "cow")
    assert result.output_names == ("probabilities",)
    assert result.module(levels[0])[0].sum() == pytest.approx(1.0)


def test_labels_of_the_same_name_are_told_apart_where_weights_publish_them_and_refused_in_a_file(tmp_path):
    result, *_ = prepared(labels=("crane", "dog", "crane"), classifier={"labels": "from_weights"})
    assert result.labels == ("crane", "dog", "crane (2)")
    (tmp_path / "labels.txt").write_text("crane\n\ndog\ncrane\n")
    with pytest.raises(ConfigurationError, match="line 4 is `crane`, as line 1 is") as caught:
        prepared(classifier={"labels": str(tmp_path / "labels.txt")})
    assert caught.value.key == "classifier.labels"


def test_labels_from_a_file(tmp_path):
    (tmp_path / "labels.txt").write_text("a\nb\n\nc\n")
    result, *_ = prepared(classifier={"labels": str(tmp_path / "labels.txt")})
    assert result.labels == ("a", "b", "c")


def test_dictionary_outputs_keep_their_names_or_get_the_recipes():
    assert prepared(Parts())[0].output_names == ("sum", "max")
    assert prepared(Parts(), output={"total": None, "peak": {"dtype": "float32"}})[0].output_names == ("total", "peak")


def test_substitutions_change_the_module_and_not_the_reference():
    result, *_ = prepared(substitutions={"relu6_to_relu": None})
    assert isinstance(result.module.model.act, nn.ReLU)
    assert isinstance(result.reference.model.act, nn.ReLU6)
    assert result.substitutions[0].replaced == ("act",)


@pytest.mark.parametrize(
    ("module", "settings", "error", "said"),
    [
        (None, {"classifier": {"labels": ["a", "b"]}}, ConfigurationError, "2 labels for 3 classes"),
        (
            Parts(),
            {"output": {"x": None}},
            ConfigurationError,
            "returns 2 output(s) (sum, max), and the recipe names 1",
        ),
        (Parts(), {"classifier": {"labels": ["a"]}}, ConfigurationError, "is float32 of (1,)"),
        (nn.Linear(3, 3), {}, ConversionError, "does not run on inputs of shape (1, 3, 8, 8)"),
        (None, {"substitutions": {"relu6_to_relu": {"modules": ["nothing.*"]}}}, ConfigurationError, "matches nothing"),
    ],
)
def test_what_does_not_fit_is_named(module, settings, error, said):
    with pytest.raises(error, match=re.escape(said)) as raised:
        prepared(module, **settings)
    assert isinstance(raised.value, BuilderError)
    assert raised.value.key


@pytest.mark.parametrize("method", ["trace", "export"])
def test_what_is_returned_twice_and_inputs_are_outputs_of_their_own(method: str, tmp_path: Path) -> None:
    spec = make_spec(input={"x": {"kind": "tensor", "shape": [1, 3, 8, 8]}})
    examples = make_examples(spec)
    ready = prepare(LoadedModel(module=Twice(), digest="0" * 64, origin={}), examples, spec)
    convert(ready, capture(ready, examples, method, {}, strict=True), examples, spec).model.save(
        str(tmp_path / "m.mlpackage")
    )
    x = torch.rand(1, 3, 8, 8).half().float()
    found = runtime.load(tmp_path / "m.mlpackage").predict({"x": x.numpy()})
    for got, wanted in zip(found.values(), Twice()(x), strict=True):
        np.testing.assert_allclose(got, wanted.numpy(), rtol=2e-3)


def test_a_buffer_that_the_first_run_fills_is_no_state_but_one_that_follows_the_input_is() -> None:
    # given a buffer that depends on the shape alone, then the model is prepared
    prepared(FirstRun())
    # given one that depends on what the model was given, then it must be declared
    with pytest.raises(ConfigurationError, match="changes its buffer last, which no state declares"):
        prepared(Memory())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_a_model_in_another_precision_is_told_and_a_constant_in_float64_is_not(dtype: torch.dtype) -> None:
    # given a whole model in another precision
    with pytest.raises(ConversionError, match=rf"conv.weight of the model is {str(dtype)[6:]}, and so are 3 more") as e:
        prepared(Net().to(dtype))
    assert "`.float()`" in (e.value.hint or "")
    # given one constant in it
    net = Net()
    net.register_buffer("constant", torch.zeros(1, dtype=dtype))
    if dtype is torch.bfloat16:  # which coremltools cannot even read
        with pytest.raises(ConversionError, match="constant of the model is bfloat16"):
            prepared(net)
    else:
        prepared(net)
