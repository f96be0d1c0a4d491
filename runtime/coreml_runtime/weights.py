"""The constants of an ML program without the weights: for what looks at a program and does not execute it."""

from __future__ import annotations

import math

import torch

from coreml_runtime.blob import WeightFile, open_weights
from coreml_runtime.package import Package, resolve
from coreml_runtime.reader import Weights

FEW = 64
"""Values up to which a constant may be a shape, or another setting."""


def small_weights(package: Package) -> Weights:
    """What reads constants of few values, and gives of all others a tensor with a shape and no numbers."""
    files: dict[str, WeightFile] = {}

    def find(file_name: str, offset: int, dtype: str, shape: tuple[int, ...]) -> torch.Tensor:
        if math.prod(shape) > FEW:
            return torch.empty(shape, device="meta")
        if file_name not in files:
            files[file_name] = open_weights(resolve(package, file_name))
        return files[file_name].tensor(offset=offset, dtype=dtype, shape=shape)

    return find
