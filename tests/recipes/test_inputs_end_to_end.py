"""Every kind of input and output that a recipe can declare: built, declared in the file, and executed."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

import coreml_runtime as runtime
from builder.__main__ import main
from builder.backends.coreml.description import describe_artifact
from builder.backends.description import ArtifactDescription
from builder.model.torchvision_import import import_torchvision

MODELS = "tests.recipes.input_models"
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclass(frozen=True, kw_only=True)
class Built:
    """One build that passed."""

    path: Path
    record: Mapping[str, Any]

    @property
    def model(self) -> runtime.Model:
        return runtime.load(self.path)

    @property
    def description(self) -> ArtifactDescription:
        return describe_artifact(self.path)

    def check(self, kind: str) -> Mapping[str, Any]:
        return next(check for check in self.record["checks"] if check["name"] == kind)


Build = Callable[..., Built]


@pytest.fixture
def build(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Build:
    """Build a recipe of a factory, an input section and more; every check of it must pass."""
    torch.set_num_threads(1)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "recipes").mkdir()

    def build_recipe(
        factory: str, given: Mapping[str, Any], *overrides: str, arguments: Any = None, **more: Any
    ) -> Built:
        source = {"kind": "python", "factory": f"{MODELS}:{factory}", "arguments": arguments or {}}
        text = "# A recipe.\n" + yaml.safe_dump({"source": source, "input": given} | more, sort_keys=False)
        (tmp_path / "recipes" / "x.yaml").write_text(text)
        code = main(["recipe=x", "tracking=none", *overrides])
        out, err = capsys.readouterr()
        assert code == 0, err
        path = Path(out.splitlines()[-1])
        record = json.loads((path.parent / "build.json").read_text())
        assert all(check["passed"] for check in record["checks"]), record["checks"]
        return Built(path=path, record=record)

    return build_recipe


def pictures(mode: str) -> list[Image.Image]:
    """Pieces of the two photographs, and a picture with all 256 levels of each channel in another order."""
    from sklearn.datasets import load_sample_images

    found = [Image.fromarray(photo[100:116, 200:216]) for photo in load_sample_images().images]
    levels = np.arange(256)
    mixed = np.stack([levels, levels * 7 % 256, (levels * 11 + 3) % 256], axis=-1).astype(np.uint8).reshape(16, 16, 3)
    grey = Image.fromarray(levels.astype(np.uint8).reshape(16, 16))
    if mode == "RGB":
        return [*found, Image.fromarray(mixed)]
    return [*(picture.convert("L") for picture in found), grey]


FORMATS = {
    "fp32": ("precision=fp32", "target=ios16"),
    "fp16": ("precision=fp16", "target=ios16"),
    "mlmodel": ("precision=fp32", "target=ios14", "format=mlmodel"),
    "mlmodel_fp16": ("precision=fp16", "target=ios14", "format=mlmodel"),
}


def transforms_of(
    library: str, mean: tuple[float, ...], std: tuple[float, ...]
) -> Callable[[Image.Image], torch.Tensor]:
    """What a library makes of a picture of 16 by 16 for its models; in order (RGB), as they are trained with."""
    if library == "timm":
        data = pytest.importorskip("timm.data")
        made: Any = data.create_transform((len(mean), 16, 16), mean=mean, std=std, crop_pct=1.0)
    else:
        transforms = import_torchvision().transforms
        made = transforms.Compose([transforms.ToTensor(), transforms.Normalize(mean, std)])
    return made


@pytest.mark.parametrize("library", ["torchvision", "timm"])
@pytest.mark.parametrize("layout", ["RGB", "BGR", "G", "G16"])
@pytest.mark.parametrize("form", list(FORMATS))
def test_pictures_are_normalised_as_libraries_do(form: str, layout: str, library: str, build: Build) -> None:
    if layout == "G16" and form.startswith("mlmodel"):
        pytest.skip("grayscale in half precision came with iOS 16, neural networks ended with iOS 14")
    # given the library's own transforms, which were used in training
    grey = layout.startswith("G")
    mean, std = ((0.45,), (0.226,)) if grey else (MEAN, STD)
    original = transforms_of(library, mean, std)
    order = slice(None, None, -1) if layout == "BGR" else slice(None)
    picture = {
        "kind": "image", "shape": [1, len(mean), 16, 16], "color_layout": layout,
        "mean": list(mean[order]), "std": list(std[order]),
    }  # fmt: skip
    # when a model that changes nothing is built
    built = build("Same", {"image": picture}, *FORMATS[form], "checks=default")
    # then the artifact shows the model what the transforms show it, at all levels of each channel
    largest, error = 0.0, 0.0
    for given in pictures("L" if grey else "RGB"):
        wanted = original(given).numpy()[order]
        app_gives = given.convert("F") if layout == "G16" else given
        result = built.model.predict({"image": app_gives})["output"]
        error = max(error, float(np.abs(result[0] - wanted).max()))
        largest = max(largest, float(np.abs(wanted).max()))
    # fp32 rounds at 2.6 (2**-22); half has 11 bits, so that values from 2 to 4 are rounded by up to 2**-10
    assert error <= (2**-10 if form == "fp16" else 1e-5)
    assert largest > 2


def array(built: Built, **given: Any) -> dict[str, Any]:
    """What the artifact says to arrays."""
    return built.model.predict({name: np.asarray(value) for name, value in given.items()})


def original(factory: str, *inputs: torch.Tensor, **arguments: Any) -> Any:
    """What the factory's model says, seeded as the source does by default."""
    from tests.recipes import input_models

    torch.manual_seed(0)
    model = getattr(input_models, factory)(**arguments).eval()
    with torch.no_grad():
        return model(*inputs)


@pytest.mark.parametrize("form", ["fp32", "mlmodel"])
def test_several_inputs_of_all_dtypes_and_nested_outputs(form: str, build: Build) -> None:
    half = {} if form == "mlmodel" else {"dtype": "float16"}
    given = {
        "picture": {"kind": "image", "shape": [1, 3, 8, 8], "scale": 1 / 255},
        "gain": {"kind": "tensor", "shape": [1, 3, 1, 1], "low": 0.5, "high": 2, **half},
        "shift": {"kind": "tensor", "shape": [1, 3, 1, 1], "dtype": "int32", "low": -3, "high": 4},
    }
    # when built with names for what a dictionary with a tuple in it holds
    outputs = {"blended": None, "best": None, "largest": None, "least": half}
    built = build("Blend", given, *FORMATS[form], output=outputs)
    # then the file declares what the recipe says
    features = {f["name"]: f for f in (*built.description.inputs, *built.description.outputs)}
    assert [f["name"] for f in built.description.inputs] == ["picture", "gain", "shift"]
    assert features["gain"]["dtype"] == ("float16" if half else "float32")
    assert features["shift"]["dtype"] == "int32"
    assert features["best"]["dtype"] == ("int32" if half else "float32")
    assert features["least"]["dtype"] == ("float16" if half else "float32")
    assert set(outputs) <= set(features)


@pytest.mark.parametrize("form", ["fp32", "fp16", "mlmodel"])
def test_a_number_as_an_output(form: str, build: Build) -> None:
    built = build(
        "Summary", {"x": {"kind": "tensor", "shape": [1, 4]}}, *FORMATS[form], output={"mean": None, "all": None}
    )
    # Core ML gives a number as an array of one
    assert array(built, x=[[1, 2, 3, 6]])["mean"].tolist() == [3]


@pytest.mark.parametrize("form", ["fp32", "fp16", "mlmodel"])
@pytest.mark.parametrize("method", ["trace", "export"])
@pytest.mark.parametrize("how", ["ranges", "enumerated"])
def test_flexible_arrays_run_at_other_sizes(how: str, method: str, form: str, build: Build) -> None:
    # given ids and mask of one length that the app chooses
    shape: dict[str, Any] = {"shape": [1, {"min": 2, "max": 9, "default": 5, "name": "length"}]}
    if how == "enumerated":
        shape = {"shape": [1, 5], "enumerated_shapes": [[1, 5], [1, 9], [1, 2]]}
    ids = {"kind": "tensor", "dtype": "int32", "high": 20, **shape}
    if how == "enumerated":
        built = build("Network", {"x": {"kind": "tensor", "shape": [1, 3, 8, 8],
                      "enumerated_shapes": [[1, 3, 8, 8], [1, 3, 12, 6]]}}, *FORMATS[form],
                      f"capture.method={method}")  # fmt: skip
        assert built.description.inputs[0]["enumerated_shapes"]
        x = torch.randn(1, 3, 12, 6)
        found, wanted = array(built, x=x.numpy())["output"], original("Network", x)
    else:
        mask = {"kind": "tensor", "dtype": "int32", "low": 0, "high": 2, **shape}
        built = build("Sequence", {"ids": ids, "mask": mask}, *FORMATS[form], f"capture.method={method}")
        assert built.description.inputs[0]["ranges"] == [[1, 1], [2, 9]]
        x, m = torch.tensor([[3, 1, 19, 0, 7, 2, 5]]), torch.tensor([[1, 1, 0, 1, 0, 1, 1]])
        found, wanted = array(built, ids=x.int().numpy(), mask=m.int().numpy())["output"], original("Sequence", x, m)
    # then the artifact computes another size right: fp32 rounding, and half in fp16
    np.testing.assert_allclose(found, wanted.numpy(), atol=3e-3 if form == "fp16" else 1e-5)


@pytest.mark.parametrize("form", ["fp16", "mlmodel"])
@pytest.mark.parametrize("how", ["ranges", "enumerated"])
def test_flexible_pictures_run_at_other_sizes(how: str, form: str, build: Build) -> None:
    size: dict[str, Any] = {"shape": [1, 3, {"min": 8, "max": 24, "default": 16}, {"min": 8, "max": 24, "default": 16}]}
    if how == "enumerated":
        size = {"shape": [1, 3, 16, 16], "enumerated_shapes": [[1, 3, 16, 16], [1, 3, 8, 24]]}
    given = {"image": {"kind": "image", "mean": list(MEAN), "std": list(STD), **size}}
    # when
    built = build("Network", given, *FORMATS[form])
    # then
    feature = built.description.inputs[0]
    assert (feature.get("size_ranges"), feature.get("enumerated_sizes")) == (
        ([[8, 24], [8, 24]], None) if how == "ranges" else (None, feature["enumerated_sizes"])
    )
    assert built.model.predict({"image": Image.new("RGB", (24, 8))})["output"].shape == (1, 4)
    with pytest.raises(runtime.InputError):
        built.model.predict({"image": Image.new("RGB", (40, 8))})


def test_a_trace_that_records_a_size_gives_way_to_a_method_that_is_right(build: Build) -> None:
    # given a model that turns a size into a Python number, so that a trace of it is right at one size only
    given = {"x": {"kind": "tensor", "shape": [1, {"min": 2, "max": 6}, 4]}}
    # when
    built = build("Frozen", given, *FORMATS["fp32"])
    # then it is right at every size
    for size in (2, 3, 6):
        x = np.arange(size * 4, dtype=np.float32).reshape(1, size, 4)
        expected = x.reshape(1, size * 2, -1).mean(2)
        np.testing.assert_allclose(array(built, x=x.tolist())["output"], expected, rtol=1e-6)


@pytest.mark.parametrize("form", ["fp32", "fp16", "mlmodel"])
def test_an_input_with_a_default_value_may_be_left_out(form: str, build: Build) -> None:
    given = {
        "x": {"kind": "tensor", "shape": [1, 4]},
        "gain": {"kind": "tensor", "shape": [1, 4], "default_value": 0.3},
    }
    # when
    built = build("Scaled", given, *FORMATS[form])
    # then
    assert built.description.inputs[1]["optional"] is True
    assert built.description.inputs[1]["default_value"] == float(np.float32(0.3))
    assert array(built, x=[[1, 2, 3, 4]])["output"] == pytest.approx(np.array([[0.6, 0.9, 1.2, 1.5]]), rel=1e-3)
    assert array(built, x=[[1, 2, 3, 4]], gain=[[1, 1, 1, 1]])["output"].tolist() == [[2, 3, 4, 5]]


@pytest.mark.parametrize("form", ["fp32", "fp16"])
@pytest.mark.parametrize("method", ["trace", "export"])
def test_states_are_kept_from_one_prediction_to_the_next(method: str, form: str, build: Build) -> None:
    # given a model with two buffers that it updates in place, one of them deep inside
    states = {"keys": {"buffer": "cache.keys"}, "total": {"buffer": "total"}}
    # when
    overrides = (FORMATS[form][0], "target=ios18", f"capture.method={method}", "checks.parity.samples=5")
    built = build("Decoder", {"x": {"kind": "tensor", "shape": [1, 1, 4]}}, *overrides, state=states)
    # then the file names them as the recipe does, and five steps are those of the eager model
    assert {(s["name"], tuple(s["shape"]), s["dtype"]) for s in built.description.states} == {
        ("keys", (1, 3, 4), "float16"), ("total", (1, 4), "float16"),
    }  # fmt: skip
    model, x = built.model, torch.ones(1, 1, 4)
    one, other = model.make_state(), model.make_state()
    first = [model.predict({"x": x.numpy()}, state=one)["output_0"] for _ in range(3)]
    assert not np.allclose(first[0], first[2])
    np.testing.assert_array_equal(model.predict({"x": x.numpy()}, state=other)["output_0"], first[0])


@pytest.mark.parametrize("form", list(FORMATS))
@pytest.mark.parametrize("layout", ["RGB", "BGR", "G", "G16"])
def test_pictures_as_outputs(layout: str, form: str, build: Build) -> None:
    if layout == "G16" and form.startswith("mlmodel"):
        pytest.skip("grayscale in half precision came with iOS 16, neural networks ended with iOS 14")
    channels = 1 if layout.startswith("G") else 3
    given = {"image": {"kind": "image", "shape": [1, 3, 16, 16], "scale": 1 / 255, "color_layout": "RGB"}}
    output = {"painted": {"kind": "image", "color_layout": layout, "scale": 255}}
    # when
    built = build("Painter", given, *FORMATS[form], arguments={"channels": channels}, output=output)
    # then the app gets a picture in RGB or grey, clipped to 0 to 255 (G16 holds what there is)
    assert built.description.outputs[0]["color_layout"] == layout
    picture = pictures("RGB")[0]
    painted = built.model.predict({"image": picture})["painted"]
    wanted = ((np.asarray(picture, dtype=np.float64)[..., :channels] / 255 - 0.5) * 1.2 + 0.5) * 255
    wanted = wanted[..., ::-1] if layout == "BGR" else wanted[..., 0] if channels == 1 else wanted
    assert painted.mode == {"G": "L", "G16": "F"}.get(layout, "RGB")
    tolerance = 0.5 + (0.25 if form == "fp16" else 1e-3)  # rounding to a level, after half has 1/8 of a level
    limits = wanted if layout == "G16" else wanted.clip(0, 255)
    assert np.abs(np.asarray(painted, dtype=np.float64) - limits).max() <= tolerance


def test_a_segmentation_gives_logits_classes_and_a_picture(build: Build) -> None:
    given = {"image": {"kind": "image", "shape": [1, 3, 16, 16], "mean": list(MEAN), "std": list(STD)}}
    outputs = {"logits": {"dtype": "float16"}, "classes": None, "mask": {"kind": "image", "color_layout": "G"}}
    # when
    built = build("Segmenter", given, *FORMATS["fp16"], output=outputs)
    # then
    assert built.check("parity")["values"]["classes"]["agreement"] > 0.98
    result = built.model.predict({"image": pictures("RGB")[1]})
    assert result["classes"].dtype == np.int32
    assert (np.asarray(result["mask"]) == result["classes"][0] * 100).all()
    assert {f["name"]: f.get("dtype") for f in built.description.outputs} == {
        "logits": "float16", "classes": "int32", "mask": None,
    }  # fmt: skip


@pytest.mark.parametrize("form", ["fp16", "mlmodel"])
def test_labels_and_metadata_are_in_the_artifact(form: str, build: Build, tmp_path: Path) -> None:
    # given labels in a file with an empty line at the end
    (tmp_path / "labels.txt").write_text("crane\nKühe\nbird, crane\ncrane (2)\n\n", encoding="utf-8-sig")
    given = {"image": {"kind": "image", "shape": [1, 3, 16, 16], "scale": 1}}
    metadata = {"author": "us, Ünï", "license": "MIT", "version": "1.2", "description": "A test.", "user": {"k": "v"}}
    # when
    built = build(
        "Network", given, *FORMATS[form], classifier={"labels": "labels.txt"}, metadata=metadata,
        output={"scores": None},
    )  # fmt: skip
    # then all of it is read back
    found = built.description
    assert found.labels is not None
    assert found.labels == ("crane", "Kühe", "bird, crane", "crane (2)")
    assert {**found.shown, "user": {"k": found.metadata["k"]}} == metadata
    result = built.model.predict({"image": pictures("RGB")[0]})
    assert result["classLabel"] == max(result["scores"], key=result["scores"].get)
    assert sum(result["scores"].values()) == pytest.approx(1, abs=5e-3)  # of probabilities in half
