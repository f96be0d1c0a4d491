"""Packages of each task, from descriptions of artifacts that do not exist, and Swift's own grammar."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import tree_sitter
import tree_sitter_swift

from builder.backends.description import ArtifactDescription
from builder.swift.describe import joined, package_of_file
from builder.swift.interface import Package

DIGEST = "sha256:" + "0123456789abcdef" * 4
SHOWN = {"author": "A. Nonymous", "license": "MIT", "version": "2", "description": "What it does."}
PICTURE = {"name": "image", "kind": "image", "width": 64, "height": 48, "color_layout": "RGB"}
LEVELS = {"name": "image", "kind": "tensor", "shape": [1, 3, 48, 64], "dtype": "uint8", "color_layout": "BGR"}
LABEL = ({"name": "classLabel", "kind": "string"}, {"name": "classLabel_probs", "kind": "dictionary"})


def array(name: str, *shape: int, dtype: str = "float32", **more: Any) -> dict[str, Any]:
    """The description of an array."""
    return {"name": name, "kind": "tensor", "shape": list(shape), "dtype": dtype, **more}


def described(
    inputs: Sequence[Mapping[str, Any]] = (PICTURE,),
    outputs: Sequence[Mapping[str, Any]] = LABEL,
    *,
    labels: Sequence[str] | None = None,
    shown: Mapping[str, str] = SHOWN,
    states: Sequence[Mapping[str, Any]] = (),
    functions: Mapping[str, Mapping[str, Any]] | None = None,
    suppression: Mapping[str, Any] | None = None,
) -> ArtifactDescription:
    """What a file declares that takes and gives these."""
    return ArtifactDescription(
        inputs=tuple(inputs),
        outputs=tuple(outputs),
        labels=None if labels is None else tuple(labels),
        op_counts={},
        metadata={},
        shown=shown,
        states=tuple(states),
        weights=(),
        functions=functions or {},
        version=6,
        suppression=suppression,
    )


def package(description: ArtifactDescription, name: str = "my_net.mlpackage", *, generation: int = 15) -> Package:
    """The package of such a file."""
    return package_of_file(Path("nowhere") / name, DIGEST, description, generation=generation)


def _steps(dtype: str) -> dict[str, Any]:
    sides = {"states": [{"name": n, "kind": "state", "shape": [1, 8], "dtype": "float16"} for n in ("keys", "values")]}
    functions = {
        name: {
            "inputs": [array("input_ids", 1, length, dtype="int32")],
            "outputs": [array("logits", 1, length, 9, dtype=dtype)],
            **sides,
        }
        for name, length in (("decode", 1), ("prefill", 4))
    }  # fmt: skip
    return {**functions["decode"], "functions": functions}


def by_task() -> dict[str, Package]:
    """A package of each kind."""
    both = joined(
        package(described(labels=("cat", "dog"))),
        package(described((LEVELS,), (array("classLabel_probs", 1, 2),), labels=("cat", "dog")), "my_net.aimodel"),
    )
    thresholds = [
        {"name": name, "kind": "double", "optional": True} for name in ("iouThreshold", "confidenceThreshold")
    ]
    boxes = (array("confidence", 0, 2, dtype="float64"), array("coordinates", 0, 4, dtype="float64"))
    gray = {"name": "matte", "kind": "image", "width": 64, "height": 48, "color_layout": "G"}
    return {
        "classifier_both": both,
        "detector": package(
            described((PICTURE, *thresholds), boxes, labels=("cat", "dog"), suppression={"iou_threshold": 0.5}),
            generation=16,
        ),
        "segmenter": package(described(outputs=(gray,)), generation=17),
        "segmenter_classes": package(described(outputs=(array("classes", 1, 48, 64, dtype="int32"),))),
        "filter": package(described(outputs=({**gray, "color_layout": "RGB"},))),
        "embedding": package(described((array("token_ids", 1, 32, dtype="int32"),), (array("embedding", 1, 16),))),
        "step": package(described(**_steps("float32")), generation=18),
        "step_coreai": package(described(**_steps("float16")), "my_net.aimodel"),
        "arrays": package(
            described(
                (
                    array("features.in", 1, 8, ranges=[[1, 1], [1, -1]]),
                    array("mask", 1, 8, dtype="float16", optional=True, default_value=1.0),
                    {"name": "repeat", "kind": "double"},
                ),
                (array("y", 1, 8), array("count", 1, dtype="int32"), {"name": "name", "kind": "string"}),
            ),
            "2-nets.mlmodel",
            generation=13,
        ),
    }  # fmt: skip


_PARSER = tree_sitter.Parser(tree_sitter.Language(tree_sitter_swift.language()))


def faults(source: str) -> list[str]:
    """The lines on which Swift's grammar finds something wrong or missing."""
    lines = source.split("\n")
    return [lines[node.start_point[0]] for node in _wrong(_PARSER.parse(source.encode()).root_node)]


def _wrong(node: tree_sitter.Node) -> Iterator[tree_sitter.Node]:
    if node.type == "ERROR" or node.is_missing:
        yield node
    for child in node.children:
        yield from _wrong(child)
