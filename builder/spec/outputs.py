"""What the artifact gives: named outputs, class labels and the metadata that Xcode shows."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from builder.spec.base import FeatureName, FilePath, Part

FROM_WEIGHTS = "from_weights"


class TensorOutput(Part):
    """An output array; outputs are matched with what the model returns by order."""

    kind: Literal["tensor"] = "tensor"
    dtype: Literal["float32", "float16"] = "float32"
    """The dtype that the app receives (float16 needs iOS 16)."""


class Classifier(Part):
    """Makes the artifact a Core ML classifier: a predicted label and a dictionary of probabilities."""

    labels: Literal["from_weights"] | FilePath | Annotated[list[str], Field(min_length=1)]
    """`from_weights`, a text file with one label a line, or the labels themselves."""
    softmax: bool = True
    """Whether the model returns logits, which the artifact turns into probabilities."""
    predicted_feature_name: FeatureName = "classLabel"
    """The name of the output that holds the best label."""


class Metadata(Part):
    """What Xcode shows about the model."""

    author: str = ""
    license: str = ""
    version: str = ""
    description: str = ""
    user: dict[str, str] = {}
    """Further metadata of the user's own, key and value."""
