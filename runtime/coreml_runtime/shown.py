"""The outputs of a prediction for people: lines, and files."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from coreml_runtime.labels import labels_of, suppression_of
from coreml_runtime.pictures import own_metadata

if TYPE_CHECKING:
    from coreml_runtime.model import Model

MOST_PRINTED = 8
"""Arrays with more elements are summed up instead of printed."""


def labelled(model: Model, outputs: Mapping[str, Any]) -> dict[str, object]:
    """Outputs, the first of an `.aimodel` as a probability by label where its metadata has labels for it."""
    found = dict(outputs)
    labels = own_metadata(model.specification).get("labels")
    first = next(iter(found), None)
    if isinstance(labels, list) and first is not None and getattr(found[first], "size", 0) == len(labels):
        found[first] = dict(zip(map(str, labels), found[first].reshape(-1).tolist(), strict=True))
    return found


def detector_labels(specification: object) -> tuple[str, ...] | None:
    """The classes of a model that ends with non-maximum suppression; None for others."""
    if not hasattr(specification, "WhichOneof") or suppression_of(specification) is None:
        return None
    return labels_of(specification)


def lines(outputs: Mapping[str, object], labels: Sequence[str] | None, top: int) -> Iterator[str]:
    """One text for each output: a line, the `top` best classes, or (with a detector's `labels`) a line for each box."""
    for name, value in outputs.items():
        boxes = _objects(value, outputs["coordinates"], labels) if labels and name == "confidence" else ""
        text = boxes or described(value, top)
        yield f"{name}:{text}" if text.startswith("\n") else f"{name}: {text}"


def described(value: Any, top: int) -> str:
    """An output in a line, or the best classes in several, each after a line feed."""
    if isinstance(value, Mapping) and value:
        best = sorted(value.items(), key=lambda item: -float(item[1]))[: max(1, top)]
        width = max(len(str(label)) for label, _ in best)
        return "\n" + "\n".join(f"  {label!s:<{width}}  {float(share):.4f}" for label, share in best)
    if hasattr(value, "size") and hasattr(value, "getpixel"):
        return f"a picture of {value.size[0]} x {value.size[1]}"
    if hasattr(value, "shape"):
        if value.size <= MOST_PRINTED:  # an empty array has no range
            return str(value.tolist())
        return f"{value.dtype} {tuple(value.shape)}, {value.min():.6g} to {value.max():.6g}, mean {value.mean():.6g}"
    return str(value)


def _objects(confidence: Any, coordinates: Any, labels: Sequence[str]) -> str:
    """Every box in a line: its class, its confidence, and where it is."""
    found = [
        f"  {labels[int(row.argmax())]}  {row.max():.4f}  at {x:.3f}, {y:.3f}, {width:.3f} × {height:.3f}"
        for row, (x, y, width, height) in zip(confidence, coordinates, strict=True)
    ]
    return "\n" + "\n".join(found) if found else "no objects"


def save(folder: Path, name: str, value: Any) -> None:
    """Write an output into a folder: `.json`, `.png` or `.npy`; other values are not written."""
    name = re.sub(r"[^\w.-]", "_", name)  # a name is the model's, and must not lead out of the folder
    if isinstance(value, Mapping):
        shares = {str(label): float(share) for label, share in value.items()}
        (folder / f"{name}.json").write_text(json.dumps(shares, indent=1), encoding="utf-8")
    elif hasattr(value, "getpixel"):
        value.save(folder / f"{name}.png")
    elif hasattr(value, "shape"):
        np.save(folder / f"{name}.npy", value)
