"""What goes into an artifact and comes out of it, as the templates write it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from builder.errors import ConfigurationError
from builder.swift.words import identifiers

if TYPE_CHECKING:
    from builder.util.reading import JsonObject

Kind = Literal["picture", "array", "number", "integer", "text", "shares"]
"""A picture, an array, a double, a whole number, a text, or a probability for each label."""

_KINDS: Mapping[str, Kind] = {
    "image": "picture", "tensor": "array", "double": "number", "int64": "integer", "string": "text",
    "dictionary": "shares",
}  # fmt: skip
_SWIFT = {"picture": "CGImage", "number": "Double", "integer": "Int", "text": "String", "shares": "[String: Double]"}
_CASES = {"number": "number", "integer": "integer", "text": "text", "picture": "picture"}
_WHOLE = frozenset({"int8", "int16", "int32", "uint8", "uint16", "uint32", "bool"})


@dataclass(frozen=True, kw_only=True)
class Feature:
    """One input or output of one function."""

    name: str
    id: str
    kind: Kind
    dtype: str = ""
    shape: tuple[int, ...] = ()
    """Of an array; of a picture (height, width)."""
    layout: str = "RGB"
    is_levels: bool = False
    """Whether it is a picture that the artifact takes as an array of levels, as Core AI does."""
    is_open: bool = False
    """Whether the app, or the model, chooses some size."""
    other_sizes: str = ""
    """Which sizes an open one has, in words."""
    low: float | None = None
    """The least number that the app gives, as the recipe declares it."""
    high: float | None = None
    """The greatest, or, of whole numbers, the one beyond."""
    is_optional: bool = False
    default: float | None = None

    @property
    def is_whole(self) -> bool:
        """Whether an array holds whole numbers."""
        return self.dtype in _WHOLE

    @property
    def scalar(self) -> str:
        """The Swift type of an array's elements; half precision is widened, since not every Mac has the type."""
        return "Int32" if self.is_whole else "Float"

    @property
    def swift_type(self) -> str:
        """What the app gives or gets."""
        return f"[{self.scalar}]" if self.kind == "array" else _SWIFT[self.kind]

    @property
    def count(self) -> int:
        """How many elements an array has that is not open."""
        return math.prod(self.shape)

    @property
    def shape_id(self) -> str:
        """What a parameter or property for the shape is called."""
        return f"{self.id.strip('`')}Shape"

    @property
    def value(self) -> str:
        """The Swift expression that makes a value for the runner of the parameter."""
        if self.kind != "array":
            case = f"Feature.{_CASES[self.kind]}"
            return f"{self.id}.map({case})" if self.is_optional else f"{case}({self.id})"
        shape = self.shape_id if self.is_open else str(list(self.shape))
        case = "integers" if self.is_whole else "floats"
        if self.is_optional:
            return f"{self.id}.map {{ Feature.{case}($0, shape: {shape}) }}"
        return f"Feature.{case}({self.id}, shape: {shape})"

    @property
    def promise(self) -> str:
        """The condition on an element of an array that the recipe declares, and that checks rest on; perhaps empty."""
        low = "" if self.low is None else f"$0 >= {self.low:g}"
        high = "" if self.high is None else f"$0 {'<' if self.is_whole else '<='} {self.high:g}"
        return " && ".join(filter(None, (low, high)))

    @property
    def meaning(self) -> str:
        """What the documentation says of it."""
        match self.kind:
            case "picture":
                height, width = self.shape
                gray = "gray " if self.layout in ("G", "G16") else ""
                said = f"{gray}{width} × {height} pixels"
            case "array":
                said = " × ".join(map(str, self.shape)) or "an array of any shape"
                said += f" {'whole ' if self.is_whole else ''}number{'' if said == '1' else 's'}"
                said += ", the last axis fastest" if len(self.shape) > 1 else ""
            case "shares":
                said = "a probability for each label"
            case _:
                said = {"number": "a number", "integer": "a whole number", "text": "a text"}[self.kind]
        said += f"; {self.other_sizes}" if self.other_sizes else ""
        if self.is_optional and self.default is not None:
            said += f"; where it is left out, every element is {self.default:g}"
        elif self.is_optional:
            said += "; unless given, the model's own"
        if self.low is not None or self.high is not None:
            said += f"; each of them {_between(self)}"
        return said


def features(described: Iterable[Mapping[str, object]], *, taken: Sequence[str] = ()) -> tuple[Feature, ...]:
    """The features of one side of a function, as descriptions of artifacts have them.

    Raises ConfigurationError for a kind that no Swift is written for.
    """
    listed = list(described)
    ids = identifiers((str(each["name"]) for each in listed), taken=taken)
    return tuple(_feature(each, id_) for each, id_ in zip(listed, ids, strict=True))


def _feature(given: JsonObject, id_: str) -> Feature:
    kind = "picture" if _is_levels(given) else _KINDS.get(given["kind"])
    if kind is None:
        raise ConfigurationError(
            f"no Swift is written for the feature {given['name']}, which is of kind {given['kind']}", code="B0229"
        )
    default = given.get("default_value")
    return Feature(
        name=str(given["name"]),
        id=id_,
        kind=kind,
        dtype=str(given.get("dtype", "")),
        shape=_shape(given, kind),
        layout=str(given.get("color_layout", "RGB")),
        is_levels=_is_levels(given),
        is_open=_is_open(given, kind),
        other_sizes=other_sizes(given),
        is_optional=bool(given.get("optional")),
        default=None if default is None else float(default),
    )


def _is_levels(given: Mapping[str, object]) -> bool:
    """Whether an array of Core AI holds the levels of a picture."""
    is_array = given["kind"] == "tensor" and given.get("dtype") == "uint8"
    return is_array and given.get("color_layout") in ("RGB", "BGR", "G")


def _shape(given: JsonObject, kind: Kind) -> tuple[int, ...]:
    if _is_levels(given):
        return tuple(int(size) for size in given["shape"][2:])
    if kind == "picture":
        return (int(given["height"]), int(given["width"]))
    return tuple(int(size) for size in given.get("shape", ()))


def _is_open(given: JsonObject, kind: Kind) -> bool:
    if _is_levels(given):
        return "ranges" in given or "enumerated_shapes" in given
    if kind == "picture":
        return "size_ranges" in given or "enumerated_sizes" in given
    unknown = kind == "array" and (not given.get("shape") or any(int(size) < 1 for size in given["shape"]))
    return unknown or "ranges" in given or "enumerated_shapes" in given


def other_sizes(given: JsonObject) -> str:
    """The sizes that a feature may have besides its default, in words; empty where it has none."""
    ranges = given.get("ranges", given.get("size_ranges", [])[::-1] or None)  # of pictures the width first
    if ranges is not None:
        shown = " × ".join(str(low) if low == high else f"{low} to {_end(high)}" for low, high in ranges)
        return f"sizes may be {shown}"
    shapes = given.get("enumerated_shapes", [size[::-1] for size in given.get("enumerated_sizes", [])] or None)
    if shapes is not None:
        return "sizes may be " + ", ".join(" × ".join(map(str, shape)) for shape in shapes)
    return ""


def _between(feature: Feature) -> str:
    low = "" if feature.low is None else f"at least {feature.low:g}"
    most = "below" if feature.is_whole else "at most"
    high = "" if feature.high is None else f"{most} {feature.high:g}"
    return " and ".join(filter(None, (low, high)))


def _end(high: int | None) -> str:
    return "any" if high is None or high < 0 else str(high)
