"""What a model takes, gives and keeps, as `build.json` and the store hold it: dictionaries with known keys."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, NotRequired

from pydantic import ConfigDict, with_config
from typing_extensions import TypedDict

_OPEN = ConfigDict(extra="allow")


@with_config(_OPEN)
class TensorFeature(TypedDict):
    """An input or output that is an array; further keys say what is optional and flexible."""

    name: str
    kind: Literal["tensor"]
    shape: list[int]
    dtype: str
    optional: NotRequired[bool]
    default_value: NotRequired[float]
    ranges: NotRequired[list[list[int]]]
    enumerated_shapes: NotRequired[list[list[int]]]
    color_layout: NotRequired[str]
    """Of an array of Core AI that is a picture."""


@with_config(_OPEN)
class ImageFeature(TypedDict):
    """An input or output that is a picture."""

    name: str
    kind: Literal["image"]
    width: int
    height: int
    color_layout: str
    optional: NotRequired[bool]
    size_ranges: NotRequired[list[list[int]]]
    enumerated_sizes: NotRequired[list[list[int]]]


@with_config(_OPEN)
class StateFeature(TypedDict):
    """An array that a model keeps from one prediction to the next."""

    name: str
    kind: Literal["state"]
    shape: list[int]
    dtype: str


@with_config(_OPEN)
class OtherFeature(TypedDict):
    """A feature that is neither: the label of a classifier, a number."""

    name: str
    kind: Literal["dictionary", "double", "int64", "sequence", "string"]
    optional: NotRequired[bool]


Feature = TensorFeature | ImageFeature | StateFeature | OtherFeature
Interface = Mapping[str, tuple[Feature, ...]]
"""The features of a model or of one of its functions: `inputs`, `outputs` and `states`."""
