"""Arrays in a `.npz` or `.safetensors` file: one for each input, and perhaps one of labels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from builder.data.collection import as_label
from builder.errors import SourceError
from builder.spec.data import TensorsData
from builder.spec.inputs import ImageInput, TensorInput
from builder.util.npz import read_npz
from builder.util.reading import open_regular, require_regular
from builder.util.suggest import did_you_mean


@dataclass(frozen=True, kw_only=True)
class Arrays:
    """All samples of all inputs, samples along the first axis."""

    inputs: Mapping[str, np.ndarray]
    labels: np.ndarray | None
    count: int

    def values(self, index: int, inputs: Mapping[str, ImageInput | TensorInput], key: str) -> dict[str, Any]:
        """One sample: pictures for image inputs, arrays for others."""
        return {
            name: _as_picture(self.inputs[name][index], f"sample {index} of {name}", f"{key}.file")
            if isinstance(given, ImageInput)
            else self.inputs[name][index]
            for name, given in inputs.items()
        }

    def label(self, index: int, key: str) -> str | int | None:
        """The label of a sample; raises SourceError when it is neither a name nor a number of a class."""
        try:
            return None if self.labels is None else as_label(self.labels[index])
        except (TypeError, ValueError) as error:
            raise SourceError(f"label {index}: {error}", code="B0332", key=f"{key}.labels") from error


def read_arrays(data: TensorsData, inputs: Mapping[str, object], key: str) -> Arrays:
    """Read the file; raises SourceError when it is damaged, lacks an input, or holds what no input takes."""
    path = Path(data.file)
    found = _read(path, f"{key}.file")
    wanted = [*inputs, *([data.labels] if data.labels in found and data.labels not in inputs else [])]
    for name in inputs:
        if name not in found:
            hint = did_you_mean(name, found) or f"it holds {', '.join(found) or 'nothing'}"
            raise SourceError(f"{path} has no array for input {name}", code="B0334", hint=hint, key=f"{key}.file")
    unknown = [name for name in found if name not in wanted]
    if unknown:
        raise SourceError(
            f"{path} holds {unknown[0]}, which is not an input; the inputs are {', '.join(inputs)}",
            code="B0334",
            hint=f"`labels: {unknown[0]}` takes it as labels",
            key=f"{key}.file",
        )
    lengths = {name: found[name].shape[0] if found[name].ndim else 0 for name in wanted}
    if len(set(lengths.values())) > 1:
        message = ", ".join(f"{name} {length}" for name, length in lengths.items())
        raise SourceError(
            f"the arrays of {path} have different numbers of samples: {message}", code="B0334", key=f"{key}.file"
        )
    labels = found[data.labels] if data.labels in wanted and data.labels not in inputs else None
    return Arrays(inputs={name: found[name] for name in inputs}, labels=labels, count=next(iter(lengths.values())))


def _read(path: Path, key: str) -> dict[str, np.ndarray]:
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        require_regular(path)
        if path.suffix == ".safetensors":
            return dict(load_file(path))
        if path.suffix == ".npz":
            with open_regular(path) as file:
                return read_npz(file)
    except (OSError, ValueError, KeyError, SafetensorError) as error:
        raise SourceError(f"{path} is damaged: {error}", code="B0330", key=key) from error
    raise SourceError(f"{path} is neither .npz nor .safetensors", code="B0330", key=key)


def _as_picture(levels: np.ndarray, where: str, key: str) -> Image.Image:
    """Levels (H, W, 3), (H, W) or (H, W, 1) as a picture; raises SourceError for anything else."""
    if levels.ndim == 3 and levels.shape[2] == 1:
        levels = levels[:, :, 0]
    if levels.dtype != np.uint8 or levels.ndim not in (2, 3) or levels.shape[2:] not in ((), (3,)):
        raise SourceError(
            f"{where} is {levels.dtype} of shape {levels.shape}, and a picture is uint8 of shape (height, width, 3) "
            "in RGB, or (height, width) in grey",
            code="B0331",
            key=key,
        )
    return Image.fromarray(np.ascontiguousarray(levels))
