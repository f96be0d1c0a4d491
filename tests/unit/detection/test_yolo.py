"""YOLO-style heads against the published formulas, written out cell by cell; and models that return boxes."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from builder.artifacts.stages import Suppression
from builder.errors import ConfigurationError
from builder.model.detection.detect import Detect, make_detect
from builder.model.detection.kept import keep_best
from builder.spec.detection import BoxesDetection, YoloDetection
from tests.recipes import detector_models

LABELS = ["cat", "dog", "cow"]
ANCHORS = [[[10.0, 13.0], [16.0, 30.0]], [[30.0, 61.0], [62.0, 45.0]], [[50.0, 50.0], [60.0, 20.0]]]
PICTURE = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(3))


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def one_cell(decode: str, values: list[float], x: int, y: int, stride: int, anchor: list[float]) -> list[float]:
    """Centre and size in pixels, by the formula of each version, from the numbers of one cell."""
    tx, ty, tw, th = values[:4]
    if decode == "v3":
        return [
            (sigmoid(tx) + x) * stride,
            (sigmoid(ty) + y) * stride,
            math.exp(tw) * anchor[0],
            math.exp(th) * anchor[1],
        ]
    if decode == "v5":
        return [
            (2 * sigmoid(tx) - 0.5 + x) * stride,
            (2 * sigmoid(ty) - 0.5 + y) * stride,
            (2 * sigmoid(tw)) ** 2 * anchor[0],
            (2 * sigmoid(th)) ** 2 * anchor[1],
        ]
    return [(tx + x) * stride, (ty + y) * stride, math.exp(tw) * stride, math.exp(th) * stride]


def four_sides(values: list[float], bins: int, x: int, y: int, stride: int) -> list[float]:
    """Centre and size in pixels of v8: the mean of each side's distribution, in cells from the middle of a cell."""
    sides = []
    for side in range(4):
        weights = [math.exp(v) for v in values[side * bins : (side + 1) * bins]]
        sides.append(sum(i * w for i, w in enumerate(weights)) / sum(weights))
    left, top, right, bottom = x + 0.5 - sides[0], y + 0.5 - sides[1], x + 0.5 + sides[2], y + 0.5 + sides[3]
    return [(left + right) / 2 * stride, (top + bottom) / 2 * stride, (right - left) * stride, (bottom - top) * stride]


def decode(model: Any, **settings: Any) -> tuple[Tensor, Tensor]:
    detection = YoloDetection(kind="yolo", labels=LABELS, output="raw", **settings)
    with torch.no_grad():
        found = make_detect(detection, 3, model, PICTURE).tensors(model, PICTURE)
    return found["boxes"], found["scores"]


@pytest.mark.parametrize("version", ["v3", "v5", "x", "v8"])
def test_maps_are_decoded_as_published(version: str) -> None:
    # given maps with two anchors, or with none and 6 bins for each side of a box
    anchors = ANCHORS if version in ("v3", "v5") else None
    model: Any = detector_models.heads({"v3": 16, "v5": 16, "x": 8, "v8": 27}[version])
    with torch.no_grad():
        maps = model(PICTURE)
    # when
    boxes, scores = decode(model, decode=version, anchors=anchors)
    # then
    index = 0
    for number, (level, stride) in enumerate(zip(maps, (8, 16, 32), strict=True)):
        for anchor in anchors[number] if anchors else [[0.0, 0.0]]:
            first = 8 * anchors[number].index(anchor) if anchors else 0
            for y in range(64 // stride):
                for x in range(64 // stride):
                    values = level[0, first:, y, x].tolist()
                    if version == "v8":
                        expected = four_sides(values, 6, x, y, stride)
                        chances = [sigmoid(v) for v in values[24:27]]
                    else:
                        expected = one_cell(version, values, x, y, stride, anchor)
                        chances = [sigmoid(v) * sigmoid(values[4]) for v in values[5:8]]
                    assert boxes[index].tolist() == pytest.approx([v / 64 for v in expected], rel=1e-4, abs=1e-5)
                    assert scores[index].tolist() == pytest.approx(chances, rel=1e-4)
                    index += 1
    assert index == len(boxes) == len(scores)


@pytest.mark.parametrize("form", ["columns", "rows"])
@pytest.mark.parametrize("channels", [7, 8])
def test_decoded_boxes_are_taken_as_they_are(form: str, channels: int) -> None:
    model: Any = detector_models.heads(channels, form)
    with torch.no_grad():
        rows = model(PICTURE)[0]
    rows = rows.T if form == "columns" else rows
    boxes, scores = decode(model)
    assert torch.allclose(boxes, rows[:, :4] / 64)
    expected = rows[:, 4:] if channels == 7 else rows[:, 5:] * rows[:, 4:5]
    assert torch.equal(scores, expected)


def test_a_box_is_of_its_best_class() -> None:
    model = detector_models.heads(7, "columns")
    stage = Suppression(iou_threshold=0.45, confidence_threshold=0.95, detections=100)
    detection = YoloDetection(kind="yolo", labels=LABELS, candidates=70)
    with torch.no_grad():
        detect = make_detect(detection, 3, model, PICTURE)
        given = detect.tensors(model, PICTURE)
        expected = detect.original(model, PICTURE, stage)
    assert given["raw_confidence"].shape == (70, 3)
    assert int((given["raw_confidence"] > 0).sum()) == 70
    found = keep_best(given["raw_coordinates"], given["raw_confidence"], stage)
    assert torch.equal(found.boxes, expected.boxes)
    assert len(found.scores) > 5


@pytest.mark.parametrize("form", ["corners", "corner_size", "center_size"])
@pytest.mark.parametrize("unit", ["pixels", "share"])
@pytest.mark.parametrize(("activation", "background"), [("none", "none"), ("sigmoid", "first"), ("softmax", "last")])
def test_boxes_of_every_form(form: str, unit: str, activation: str, background: str) -> None:
    # given boxes as centre and size in shares, and what the model makes of them
    generator = torch.Generator().manual_seed(0)
    center, size = torch.rand(2, 9, 2, generator=generator)
    low = center - size / 2
    written = {"corners": (low, low + size), "corner_size": (low, size), "center_size": (center, size)}[form]
    scores = torch.randn(1, 9, 4, generator=generator)

    class Model(torch.nn.Module):
        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            scale = torch.tensor([64.0, 32.0, 64.0, 32.0]) if unit == "pixels" else 1.0
            return scores, torch.cat(written, 1) * scale

    model, picture = Model(), torch.zeros(1, 3, 32, 64)
    detection = BoxesDetection(
        kind="boxes", labels=LABELS, output="raw", boxes="output_1", scores="output_0",
        form=form, unit=unit, activation=activation, background=background,
    )  # fmt: skip
    # when
    found = make_detect(detection, 3, model, picture).tensors(model, picture)
    # then
    torch.testing.assert_close(found["boxes"], torch.cat([center, size], 1), rtol=1e-5, atol=1e-6)
    chances = {"none": scores, "sigmoid": scores.sigmoid(), "softmax": scores.softmax(-1)}[activation][0]
    expected = {"none": chances, "first": chances[:, 1:], "last": chances[:, :3]}[background]
    torch.testing.assert_close(found["scores"], expected)


def made(channels: int, form: str, **settings: Any) -> Detect:
    detection = YoloDetection(kind="yolo", labels=LABELS, **settings)
    with torch.no_grad():
        return make_detect(detection, 3, detector_models.heads(channels, form), PICTURE)


@pytest.mark.parametrize(
    ("channels", "form", "settings", "said"),
    [
        (9, "columns", {}, r"with 3 labels, decoded boxes have 7 or 8 channels.*1 tensor of shape \(1, 9, 84\)"),
        (8, "maps", {}, "returns 3 tensors"),
        (16, "columns", {"decode": "x"}, r"each map has the shape \(1, channels, h, w\)"),
        (16, "maps", {"decode": "x"}, "each map has 8 channels"),
        (15, "maps", {"decode": "v5", "anchors": ANCHORS}, "each map has 16 channels"),
        (16, "maps", {"decode": "v5", "anchors": ANCHORS[:2]}, "anchors for 2 maps"),
        (16, "maps", {"decode": "v3", "anchors": [*ANCHORS, ANCHORS[0]]}, "anchors for 4 maps"),
        (16, "maps", {"decode": "v8"}, "4 times the bins of a distance and 3 channels"),
    ],
)
def test_what_the_model_returns_must_be_what_the_recipe_says(
    channels: int, form: str, settings: dict[str, Any], said: str
) -> None:
    with pytest.raises(ConfigurationError, match=said):
        made(channels, form, **settings)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({}, "the model returns where, what, other, and none of them is boxes"),
        ({"boxes": "where", "scores": "waht"}, "none of them is waht"),
        ({"boxes": "what", "scores": "where"}, r"what of shape \(1, 84, 3\)"),
        ({"boxes": "where", "scores": "other"}, r"other of \(1, 7, 8, 8\)"),
    ],
)
def test_boxes_and_scores_are_found_by_their_names(settings: dict[str, Any], said: str) -> None:
    detection = BoxesDetection(kind="boxes", labels=LABELS, **settings)
    with pytest.raises(ConfigurationError, match=said), torch.no_grad():
        make_detect(detection, 3, detector_models.heads(7, "named"), PICTURE)
