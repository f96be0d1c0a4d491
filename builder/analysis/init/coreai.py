"""Finished Core AI assets: what the file declares, as the recipe that builds it again from its original.

Nothing reads a program of an `.aimodel` back into torch, so the source is left to the person who has it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from builder.analysis.init.draft import Draft
from builder.backends.coreai.description import describe_artifact
from builder.backends.description import ArtifactDescription
from builder.errors import SourceError
from builder.model.sources.coreml import dimension
from coreml_runtime.coreai.description import describe_asset
from coreml_runtime.errors import RuntimeFailure

if TYPE_CHECKING:
    from builder.util.reading import JsonObject

MISSING = (
    "package.module:function, which makes the PyTorch model that this file was converted from. A Core AI program "
    "cannot be converted again: `predict`, `lint` and `diff` read it as it is, and where builder made it, the "
    "build.json beside it has its recipe."
)
INSIDE = "The file holds the normalisation of the original: write `scale`, or `mean` and `std`, as in training."
_STORED = {
    "lut_to_dense": "palettize_6",
    "blockwise_shift_scale": "int8",
    "sparse_with_bitmask_to_dense": "prune_50",
}
"""Operators of compressed weights, and the shipped option that stores weights so."""


def inspect_coreai(path: Path, name: str) -> Draft:
    """Read the asset's own description. Raises SourceError where it is damaged."""
    try:
        is_half = "fp16" in describe_asset(path).storage
    except RuntimeFailure as error:
        raise SourceError(f"the model cannot be read: {error}", code="B0302") from error
    found = describe_artifact(path)
    own = [_input(feature) for feature in found.inputs]
    return Draft(
        name=f"{name}_again",
        title=f"The Core AI model {path.name}, from the PyTorch model that it was made of.",
        source={"kind": "python", "arguments": {}},
        inputs={feature["name"]: section for feature, section in zip(found.inputs, own, strict=True)},
        outputs={} if found.labels else {f["name"]: _type(f) for f in found.outputs},
        classifier={"labels": list(found.labels)} if found.labels else {},
        why={f"input.{feature['name']}.scale": INSIDE for feature in found.inputs}
        | {"precision": "That of the file's weights.", "classifier.labels": "As the file's metadata has them."},
        missing={"factory": MISSING},
        precision="fp16" if is_half else "fp32",
        target="ios27",
        format="aimodel",
        suggestions=(*_compression(found.op_counts), *_states(found)),
    )


def _type(feature: Mapping[str, object]) -> dict[str, Any] | None:
    return {"dtype": feature["dtype"]} if feature["dtype"] in ("float16", "float32", "int32") else None


def _input(feature: JsonObject) -> dict[str, object]:
    """A picture where the metadata has the layout of its channels; any other input is an array."""
    shape = list(feature["shape"])
    sizes = {"enumerated_shapes": feature["enumerated_shapes"]} if feature.get("enumerated_shapes") else {}
    if (ranges := feature.get("ranges")) and not sizes:
        ends = [(low, None if high < 0 else high) for low, high in ranges]
        shape = [dimension(low, high, size) for (low, high), size in zip(ends, shape, strict=True)]
    if (layout := feature.get("color_layout")) is not None:
        return {"kind": "image", "shape": shape, "color_layout": layout, "scale": 1, **sizes}
    section = {"kind": "tensor", "shape": shape, "dtype": feature["dtype"], **sizes}
    return section | ({"high": 2} if feature["dtype"] == "int32" else {})


def _compression(counts: Mapping[str, int]) -> tuple[str, ...]:
    options = [option for operator, option in _STORED.items() if counts.get(operator)]
    if not options:
        return ()
    listed = ", ".join(f"`- compression: {option}`" for option in options)
    return (f"The file's weights are compressed; something like it in the defaults list: {listed}.",)


def _states(found: ArtifactDescription) -> tuple[str, ...]:
    lines: list[str] = []
    if found.states:
        lines += ["The file has states; name the buffer of the model that each is:", "state:"]
        lines += [f"  {feature['name']}: {{buffer: }}" for feature in found.states]
    if found.functions:
        lines += ["The file has several functions; say in what they differ (see the reference of recipes):"]
        lines += ["functions:", *(f"  {name}: {{}}" for name in found.functions)]
    return tuple(lines)
