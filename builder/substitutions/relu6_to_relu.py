"""ReLU6 to ReLU: runs on every Core ML version, and no longer clips at 6."""

from __future__ import annotations

import torch

from builder.spec.substitutions import Relu6ToRelu
from builder.substitutions.rewrite import rewrite


def rewrite_relu6_to_relu(module: torch.nn.Module, given: Relu6ToRelu) -> tuple[torch.nn.Module, tuple[str, ...]]:
    """Given `relu6(x) = min(max(x, 0), 6)`. Result: `relu(x) = max(x, 0)`, the same below 6."""
    return rewrite(module, lambda m: type(m) is torch.nn.ReLU6, given.modules, lambda _: torch.nn.ReLU())
