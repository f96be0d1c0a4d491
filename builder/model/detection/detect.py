"""From a recipe's `detection` to the part of the captured module that decodes, and to the stage behind it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from builder.artifacts.stages import Suppression
from builder.errors import ConfigurationError
from builder.model.detection.candidates import Candidates
from builder.model.detection.head import Head
from builder.model.detection.kept import Detections
from builder.model.detection.plain import PlainHead
from builder.model.detection.pyramids import FcosHead, RetinaHead, SsdHead
from builder.model.detection.two_stage import TwoStageHead, finds_more
from builder.model.detection.yolo import YoloHead
from builder.model.torchvision_import import import_torchvision
from builder.spec.detection import BoxesDetection, Detection, TorchvisionDetection, YoloDetection
from builder.spec.detection_names import CANDIDATES, DECODED

OF_ALL = 8
"""How many times as many candidates, where the proposals of two stages are not suppressed: they overlap that much."""


class Detect(nn.Module):
    """Runs the model and decodes what it returns: the candidates for non-maximum suppression, or all boxes.

    Part of the captured module, for one size of picture.
    """

    def __init__(self, head: nn.Module, candidates: Candidates | None) -> None:
        super().__init__()
        self.decode_boxes = head
        self.choose_boxes = candidates

    def tensors(self, model: nn.Module, picture: Tensor) -> dict[str, Tensor]:
        """What the program gives for a normalised picture (1, C, H, W), by name."""
        boxes, scores = self._head.run(model, picture)
        if self.choose_boxes is None:
            return dict(zip(DECODED, (scores, boxes), strict=True))
        return dict(zip(CANDIDATES, self.choose_boxes(boxes, scores), strict=True))

    def more(self, model: nn.Module, picture: Tensor) -> dict[str, Tensor]:
        """As `tensors`, with twice as many candidates: rounding brings others over the edge.

        Of two stages those of all boxes that may be proposals, of which more are candidates.
        """
        assert self.choose_boxes is not None, "raw boxes have no candidates"
        head = self.decode_boxes
        factor = OF_ALL if isinstance(head, TwoStageHead) else 2
        boxes, scores = (head.run_all if isinstance(head, TwoStageHead) else self._head.run)(model, picture)
        wider = Candidates(self.choose_boxes.pool, factor * self.choose_boxes.count)
        return dict(zip(CANDIDATES, wider(boxes, scores), strict=True))

    @property
    def decides_twice(self) -> bool:
        """Whether boxes are chosen before they have classes: rounding there changes what is found."""
        return isinstance(self.decode_boxes, TwoStageHead)

    def original(self, model: nn.Module, picture: Tensor, suppression: Suppression) -> Detections:
        """What the model itself keeps."""
        return self._head.original(model, picture, suppression)

    @property
    def _head(self) -> Head:
        return self.decode_boxes  # type: ignore[return-value]  # a module that is a Head, which mypy sees as a plain module


def make_detect(detection: Detection, classes: int, model: nn.Module, picture: Tensor) -> Detect:
    """The decoding part for `model` and pictures like `picture` (1, C, H, W), normalised.

    `classes` is the number of labels, where the recipe lists them.

    Raises ConfigurationError where the recipe does not fit the model.
    """
    with torch.no_grad():
        head = _head(detection, classes, model, picture)
        pool: Any = head.pool  # how the head pools, which mypy sees as a plain module or tensor
        candidates = Candidates(pool, detection.candidates) if detection.output == "nms" else None
    return Detect(head, candidates).eval()


def _head(detection: Detection, classes: int, model: nn.Module, picture: Tensor) -> nn.Module:
    match detection:
        case TorchvisionDetection():
            return _of_torchvision(model, picture)
        case YoloDetection():
            return YoloHead(detection, classes, model, picture)
        case BoxesDetection():
            return PlainHead(detection, model, picture)


def is_detector(model: nn.Module) -> bool:
    """Whether torchvision's own transform prepares what `model` takes: it is one of its detectors."""
    transform = getattr(model, "transform", None)
    return any(kind.__name__ == "GeneralizedRCNNTransform" for kind in type(transform).__mro__)


def takes(model: nn.Module) -> bool:
    """Whether `kind: torchvision` knows how to decode the boxes of `model`."""
    return any(isinstance(model, kind) for kind in _kinds()) and not finds_more(model)


def _kinds() -> dict[type[nn.Module], Callable[[nn.Module, Tensor], nn.Module]]:
    detection = import_torchvision().models.detection
    return {
        detection.ssd.SSD: SsdHead,
        detection.retinanet.RetinaNet: RetinaHead,
        detection.fcos.FCOS: FcosHead,
        detection.faster_rcnn.FasterRCNN: TwoStageHead,
    }


def _of_torchvision(model: Any, picture: Tensor) -> nn.Module:
    kinds = _kinds()
    made = next((head for kind, head in kinds.items() if isinstance(model, kind)), None)
    if made is None:
        raise ConfigurationError(
            f"detection of kind torchvision takes {', '.join(kind.__name__ for kind in kinds)}, "
            f"and the model is a {type(model).__name__}",
            code="B0251",
            hint="`kind: boxes` is for models that return boxes and scores, `kind: yolo` for YOLO-style ones",
            key="detection.kind",
        )
    fixed = model.transform.fixed_size
    size = tuple(picture.shape[-2:])
    if fixed is not None and size != (fixed[1], fixed[0]):
        raise ConfigurationError(
            f"the model takes pictures of {fixed[1]} × {fixed[0]} (height × width), and the recipe gives "
            f"{size[0]} × {size[1]}",
            code="B0251",
            hint=f"write `shape: [1, 3, {fixed[1]}, {fixed[0]}]`; Vision scales pictures to it",
            key="input",
        )
    return made(model, picture)


def resolve_suppression(detection: Detection, detect: Detect) -> Suppression | None:
    """The thresholds of the recipe, or where it says none those of the model; None where boxes are given raw."""
    if detection.output == "raw":
        return None
    defaults = detect._head.defaults
    iou, confidence, most = detection.iou_threshold, detection.confidence_threshold, detection.detections
    return Suppression(
        iou_threshold=defaults.iou_threshold if iou is None else iou,
        confidence_threshold=defaults.confidence_threshold if confidence is None else confidence,
        detections=defaults.detections if most is None else most,
    )
