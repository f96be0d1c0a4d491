"""Detectors from a recipe to kept boxes: the stages of the artifact, its thresholds, and what torchvision keeps."""

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
from coremltools.models.utils import load_spec
from PIL import Image

import coreml_runtime as runtime
from builder.__main__ import main
from builder.backends.coreml.description import describe_artifact
from coreml_runtime.errors import InputError
from tests.recipes import detector_models

MODELS = "tests.recipes.detector_models"
IMAGE = {"image": {"kind": "image", "shape": [1, 3, 64, 64], "mean": 0.5, "std": 0.5}}
LABELS = ["cat", "dog", "cow"]
FLOAT16, FLOAT32 = 10, 11
"""DataType of MIL.proto."""
CHECKED = {"structure": None, "capture": None, "parity": None}


@dataclass(frozen=True, kw_only=True)
class Built:
    """One build that passed."""

    path: Path
    record: Mapping[str, Any]

    def check(self, kind: str) -> Mapping[str, Any]:
        return next(check for check in self.record["checks"] if check["name"] == kind)


Build = Callable[..., Built]


@pytest.fixture
def build(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Build:
    """Build a recipe of a factory with a section `detection`; every check of it must pass."""
    torch.set_num_threads(1)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "recipes").mkdir()

    def build_recipe(
        factory: str, detection: Mapping[str, Any], *overrides: str, target: str = "ios16", **more: Any
    ) -> Built:
        source = {"kind": "python", "factory": f"{MODELS}:{factory}", "arguments": more.pop("arguments", {})}
        content = {"source": source, "input": IMAGE, "detection": detection, "checks": CHECKED} | more
        (tmp_path / "recipes" / "x.yaml").write_text("# A detector.\n" + yaml.safe_dump(content, sort_keys=False))
        code = main(["recipe=x", "tracking=none", f"target={target}", *overrides])
        out, err = capsys.readouterr()
        assert code == 0, err
        path = Path(out.strip())
        record = json.loads((path.parent / "build.json").read_text())
        assert all(check["passed"] for check in record["checks"]), record["checks"]
        return Built(path=path, record=record)

    return build_recipe


def noise(seed: int) -> Image.Image:
    levels = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    return Image.fromarray(levels).resize((64, 64), Image.Resampling.BILINEAR)


def torchvision_finds(model: Any, picture: Image.Image) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What the model itself finds in a picture, by torchvision's transform and post-processing; boxes as shares."""
    model.transform.min_size, model.transform.max_size = (64,), 64
    with torch.no_grad():
        (found,) = model([torch.from_numpy(np.array(picture)).permute(2, 0, 1).float() / 255])
    low, high = found["boxes"][:, :2] / 64, found["boxes"][:, 2:] / 64
    boxes = torch.cat([(low + high) / 2, high - low], dim=1)
    return boxes.numpy(), found["scores"].numpy(), found["labels"].numpy()


@pytest.mark.parametrize(
    ("name", "background", "least", "target"),
    [
        ("ssd", 1, 0.3, "ios16"),
        ("retinanet", 0, 0.6, "ios16"),
        ("fcos", 0, 0.6, "ios16"),
        ("faster", 1, 0.3, "ios16"),
        ("faster", 1, 0.3, "ios17"),  # whose suppression has another layout, and decides otherwise at the threshold
    ],
)
def test_the_artifact_keeps_what_torchvision_keeps(
    build: Build, name: str, background: int, least: float, target: str
) -> None:
    # given
    settings = {"score_thresh": least, "nms_thresh": 0.4, "detections_per_img": 40}
    arguments = {"seed": 5, **({f"box_{n}": v for n, v in settings.items()} if name == "faster" else settings)}
    detection = {"kind": "torchvision", "labels": LABELS}
    built = build(name, detection, "precision=fp32", target=target, arguments=arguments)
    model = runtime.load(built.path)
    original = getattr(detector_models, name)(**arguments)
    kept = 0
    for seed in range(4):
        # when
        boxes, scores, labels = torchvision_finds(original, noise(seed))
        found = model.predict({"image": noise(seed)})
        # then
        np.testing.assert_allclose(found["coordinates"], boxes, atol=1e-4)
        np.testing.assert_allclose(found["confidence"].max(1), scores, atol=1e-4)
        assert found["confidence"].argmax(1).tolist() == (labels - background).tolist()
        kept += max(np.bincount(labels))
    assert kept > 8, "several boxes of one class"
    assert built.check("parity")["values"]["boxes"]["boxes_matched"] == 1.0


def test_two_stages_in_half_precision_choose_boxes_in_float32(build: Build) -> None:
    # given a first stage of which fewer boxes stay than the program has room for
    arguments = {"seed": 5, "rpn_nms_thresh": 0.1, "rpn_post_nms_top_n_test": 100}
    detection = {"kind": "torchvision", "labels": LABELS, "confidence_threshold": 0.2}
    built = build("faster", detection, arguments=arguments)
    # then both stages find the same, and only layers of the model compute in half
    values = built.check("parity")["values"]
    assert values["boxes"]["boxes_matched"] > 0.95
    assert values["confidence"]["snr_db"] > 50
    program = load_spec(str(built.path)).pipeline.models[0].mlProgram.functions["main"]
    kinds = {op.type: op for block in program.block_specializations.values() for op in block.operations}
    for name in ("non_maximum_suppression", "resample"):
        assert kinds[name].outputs[0].type.tensorType.dataType == FLOAT32
    assert kinds["conv"].outputs[0].type.tensorType.dataType == FLOAT16
    # and boxes that fill up are never found, whatever the app's threshold
    model = runtime.load(built.path)
    found = model.predict({"image": noise(0), "confidenceThreshold": 1e-6, "iouThreshold": 1.0})
    assert (found["coordinates"][:, 2:] > 0).all()


def test_raw_boxes_of_two_stages_are_a_box_for_each_class(build: Build) -> None:
    built = build("faster", {"kind": "torchvision", "labels": LABELS, "output": "raw"}, "precision=fp32")
    found = runtime.load(built.path).predict({"image": noise(0)})
    assert found["scores"].shape == (40, 3)
    assert found["boxes"].shape == (40, 3, 4)
    assert float(built.check("parity")["values"]["boxes"]["snr_db"]) > 80


def test_vision_and_xcode_find_what_they_look_for(build: Build) -> None:
    built = build(
        "ssd",
        {"kind": "torchvision", "labels": LABELS, "iou_threshold": 0.5, "confidence_threshold": 0.35, "detections": 7},
        metadata={"author": "us"},
    )
    specification = load_spec(str(built.path))
    # then: a pipeline whose last stage is non-maximum suppression by class, with labels
    program, stage = specification.pipeline.models
    assert program.WhichOneof("Type") == "mlProgram"
    assert list(stage.nonMaximumSuppression.stringClassLabels.vector) == LABELS
    assert stage.nonMaximumSuppression.pickTop.perClass
    assert stage.nonMaximumSuppression.iouThreshold == 0.5
    assert stage.nonMaximumSuppression.confidenceThreshold == 0.35
    assert [f.name for f in specification.description.output] == ["confidence", "coordinates"]
    inputs = {feature["name"]: feature for feature in describe_artifact(built.path).inputs}
    assert list(inputs) == ["image", "iouThreshold", "confidenceThreshold"]
    assert inputs["iouThreshold"] == {"name": "iouThreshold", "kind": "double", "optional": True}
    metadata = specification.description.metadata
    assert metadata.author == "us"
    assert metadata.userDefined["com.apple.coreml.model.preview.type"] == "objectDetector"
    # and at most as many boxes as asked for
    model = runtime.load(built.path)
    found = model.predict({"image": noise(0), "confidenceThreshold": 0.05, "iouThreshold": 0.99})
    assert found["confidence"].shape == (7, 3)
    assert found["coordinates"].shape == (7, 4)


def test_the_app_changes_thresholds(build: Build) -> None:
    built = build("ssd", {"kind": "torchvision", "labels": LABELS, "confidence_threshold": 0.4})
    model = runtime.load(built.path)
    as_built = model.predict({"image": noise(1)})
    assert len(as_built["confidence"]) > 3
    limit = float(np.median(as_built["confidence"].max(1)))
    fewer = model.predict({"image": noise(1), "confidenceThreshold": limit})
    more = model.predict({"image": noise(1), "confidenceThreshold": 0.2})
    overlapping = model.predict({"image": noise(1), "iouThreshold": 1.0})
    assert len(fewer["confidence"]) < len(as_built["confidence"]) < len(more["confidence"])
    assert len(overlapping["confidence"]) > len(as_built["confidence"])
    with pytest.raises(InputError, match="iouThreshold"):
        model.predict({"image": noise(1), "iouThreshold": "much"})


def test_raw_boxes_have_the_names_of_the_recipe(build: Build) -> None:
    detection = {"kind": "torchvision", "labels": LABELS, "output": "raw"}
    built = build("ssd", detection, output={"chances": None, "places": None})
    found = runtime.load(built.path).predict({"image": noise(0)})
    assert found["chances"].shape == (336, 3)
    assert found["places"].shape == (336, 4)
    assert built.check("parity")["values"]["places"]["snr_db"] > 40


def test_reports_and_the_command_line_speak_of_boxes(build: Build, capsys: pytest.CaptureFixture[str]) -> None:
    built = build("ssd", {"kind": "torchvision", "labels": LABELS, "confidence_threshold": 0.3})
    # in the report: the Swift of detectors, and what both found
    page = (built.path.parent / "report.html").read_text()
    assert "public struct Detection: Sendable" in page
    assert "boxes_matched" in page
    # on the command line: a line for each box, with its label
    noise(0).save("photo.png")
    assert main(["predict", str(built.path), "image=photo.png", "confidenceThreshold=0.35"]) == 0
    out = capsys.readouterr().out
    best = runtime.load(built.path).predict({"image": noise(0)})
    assert f"{LABELS[int(best['confidence'][0].argmax())]}  {best['confidence'][0].max():.4f}  at" in out
    # and two artifacts are compared stage by stage
    assert main(["diff", str(built.path), str(built.path)]) == 0


def test_a_wrong_artifact_is_found_out(
    build: Build, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Suppression across classes instead of within each is what the check is for."""
    from builder.backends.coreml import nms_pipeline as detector

    made = detector._stage

    def across_classes(*given: Any) -> Any:
        stage = made(*given)
        stage.nonMaximumSuppression.pickTop.perClass = False
        return stage

    build("ssd", {"kind": "torchvision", "labels": LABELS, "confidence_threshold": 0.2})
    monkeypatch.setattr(detector, "_stage", across_classes)
    code = main(["recipe=x", "tracking=none", "target=ios16", "metadata.version='2'", "-q"])
    err = capsys.readouterr().err
    assert code == 5, err
    assert "boxes_matched" in err
    assert "per_class is False" in err


@pytest.mark.slow
def test_too_few_candidates_are_found_out(build: Build, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(AssertionError):
        build("ssd", {"kind": "torchvision", "labels": LABELS, "confidence_threshold": 0.1, "candidates": 20})
    record = json.loads(Path("outputs/broken/x/target=ios16/build.json").read_text())
    reason = next(check["reason"] for check in record["checks"] if check["name"] == "parity")
    assert "than detection.candidates (20) are over the threshold" in reason


@pytest.mark.parametrize(
    ("factory", "change", "code", "said"),
    [
        ("masked", {}, 2, "the model is a FasterRCNN: it looks for masks in the boxes that suppression keeps"),
        ("plain", {}, 2, "and the model is a Conv2d"),
        ("ssd", {"labels": ["one", "two"]}, 2, "2 labels for 3 classes of the model"),
        ("ssd", {"labels": "classes.txt"}, 2, "classes.txt"),
    ],
)
def test_what_does_not_fit_the_model_is_refused(
    build: Build, capsys: pytest.CaptureFixture[str], factory: str, change: dict[str, Any], code: int, said: str
) -> None:
    detection = {"kind": "torchvision", "labels": LABELS} | change
    source = {"kind": "python", "factory": f"{MODELS}:{factory}"}
    content = {"source": source, "input": IMAGE, "detection": detection}
    Path("recipes/x.yaml").write_text("# A detector.\n" + yaml.safe_dump(content, sort_keys=False))
    assert main(["recipe=x", "tracking=none"]) == code
    err = capsys.readouterr().err
    assert said in err
    assert "recipes/x.yaml" in err


def test_a_detector_without_a_section_is_told_what_to_write(build: Build, capsys: pytest.CaptureFixture[str]) -> None:
    content = {"source": {"kind": "python", "factory": f"{MODELS}:ssd"}, "input": IMAGE}
    Path("recipes/x.yaml").write_text("# A detector.\n" + yaml.safe_dump(content))
    for command in (["recipe=x", "tracking=none"], ["doctor", "recipe=x"]):
        assert main(command) == 2
        assert "detection: {kind: torchvision}" in capsys.readouterr().err


def test_pictures_of_another_size_than_the_model_resizes_to_are_refused(
    build: Build, capsys: pytest.CaptureFixture[str]
) -> None:
    given = {"image": IMAGE["image"] | {"shape": [1, 3, 96, 64]}}
    content = {
        "source": {"kind": "python", "factory": f"{MODELS}:ssd"},
        "input": given,
        "detection": {"kind": "torchvision", "labels": LABELS},
    }
    Path("recipes/x.yaml").write_text("# A detector.\n" + yaml.safe_dump(content))
    assert main(["recipe=x", "tracking=none"]) == 2
    assert "takes pictures of 64 × 64" in capsys.readouterr().err
