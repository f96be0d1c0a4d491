"""Finished Core ML models: executed, checked against the recipe, re-targeted, and passed on."""

from __future__ import annotations

import re
import shutil

import numpy as np
import pytest
import torch

import coreml_runtime as runtime
from builder.artifacts.stages import CompressedModel, LoadedModel
from builder.backends.coreml.convert import convert
from builder.backends.coreml.seal import seal
from builder.data import make_examples
from builder.errors import BuilderError, ConfigurationError, ConversionError, SourceError
from builder.model.capture.methods import methods_to_try
from builder.model.sources import load_source
from builder.model.sources.coreml import path_digest
from builder.progress import Silent
from builder.spec import BuildSpec
from builder.spec.inputs import shapes_to_try
from builder.stages.capture import capture
from builder.stages.prepare import prepare
from builder.store.digests import artifact_digest
from builder.store.inputs import spec_view
from tests.unit.stages.small_builds import Convolutions, convert_module, make_spec

LABELS = [f"class {number}" for number in range(250)]
RAW = {"kind": "image", "shape": [1, 3, 16, 16], "scale": 1}
PARTS = {
    "precision": {"kind": "fp16"},
    "target": {"name": "ios16"},
    "classifier": {"labels": "from_weights", "softmax": False},
}


@pytest.fixture(scope="module")
def package(tmp_path_factory):
    """An fp16 classifier of pictures for iOS 16."""
    path = tmp_path_factory.mktemp("coreml") / "m.mlpackage"
    convert_module(Convolutions(), make_spec(classifier={"labels": LABELS})).model.save(str(path))
    return path


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    """A neural network with an array."""
    path = tmp_path_factory.mktemp("coreml") / "m.mlmodel"
    spec = make_spec(
        input={"x": {"kind": "tensor", "shape": [1, 3, 16, 16]}},
        format="mlmodel",
        target={"name": "ios13"},
        precision={"kind": "fp32"},
    )
    convert_module(Convolutions(), spec).model.save(str(path))
    return path


def spec_of(file, **parts):
    given = {"source": {"kind": "coreml", "file": str(file)}, "input": {"image": RAW}, "tracking": {"kind": "none"}}
    return BuildSpec.model_validate(given | PARTS | parts)


def built(spec):
    examples = make_examples(spec)
    loaded: LoadedModel = load_source(spec, examples, Silent())
    prepared = prepare(loaded, examples, spec_view("prepare", spec))
    captured = capture(prepared, examples, "coreml", {})
    return loaded, prepared, convert(prepared, captured, examples, spec), examples


def test_the_module_gives_what_the_file_gives(package):
    # when
    loaded, prepared, _, examples = built(spec_of(package))
    # then
    predicted = runtime.load(package).predict(dict(examples.samples[0].given))
    (probabilities,) = prepared.module(*examples.samples[0].tensors.values())
    assert loaded.labels == tuple(LABELS)
    assert probabilities.shape == (1, 250)
    assert np.allclose(probabilities[0], [predicted["probabilities"][label] for label in LABELS], rtol=0, atol=0)
    assert loaded.digest == artifact_digest(package) == f"sha256:{path_digest(package)}"
    assert prepared.file == loaded.digest


def test_a_file_that_is_passed_on_is_the_file(package, tmp_path):
    # given
    spec = spec_of(package)
    _, _, converted, _ = built(spec)
    # when
    sealed = seal({"": CompressedModel(model=converted.model)}, spec, tmp_path / "again.mlpackage", seeded=False)
    # then
    picture = make_examples(spec).samples[1].given
    first, again = (runtime.load(path).predict(dict(picture)) for path in (package, sealed.path))
    assert first["probabilities"] == again["probabilities"]


def test_the_target_may_be_raised(package):
    _, _, converted, _ = built(spec_of(package, target={"name": "ios18"}))
    assert converted.model._spec.specificationVersion == 9
    assert "now for ios18" in converted.summary


def test_a_neural_network_with_an_array(network):
    spec = spec_of(
        network,
        input={"x": {"kind": "tensor", "shape": [1, 3, 16, 16]}},
        format="mlmodel",
        target={"name": "ios14"},
        precision={"kind": "fp32"},
        classifier=None,
    )
    _, prepared, converted, _ = built(spec)
    with torch.no_grad():
        assert prepared.module(torch.zeros(1, 3, 16, 16))[0].shape == (1, 250)
    assert converted.model._spec.specificationVersion == 5


@pytest.mark.parametrize(
    ("parts", "error", "said", "key"),
    [
        ({"input": {"picture": RAW}}, SourceError, "has no input picture; it has image", "input.picture"),
        (
            {"input": {"image": {"kind": "tensor", "shape": [1, 3, 16, 16]}}},
            SourceError,
            "takes image as a picture",
            "input.image.kind",
        ),
        (
            {"input": {"image": RAW | {"color_layout": "BGR"}}},
            SourceError,
            "in RGB, not BGR",
            "input.image.color_layout",
        ),
        (
            {"input": {"image": RAW | {"shape": [1, 3, 16, 8]}}},
            SourceError,
            "16 x 16, and the recipe",
            "input.image.shape",
        ),
        ({"target": {"name": "ios15"}}, ConversionError, "needs ios16 or later, and the target is ios15", "target"),
        ({"precision": {"kind": "fp32"}}, ConfigurationError, "computes in float16", "precision"),
        ({"classifier": None}, ConfigurationError, "is a classifier", "source.file"),
        (
            {"classifier": PARTS["classifier"] | {"predicted_feature_name": "best"}},
            ConfigurationError,
            "calls the best label classLabel",
            "classifier.predicted_feature_name",
        ),
        ({"output": {"scores": None}}, ConfigurationError, "has the output(s) probabilities", "output"),
        ({"format": "mlmodel", "target": {"name": "ios14"}}, ConfigurationError, "cannot become an mlmodel", "format"),
    ],
)
def test_what_the_file_is_not(package, parts, error, said, key):
    with pytest.raises(error, match=re.escape(said)) as raised:
        built(spec_of(package, **parts))
    assert raised.value.key == key


def test_a_neural_network_cannot_become_a_package(network):
    spec = spec_of(
        network,
        input={"x": {"kind": "tensor", "shape": [1, 3, 16, 16]}},
        precision={"kind": "fp32"},
        classifier=None,
    )
    with pytest.raises(ConfigurationError, match="holds a neural network, which cannot become an mlpackage") as raised:
        built(spec)
    assert raised.value.hint is not None
    assert "format: mlmodel" in raised.value.hint


def test_damaged_files_are_named(package, network, tmp_path):
    # given
    cut = tmp_path / "cut.mlmodel"
    cut.write_bytes(network.read_bytes()[:-4000])
    empty = tmp_path / "empty.mlpackage"
    empty.mkdir()
    without = tmp_path / "without.mlpackage"
    shutil.copytree(package, without)
    shutil.rmtree(without / "Data" / "com.apple.CoreML" / "weights")
    # then
    for path in (cut, empty, without):
        with pytest.raises(BuilderError) as raised:
            built(spec_of(path))
        assert raised.value.exit_code == 3
        assert path.name in raised.value.message
        assert raised.value.key == "source.file"


def test_another_digest(package):
    source = {"kind": "coreml", "file": str(package), "sha256": "0" * 64}
    with pytest.raises(SourceError, match="the recipe expects 0000") as raised:
        built(spec_of(package, source=source))
    assert raised.value.key == "source.sha256"


class Sums(torch.nn.Module):
    """Takes any number of rows, and pictures of several sizes."""

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        return rows.relu().sum(1, keepdim=True)


def test_ranges_of_a_finished_model_are_those_of_its_recipe(tmp_path):
    from builder.analysis.init.coreml import inspect_coreml

    # given a file that takes 1 to 9000 rows
    rows = {"kind": "tensor", "shape": [{"min": 1, "max": 9000, "default": 4}, 8]}
    spec = make_spec(input={"rows": rows}, target={"name": "ios16"}, precision={"kind": "fp32"})
    path = tmp_path / "rows.mlpackage"
    convert_module(Sums(), spec).model.save(str(path))

    def loaded(shape):
        given = {"rows": {"kind": "tensor", "shape": shape}}
        again = spec_of(path, input=given, classifier=None, precision={"kind": "fp32"})
        return load_source(again, make_examples(again), Silent())

    # when the recipe says one size, or another range, then what to write is said before anything is built
    for shape in ([4, 8], [{"min": 1, "max": 100, "default": 4}, 8], [{"min": 1, "max": 9000}, 8]):
        with pytest.raises(SourceError, match="takes rows in a range of sizes") as raised:
            loaded(shape)
        assert raised.value.hint == "write `shape: [{min: 1, max: 9000, default: 4}, 8]`"
    # when it says what `init` writes, then the file is taken
    drafted = inspect_coreml(path, "rows.mlpackage", "rows").inputs["rows"]["shape"]
    assert drafted == rows["shape"]
    assert loaded(drafted).module(torch.ones(2, 8))["output"].tolist() == [[8.0], [8.0]]


def test_a_range_is_not_tried_at_a_size_that_takes_minutes():
    given = {"rows": {"kind": "tensor", "shape": [{"min": 1, "max": 4096}, 1024]}}
    spec = make_spec(input=given, target={"name": "ios16"}, precision={"kind": "fp32"})
    assert [shapes["rows"][0] for shapes in shapes_to_try(spec.input)] == [1, 8]


def test_a_neural_network_becomes_a_package_of_a_newer_target_by_its_operators(network, tmp_path):
    # given a recipe of another format than the file's
    spec = spec_of(
        network, input={"x": {"kind": "tensor", "shape": [1, 3, 16, 16]}}, classifier=None, target={"name": "ios17"}
    )
    assert methods_to_try(spec) == ("export",)
    assert methods_to_try(spec.model_copy(update={"format": "aimodel"})) == ("export",)
    assert methods_to_try(spec.model_copy(update={"format": "mlmodel"})) == ("coreml",)

    # when
    examples = make_examples(spec)
    prepared = prepare(load_source(spec, examples, Silent()), examples, spec)
    captured = capture(prepared, examples, "export", {})
    model = convert(prepared, captured, examples, spec).model
    model.save(str(tmp_path / "m.mlpackage"))

    # then it computes in the recipe's precision what the file computes, and the source runs the file again
    assert model.get_spec().specificationVersion == 8
    assert any(name.startswith("model.network.") for name in captured.program.state_dict)
    given = {"x": examples.samples[0].given["x"]}
    (expected,) = runtime.load(network).predict(given).values()
    (found,) = runtime.load(tmp_path / "m.mlpackage").predict(given).values()
    assert 0 < np.abs(found - expected).max() < 2**-8 * np.abs(expected).max()
    assert [name for name, _ in prepared.module.named_buffers()] == ["model.content"]


def test_a_file_with_states_becomes_another_that_keeps_them(tmp_path):
    # given a file that doubles what it sums up, in half precision
    from coremltools.converters.mil.mil import Builder as mb  # noqa: N813 - the name that everybody gives it

    from tests.runtime.stateful import save_stateful

    def build(x, held, sum_):
        total = mb.add(x=mb.read_state(input=sum_), y=x)
        mb.coreml_update_state(state=sum_, value=total)
        mb.coreml_update_state(state=held, value=x)
        return mb.mul(x=total, y=np.float16(2)), mb.read_state(input=held)

    file = save_stateful(tmp_path, build)
    given = {
        "input": {"x": {"kind": "tensor", "shape": [1, 4], "dtype": "float16"}},
        "classifier": None, "format": "aimodel",
        "target": {"name": "ios27"}, "precision": {"kind": "fp16"},
        "output": {name: {"dtype": "float16"} for name in ("y0", "y1")},
    }  # fmt: skip
    spec = spec_of(file, state={name: {"buffer": name} for name in ("held", "sum_")}, **given)

    # when
    examples = make_examples(spec)
    prepared = prepare(load_source(spec, examples, Silent()), examples, spec)
    captured = capture(prepared, examples, "export", {}, strict=True)

    # then the program and the source itself sum up, under the names that the recipe has
    assert set(captured.program.graph_signature.buffers_to_mutate.values()) == {"model.held", "model.sum_"}
    prepared.module.get_buffer("model.sum_").zero_()
    results = [prepared.module(torch.ones(1, 4))[0].tolist() for _ in range(2)]
    assert results == [[[2.0] * 4], [[4.0] * 4]]
    with pytest.raises(SourceError, match="keeps the states"):
        load_source(spec_of(file, **given), examples, Silent())
