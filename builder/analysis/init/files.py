"""Files of torch: TorchScript, exported programs, and checkpoints, told apart by what is in them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from builder.analysis.init.checkpoints import inspect_checkpoint
from builder.analysis.init.draft import Draft
from builder.analysis.init.modules import describe_inputs
from builder.analysis.init.named import CLASSIFIER
from builder.errors import SourceError
from builder.model.sources.archives import Archive
from builder.model.sources.exported_program import open_exported, rebuilding, user_arguments
from builder.model.sources.programs import CHECKPOINT, EXPORTED, TORCHSCRIPT, check_kind, is_package, package_error
from builder.model.sources.torchscript import open_script

NOTES = "extra/builder.json"
"""The part of a `.pt2` in which `export` says what the program does not."""
AS_PICTURE = (
    "To take a picture instead of an array, write (with `mean` and `std` as in training instead of `scale`):",
    "input:",
    "  {name}:",
    "    kind: image",
    "    shape: {shape}",
    "    scale: 0.00392156862745098",
)


def inspect_torch_file(path: Path, written: str, name: str) -> Draft:
    """Draft the recipe of a file that torch (or safetensors) wrote; raises SourceError when it is none."""
    if is_package(path):
        raise package_error(path)
    kind = _kind(path)
    if kind == TORCHSCRIPT:
        return _torchscript(path, written, name)
    if kind == EXPORTED:
        return _exported(path, written, name)
    return inspect_checkpoint(path, written, name)


def _kind(path: Path) -> str:
    for kind in (TORCHSCRIPT, EXPORTED):
        try:
            check_kind(path, kind)
        except SourceError:
            continue
        return kind
    return CHECKPOINT


def _torchscript(path: Path, written: str, name: str) -> Draft:
    script = open_script(path).eval()
    if hasattr(script, "forward") and len(script.forward.schema.arguments) == 1:
        raise no_inputs(path)
    inputs, why = describe_inputs(script)
    return Draft(
        name=name,
        title=f"The TorchScript archive {path.name}.",
        source={"kind": "torchscript", "file": written},
        inputs=inputs,
        why=why,
        suggestions=CLASSIFIER,
    )


def _exported(path: Path, written: str, name: str) -> Draft:
    program = open_exported(path)
    with rebuilding(path):
        return _draft_of(program, path, written, name)


def _draft_of(program: torch.export.ExportedProgram, path: Path, written: str, name: str) -> Draft:
    pictures = _pictures(path)
    placeholders = {node.name: node.meta["val"] for node in program.graph.nodes if node.op == "placeholder"}
    inputs: dict[str, dict[str, object]] = {}
    why: dict[str, str] = {}
    for own, _ in user_arguments(program):
        if own is None or not isinstance(placeholders[own], torch.Tensor):
            continue  # a number, which the program has as a constant, or which the build refuses
        value = placeholders[own]
        sizes = _sizes(value, program)
        if own in pictures:
            inputs[own] = {"kind": "image", "shape": sizes, "color_layout": pictures[own], "scale": 1}
            why[f"input.{own}.scale"] = "The program takes levels of 0 to 255, as `export` wrote of it."
            continue
        inputs[own] = tensor_section(sizes, str(value.dtype).removeprefix("torch."))
        why[f"input.{own}.shape"] = "As the program was exported."
        why[f"input.{own}.high"] = HIGH
    if not inputs:
        raise no_inputs(path)
    return Draft(
        name=name,
        title=f"The exported program {path.name}.",
        source={"kind": "exported_program", "file": written},
        inputs=inputs,
        why=why,
        suggestions=as_picture(inputs),
    )


_LAYOUTS = {"RGB": "RGB", "BGR": "BGR", "GRAYSCALE": "G", "GRAYSCALE_FLOAT16": "G16"}


def _pictures(path: Path) -> dict[str, str]:
    """The order of channels of inputs that are pictures, where `export` wrote the file and said so in it."""
    with path.open("rb") as stream:
        archive = Archive(stream)
        known = archive.read_json(NOTES) if NOTES in archive.names else {}
    described = known.get("inputs") if isinstance(known, dict) else None
    return {
        name: _LAYOUTS[each["color"]]
        for name, each in (described if isinstance(described, dict) else {}).items()
        if isinstance(each, dict) and each.get("color") in _LAYOUTS
    }


def _sizes(value: torch.Tensor, program: object) -> list[object]:
    """Integers, and ranges for dimensions that were exported dynamic."""
    sizes: list[object] = []
    for size in value.shape:
        if isinstance(size, int):
            sizes.append(size)
            continue
        bounds = program.range_constraints.get(size.node.expr)
        low = max(1, int(bounds.lower)) if bounds is not None else 1
        high = int(bounds.upper) if bounds is not None and bounds.upper < MOST else MOST
        sizes.append({"min": low, "max": high, "default": min(max(low, DEFAULT), high)})
    return sizes


MOST = 512
DEFAULT = 16
"""The size that a dimension without a bound is captured at, and its largest."""

HIGH = "A GUESS: the examples of the checks are drawn from 0 to below this; for token ids, the size of the vocabulary."

DTYPES = {"int64": "int32", "int32": "int32", "bool": "int32", "uint8": "int32"}
"""What Core ML takes where the file takes something else than floats."""


def tensor_section(sizes: list[Any], dtype: str) -> dict[str, object]:
    """The input section of an array; half precision in the file is given as float32."""
    section: dict[str, object] = {"kind": "tensor", "shape": sizes, "dtype": DTYPES.get(dtype, "float32")}
    return section | ({"high": 256 if dtype == "uint8" else 2} if section["dtype"] == "int32" else {})


def no_inputs(path: Path) -> SourceError:
    """Of a model that gives the same each time."""
    return SourceError(
        f"{path} takes no inputs, so there is nothing to predict",
        code="B0315",
        hint="export the model again, with the inputs that an app gives",
    )


def as_picture(inputs: dict[str, dict[str, Any]], *, last: bool = False) -> tuple[str, ...]:
    """The comment that turns the first array into a picture, where it has the shape of one.

    `last` says that a file's pictures may have their channels last, which are (N, C, H, W) in recipes.
    """
    for name, given in inputs.items():
        shape = picture_shape(given.get("shape", ()), last=last)
        if shape and given.get("dtype") == "float32":
            return tuple(line.format(name=name, shape=shape) for line in AS_PICTURE)
    return ()


def picture_shape(shape: Sequence[Any], *, last: bool) -> list[Any]:
    """The shape (1, C, H, W) of an array that may be a picture; empty where it has another."""
    if len(shape) != 4 or shape[0] != 1:
        return []
    if shape[1] in (1, 3):
        return list(shape)
    return [1, shape[3], shape[1], shape[2]] if last and shape[3] in (1, 3) else []
