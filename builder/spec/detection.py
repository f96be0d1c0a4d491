"""A detector: how boxes come out of what the model returns, and what the app gets of them."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from builder.spec.base import FilePath, Part, PositiveInt
from builder.spec.inputs import Finite
from builder.spec.outputs import LabelList

Share = Annotated[Finite, Field(ge=0.0, le=1.0)]
"""A number from 0 to 1."""

Anchor = Annotated[list[Annotated[Finite, Field(gt=0.0)]], Field(min_length=2, max_length=2)]
"""Width and height in pixels of the input."""


class _Detector(Part):
    """What detectors of all kinds have."""

    output: Literal["nms", "raw"] = "nms"
    """`nms` ends with Core ML's own non-maximum suppression, as Vision and Xcode's preview want it: `confidence`
    (boxes, classes) and `coordinates` (boxes, 4). `raw` gives all boxes, decoded: `scores` (N, classes) and `boxes`.

    Coordinates are x and y of the centre, width and height, as shares of the picture's width and height.
    """
    iou_threshold: Share | None = None
    """A box goes that overlaps a better one of its class by more than this, as intersection over union; the app may
    give another as `iouThreshold`. Unless given the torchvision model's own, 0.45 for other kinds."""
    confidence_threshold: Share | None = None
    """Boxes below this go; the app may give another as `confidenceThreshold`. Unless given the torchvision model's own,
    0.25 for other kinds."""
    candidates: PositiveInt = 1000
    """How many pairs of box and class, the best, non-maximum suppression sees at most: its time grows with the square
    of what is over the threshold."""
    detections: PositiveInt | None = None
    """How many boxes are kept at most. Unless given the torchvision model's own, 300 for other kinds."""


class TorchvisionDetection(_Detector):
    """A detection model of torchvision, SSD, RetinaNet, FCOS or Faster R-CNN, from any source.

    Boxes are decoded as it decodes them itself, and may be of several classes.
    """

    kind: Literal["torchvision"]
    labels: Literal["from_weights"] | FilePath | LabelList = "from_weights"
    """`from_weights`, a text file (UTF-8) with one label a line, or the labels; without the background where the model
    has one."""


class YoloDetection(_Detector):
    """A YOLO-style head. A box is of its best class, with the probability of that times its objectness.

    Whether there is an objectness follows from the number of channels: 4 + classes, or 5 + classes.
    """

    kind: Literal["yolo"]
    labels: FilePath | LabelList
    """A text file (UTF-8) with one label a line, or the labels themselves."""
    decode: Literal["none", "v3", "v5", "x", "v8"] = "none"
    """What is left to do. `none`: the model returns one array, (1, channels, boxes) or (1, boxes, channels), of centres
    and sizes in pixels and of probabilities. Others: it returns its maps (1, channels, h, w), and boxes are decoded by
    the formulas of YOLOv3, of v5 (and v7), of YOLOX, or of v8 (and later; distances to four sides as distributions).
    """
    anchors: list[Annotated[list[Anchor], Field(min_length=1)]] | None = None
    """For v3 and v5: of each map, in the order in which the model returns them, [width, height] of each anchor."""

    @model_validator(mode="after")
    def _anchors_where_needed(self) -> YoloDetection:
        needed = self.decode in ("v3", "v5")
        if needed != (self.anchors is not None):
            raise ValueError(
                f"decode {self.decode} needs anchors: [width, height] of each, for each map"
                if needed
                else f"decode {self.decode} has no anchors"
            )
        return self


class BoxesDetection(_Detector):
    """A model that returns boxes (boxes, 4) and scores (boxes, classes), each perhaps with a 1 in front.

    A box is of its best class.
    """

    kind: Literal["boxes"]
    labels: FilePath | LabelList
    """A text file (UTF-8) with one label a line, or the labels themselves; without the background."""
    boxes: str = "boxes"
    """What the model calls its boxes; `output_0`, … by their place where it returns a tuple."""
    scores: str = "scores"
    """What the model calls its scores."""
    form: Literal["corners", "corner_size", "center_size"] = "corners"
    """`corners`: left, top, right, bottom. `corner_size`: left, top, width, height. `center_size`: centre and size."""
    unit: Literal["pixels", "share"] = "pixels"
    """Pixels of the input, or shares of its width and height."""
    activation: Literal["none", "sigmoid", "softmax"] = "none"
    """What makes probabilities of the scores."""
    background: Literal["none", "first", "last"] = "none"
    """The class that means nothing, which is left out after the activation."""


Detection = Annotated[TorchvisionDetection | YoloDetection | BoxesDetection, Field(discriminator="kind")]
