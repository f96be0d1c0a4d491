"""Outputs of an artifact as they are compared: numbers as numbers, without the rounding that they are declared with."""

from __future__ import annotations

import numpy as np
import torch

from builder.checks.comparison import Outputs
from builder.checks.subject import Subject
from builder.spec.outputs import ImageOutput, Output


def with_numbers(reference: Outputs, result: Outputs) -> Outputs:
    """`result` with numbers where the reference has them: Core ML gives an array of one."""
    return {
        name: value.reshape(()) if reference[name].ndim == 0 and value.shape == (1,) else value
        for name, value in result.items()
    }


def without_rounding(subject: Subject, reference: Outputs, result: Outputs) -> Outputs:
    """`result` without what rounding did to outputs that are declared coarser than float32.

    A level of a picture stands for all values within a half of it, a number in half precision for all that round to
    it; of these the one nearest to the reference is taken. What is left is what the artifact computes otherwise.
    """
    nearest = {}
    for name, output in subject.spec.output.items():
        if reference[name].shape == result[name].shape and result[name].is_floating_point():
            width = _rounding(result[name], output)
            nearest[name] = torch.clamp(reference[name].to(width.dtype), result[name] - width, result[name] + width)
    return {**result, **nearest}


def _rounding(values: torch.Tensor, output: Output) -> torch.Tensor:
    """By how much rounding may have changed each value of an output: half a level, half a step, or nothing."""
    if isinstance(output, ImageOutput) and output.color_layout != "G16":
        return torch.full_like(values, 0.5)
    if isinstance(output, ImageOutput) or output.dtype == "float16":
        step = np.spacing(np.abs(values.numpy()).astype(np.float16)).astype(np.float32)
        return torch.from_numpy(step) / 2
    return torch.zeros_like(values)
