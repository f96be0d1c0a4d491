"""What the artifact gives: named outputs, class labels and the metadata that Xcode shows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field

from builder.spec.base import FeatureName, FilePath, Part
from builder.spec.inputs import PerChannel

FROM_WEIGHTS = "from_weights"


class TensorOutput(Part):
    """An output array; matched with what the model returns by name where that is its own, else by order."""

    kind: Literal["tensor"] = "tensor"
    dtype: Literal["float32", "float16", "int32"] | None = None
    """The dtype that the app receives (float16 needs iOS 16); unless given float32, and int32 for integers."""
    source_name: str | None = None
    """What the model itself calls this output, where the artifact shall call it otherwise."""


class ImageOutput(Part):
    """A picture: the app receives a pixel buffer. The model returns (1, C, H, W).

    Levels are `scale*y + bias` of what the model returns, clipped to 0 to 255 and rounded; G16 is neither.
    """

    kind: Literal["image"]
    color_layout: Literal["RGB", "BGR", "G", "G16"] = "RGB"
    """What the model's channels mean; G16 is grayscale in half precision (iOS 16)."""
    scale: PerChannel | None = None
    """Factor that makes levels of 0 to 255 of what the model returns; 255 for 0 to 1, 127.5 for -1 to 1."""
    bias: PerChannel | None = None
    """Added after `scale`; 0 unless given. 127.5 for -1 to 1."""
    source_name: str | None = None
    """What the model itself calls this output, where the artifact shall call it otherwise."""


Output = Annotated[TensorOutput | ImageOutput, Field(discriminator="kind")]


def _tensor_unless_said(entries: object) -> Any:
    """Let an output be named without any setting (`logits:`), and be an array unless it says another kind."""
    if not isinstance(entries, Mapping):
        return entries
    return {
        name: {"kind": "tensor", **(entry or {})} if entry is None or isinstance(entry, Mapping) else entry
        for name, entry in entries.items()
    }


Outputs = Annotated[dict[FeatureName, Output], BeforeValidator(_tensor_unless_said)]


def _label(value: str) -> str:
    if not value.strip():
        raise ValueError("must not be empty: every class has a label")
    return value


def _each_once(labels: list[str]) -> list[str]:
    first: dict[str, int] = {}
    for index, label in enumerate(labels):
        if first.setdefault(label, index) != index:
            raise ValueError(
                f"`{label}` labels class {first[label]} and class {index}: the answer names classes by label, so each "
                f"needs its own"
            )
    return labels


LabelList = Annotated[list[Annotated[str, AfterValidator(_label)]], Field(min_length=1), AfterValidator(_each_once)]


class Classifier(Part):
    """Makes the artifact a Core ML classifier: a predicted label and a dictionary of probabilities."""

    labels: Literal["from_weights"] | FilePath | LabelList
    """`from_weights`, a text file (UTF-8) with one label a line, or the labels themselves."""
    softmax: bool = True
    """Whether the model returns logits, which the artifact turns into probabilities."""
    predicted_feature_name: FeatureName = "classLabel"
    """The name of the output that holds the best label."""


class Metadata(Part):
    """What Xcode shows about the model. A finished Core ML model keeps its own where the recipe says nothing."""

    author: str = ""
    license: str = ""
    version: str = ""
    description: str = ""
    user: dict[str, str] = {}
    """Further metadata of the user's own, key and value."""
