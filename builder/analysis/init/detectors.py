"""torchvision's detectors: what each takes, and that their boxes are decoded and thinned out in the artifact."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from builder.analysis.init.draft import OFFLINE, Draft
from builder.errors import ConfigurationError
from builder.model.detection.detect import takes
from builder.model.torchvision_import import import_torchvision

if TYPE_CHECKING:
    from builder.model.detection.pyramids import Detector

FREE_SIZE = (640, 640)
"""For models that take any: small enough for a phone, and close to what they were trained on."""
CONFIDENCE = 0.3
"""What an app shows; torchvision's own thresholds keep hundreds of boxes, for measuring precision and recall."""


def inspect_detector(model: str, name: str) -> Draft:
    """A detection model; raises ConfigurationError for a kind that detection does not know."""
    models = import_torchvision().models
    weights = models.get_model_weights(model).DEFAULT
    with torch.device("meta"):
        made = models.get_model(model, weights=None, weights_backbone=None)
    if not takes(made):
        raise ConfigurationError(
            f"detection does not know torchvision's {model}, a {type(made).__name__}",
            code="B0266",
            hint="wrap it in a factory that returns boxes and scores: `detection: {kind: boxes}`",
        )
    return Draft(
        name=name,
        title=f"torchvision's {model} with its published weights ({weights.name}).",
        source={"kind": "torchvision", "name": model, "weights": weights.name, "offline": "seeded"},
        inputs={"image": {"kind": "image", "shape": [1, 3, *_size(made)], "color_layout": "RGB", "from_weights": True}},
        detection={"kind": "torchvision", "labels": "from_weights", "confidence_threshold": CONFIDENCE},
        why={
            "source.weights": "The weights that torchvision calls its best; its documentation lists others.",
            "source.offline": OFFLINE,
            "input.image.shape": "(N, C, H, W): Vision scales pictures to this size.",
            "input.image.from_weights": "Mean and std of the transform inside the model, exactly, in the artifact.",
            "detection.labels": "The names of the classes as published with the weights.",
            "detection.confidence_threshold": (
                f"Boxes below this go, unless the app says otherwise; torchvision's own {_own_threshold(made):g} is "
                "for measuring recall."
            ),
        },
        target="ios16",
    )


def _size(model: Detector) -> tuple[int, int]:
    fixed = model.transform.fixed_size
    return FREE_SIZE if fixed is None else (int(fixed[1]), int(fixed[0]))


def _own_threshold(model: Detector) -> float:
    """What torchvision itself keeps boxes from."""
    return float(getattr(model, "score_thresh", None) or model.roi_heads.score_thresh)
