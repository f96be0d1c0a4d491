"""Existing Core ML models: inputs, outputs, labels, format and system as the file declares them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from builder.analysis.init.draft import Draft
from builder.backends.coreml.description import describe_artifact
from builder.errors import SourceError
from builder.model.sources.coreml import dimension

if TYPE_CHECKING:
    from collections.abc import Iterable

    from builder.util.reading import JsonObject

LEVELS = "Levels of 0 to 255 as they are: what the file does with them stays inside."

TARGETS = {4: "ios13", 5: "ios14", 6: "ios15", 7: "ios16", 8: "ios17", 9: "ios18", 10: "ios26"}
"""The oldest system for each specification version of Core ML."""


def inspect_coreml(path: Path, written: str, name: str) -> Draft:
    """Read the file's own description; raises SourceError when it is damaged."""
    try:
        found = describe_artifact(path)
    except Exception as error:  # protobuf and coremltools' reader raise types of their own on damaged files
        raise SourceError(
            f"{path} is damaged, or no Core ML model: {type(error).__name__}: {error}", code="B0302"
        ) from error
    is_program = path.suffix == ".mlpackage"
    inputs = {feature["name"]: _input(feature) for feature in found.inputs}
    outputs = {f["name"]: _output(f) for f in found.outputs if f["kind"] in ("tensor", "image", "dictionary")}
    return Draft(
        name=f"{name}_again",
        title=f"The Core ML model {path.name}, to compress it or to raise its target.",
        source={"kind": "coreml", "file": written},
        inputs=inputs,
        states={state["name"]: {"buffer": state["name"]} for state in found.states},
        outputs={} if found.labels else outputs,
        classifier={"labels": list(found.labels), "softmax": False} if found.labels else {},
        why={f"input.{own}.scale": LEVELS for own in inputs}
        | {
            "precision": "That of the file: it is not converted again.",
            "target": "The file's own; a later one may bring smaller weights.",
            "classifier.softmax": "The file gives probabilities already.",
        },
        precision=_precision(found.op_counts, found.outputs),
        target=TARGETS.get(found.version, "ios15") if is_program else TARGETS.get(min(found.version, 5), "ios13"),
        format="mlpackage" if is_program else "mlmodel",
        suggestions=COMPRESS if is_program else (),
    )


COMPRESS = ("To compress it, choose one in the defaults list: `- compression: int8` (target ios16 or later).",)


def _input(feature: JsonObject) -> dict[str, object]:
    if feature["kind"] == "image":
        channels = 1 if feature["color_layout"] in ("G", "G16") else 3
        sides = _sizes([feature["height"], feature["width"]], feature.get("size_ranges"))
        section = {"kind": "image", "shape": [1, channels, *sides], "color_layout": feature["color_layout"], "scale": 1}
        several = [[1, channels, *sizes] for sizes in feature.get("enumerated_sizes", ())]
        return section | ({"enumerated_shapes": several} if several else {})
    shape = _sizes(list(feature["shape"]), feature.get("ranges"))
    dtype = "float32" if feature["dtype"] == "float64" else feature["dtype"]  # as a neural network computes
    section = {"kind": "tensor", "shape": shape, "dtype": dtype}
    if feature.get("enumerated_shapes"):
        section["enumerated_shapes"] = feature["enumerated_shapes"]
    return section | ({"high": 2} if feature["dtype"] == "int32" else {})


def _sizes(default: list[int], ranges: list[list[int]] | None) -> list[object]:
    """Sizes as the file declares them: numbers, and ranges where the app may choose."""
    if ranges is None:
        return list(default)
    ends = [(low, None if high < 0 else high) for low, high in ranges]
    return [dimension(low, high, size) for (low, high), size in zip(ends, default, strict=True)]


def _output(feature: JsonObject) -> dict[str, Any] | None:
    if feature["kind"] == "image":
        return {"kind": "image", "color_layout": feature["color_layout"]}
    is_said = feature["kind"] == "tensor" and feature["dtype"] != "float64"  # which recipes do not have
    return {"dtype": feature["dtype"]} if is_said else None


def _precision(operators: Iterable[str], outputs: Iterable[JsonObject]) -> str:
    """Float16 unless the program holds no cast to it: a guess that the structure of the file allows."""
    half = "cast" in operators or any(f.get("dtype") == "float16" for f in outputs)
    return "fp16" if half else "fp32"
