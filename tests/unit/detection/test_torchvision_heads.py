"""Decoding, candidates and suppression together keep what torchvision's own forward keeps."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from builder.artifacts.stages import Suppression
from builder.model.detection.detect import make_detect
from builder.model.detection.kept import Detections, keep_best
from builder.spec.detection import TorchvisionDetection
from tests.recipes import detector_models

MODELS = {"ssd": 1, "retinanet": 0, "fcos": 0, "faster": 1}
"""By name, how many of its first classes are the background."""


def picture(seed: int, side: int = detector_models.SIDE) -> Tensor:
    return torch.randn(1, 3, side, side, generator=torch.Generator().manual_seed(seed))


def make(name: str, seed: int, **settings: Any) -> Any:
    """A model with settings by the names of SSD's arguments."""
    if name == "faster":
        settings.pop("topk_candidates", None)  # of a first stage, which has its own
        settings = {f"box_{key}": value for key, value in settings.items()}
    return getattr(detector_models, name)(seed, **settings)


def torchvision_finds(model: Any, normalized: Tensor, *, background: int) -> Detections:
    """The model as torchvision runs it: pictures of 0 to 1, with the transform that scales and normalises them."""
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (model.transform.image_mean, model.transform.image_std))
    model.transform.min_size, model.transform.max_size = (detector_models.SIDE,), detector_models.SIDE
    with torch.no_grad():
        (found,) = model(list(normalized * std + mean))
    low, high = found["boxes"][:, :2] / detector_models.SIDE, found["boxes"][:, 2:] / detector_models.SIDE
    boxes = torch.cat([(low + high) / 2, high - low], dim=1)
    return Detections(boxes=boxes, scores=found["scores"], classes=found["labels"] - background)


def ours(model: nn.Module, normalized: Tensor, stage: Suppression, candidates: int = 5000) -> Detections:
    detection = TorchvisionDetection(kind="torchvision", labels=["a"], candidates=candidates)
    with torch.no_grad():
        given = make_detect(detection, 3, model, normalized).tensors(model, normalized)
    return keep_best(given["raw_coordinates"], given["raw_confidence"], stage)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("name", MODELS)
def test_the_same_boxes_are_kept(name: str, seed: int) -> None:
    # given torchvision's thresholds, and limits on what it looks at that cut
    model = make(name, seed, score_thresh=0.3, nms_thresh=0.4, topk_candidates=8, detections_per_img=9)
    normalized = picture(seed)
    stage = Suppression(iou_threshold=0.4, confidence_threshold=0.3, detections=9)
    expected = torchvision_finds(model, normalized, background=MODELS[name])
    # when
    found = ours(model, normalized, stage)
    # then several boxes of a class, and the same ones in the same order
    assert expected.classes.bincount().max() >= 3
    torch.testing.assert_close(found.boxes, expected.boxes, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found.scores, expected.scores, rtol=1e-4, atol=1e-6)
    assert found.classes.tolist() == expected.classes.tolist()


@pytest.mark.parametrize("name", MODELS)
def test_the_original_is_torchvisions_own_forward_at_our_thresholds(name: str) -> None:
    model = make(name, 1, score_thresh=0.25, nms_thresh=0.5, detections_per_img=9)
    expected = torchvision_finds(model, picture(1), background=MODELS[name])
    # given the same model with other thresholds
    last: Any = model.roi_heads if name == "faster" else model
    last.score_thresh, last.nms_thresh, last.detections_per_img = 0.9, 0.1, 1
    detection = TorchvisionDetection(kind="torchvision", labels=["a"])
    # when
    with torch.no_grad():
        detect = make_detect(detection, 3, model, picture(1))
        found = detect.original(
            model, picture(1), Suppression(iou_threshold=0.5, confidence_threshold=0.25, detections=9)
        )
    # then those of the model are as they were
    torch.testing.assert_close(found.boxes, expected.boxes)
    assert found.classes.tolist() == expected.classes.tolist()
    assert (last.score_thresh, last.nms_thresh, last.detections_per_img) == (0.9, 0.1, 1)
    assert type(model.transform).__name__ == "GeneralizedRCNNTransform"


def test_sizes_that_the_pyramid_does_not_divide_are_padded_as_torchvision_pads_them() -> None:
    model = detector_models.retinanet(2, score_thresh=0.3)
    given = picture(2, side=50)
    detection = TorchvisionDetection(kind="torchvision", labels=["a"], candidates=5000)
    stage = Suppression(iou_threshold=0.5, confidence_threshold=0.3, detections=50)
    with torch.no_grad():
        detect = make_detect(detection, 3, model, given)
        raw, expected = detect.tensors(model, given), detect.original(model, given, stage)
    found = keep_best(raw["raw_coordinates"], raw["raw_confidence"], stage)
    assert len(expected.scores) > 3
    torch.testing.assert_close(found.boxes, expected.boxes, rtol=1e-4, atol=1e-5)
    assert float((found.boxes[:, :2] + found.boxes[:, 2:] / 2).max()) <= 1 + 1e-5


def test_raw_boxes_are_all_of_them() -> None:
    model = detector_models.ssd(0)
    detection = TorchvisionDetection(kind="torchvision", labels=["a"], output="raw")
    with torch.no_grad():
        given = make_detect(detection, 3, model, picture(0)).tensors(model, picture(0))
    assert list(given) == ["scores", "boxes"]
    assert given["scores"].shape == (4 * (64 + 16 + 4), 3)
    assert given["boxes"].shape == (4 * (64 + 16 + 4), 4)
