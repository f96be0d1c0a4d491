"""Models that a library knows by name: size, normalisation and labels as published with the weights."""

from __future__ import annotations

from typing import Any

from builder.analysis.init.detectors import inspect_detector
from builder.analysis.init.draft import OFFLINE, Draft
from builder.errors import ConfigurationError
from builder.model.sources.optional import optional_packages
from builder.model.torchvision_import import import_torchvision
from builder.util.suggest import did_you_mean

SIZE = "(N, C, H, W): the size that the weights were published for; other sizes work with many models."
NORMALISED = "Mean and std as published with the weights, computed exactly inside the artifact."


def inspect_torchvision(model: str, name: str) -> Draft:
    """A classification, segmentation or detection model of torchvision; raises ConfigurationError for any other."""
    models = import_torchvision().models
    known = models.list_models()
    if model not in known:
        raise ConfigurationError(f"torchvision has no model {model}", code="B0266", hint=did_you_mean(model, known))
    if model in models.list_models(module=models.detection):
        return inspect_detector(model, name)
    classifies = model in models.list_models(module=models)
    if not classifies and model not in models.list_models(module=models.segmentation):
        raise ConfigurationError(
            f"init does not know what torchvision's {model} takes and gives",
            code="B0266",
            hint="it knows classification, segmentation and detection; wrap others: package.module:function",
        )
    weights = models.get_model_weights(model).DEFAULT
    size = _square(getattr(weights.transforms(), "crop_size", None) or weights.transforms().resize_size)
    return Draft(
        name=name,
        title=f"torchvision's {model} with its published weights ({weights.name}).",
        source={"kind": "torchvision", "name": model, "weights": weights.name, "offline": "seeded"},
        inputs={"image": {"kind": "image", "shape": [1, 3, *size], "color_layout": "RGB", "from_weights": True}},
        classifier={"labels": "from_weights"} if classifies and weights.meta.get("categories") else {},
        why={
            "source.weights": "The weights that torchvision calls its best; its documentation lists others.",
            "source.offline": OFFLINE,
            "input.image.shape": SIZE,
            "input.image.from_weights": NORMALISED,
            "classifier.labels": "The names of the classes as published with the weights.",
        },
    )


def _square(size: Any) -> tuple[int, int]:
    side = int(size[0]) if isinstance(size, list | tuple) else int(size)
    return side, side


def inspect_timm(model: str, name: str) -> Draft:
    """A model of timm with its data configuration; raises ConfigurationError for an unknown name."""
    import_torchvision()  # timm imports it, and would fail where its compiled operators do not load
    with optional_packages("timm"):
        import timm
    architecture, _, tag = model.partition(".")
    if not timm.is_model(architecture) or (tag and model not in timm.list_pretrained(f"{architecture}.*")):
        known = [*timm.list_models(), *timm.list_pretrained()]
        raise ConfigurationError(f"timm has no model {model}", code="B0266", hint=did_you_mean(model, known))
    published = bool(timm.list_pretrained(f"{architecture}.*"))
    configuration = timm.get_pretrained_cfg(model, allow_unregistered=True)
    channels, *size = configuration.input_size if configuration else (3, 224, 224)
    source: dict[str, object] = {"kind": "timm", "name": model}
    if published:
        source |= {"pretrained": True, "offline": "seeded"}
    return Draft(
        name=name,
        title=f"timm's {model}{' with its published weights' if published else ', untrained'}.",
        source=source,
        inputs={
            "image": {
                "kind": "image",
                "shape": [1, channels, *size],
                "color_layout": "RGB" if channels == 3 else "G",
                "from_weights": True,
            }
        },
        why={
            "source.offline": OFFLINE,
            "input.image.shape": SIZE,
            "input.image.from_weights": "Mean and std of timm's data configuration, exactly, inside the artifact.",
        },
        suggestions=CLASSIFIER,
    )


CLASSIFIER = (
    "To make it a classifier, whose answer is a label, give one label a line in the order of the classes:",
    "classifier:",
    "  labels: labels.txt",
)
