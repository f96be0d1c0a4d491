"""What the tests of rewrites share: apply one by name, and compare with the unmodified module."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from builder.artifacts.stages import SubstitutionEffect
from builder.model.substitutions import Run, substitute
from builder.model.substitutions.fast_path import attention_in_operators
from builder.spec.substitutions import ShippedRewrite

FP32_ROUNDING = 2e-5
"""Of the largest value: a few hundred operators that each round at 6e-8, in another order."""


def run_on(*inputs: torch.Tensor) -> Run:
    """Run a module on each input, as the prepare stage does."""

    def run(module: nn.Module) -> tuple[torch.Tensor, ...]:
        with torch.no_grad():
            return (torch.stack([module(x) for x in inputs]),)

    return run


def apply(kind: str, module: nn.Module, *inputs: torch.Tensor, **settings: Any) -> tuple[nn.Module, SubstitutionEffect]:
    """Apply one shipped rewrite, and return what it made and what it changed."""
    given = ShippedRewrite(kind=kind, **settings)
    new, (effect,) = substitute(module, {kind: given}, run_on(*inputs))
    return new, effect


@torch.no_grad()
def agree(old: nn.Module, new: nn.Module, *inputs: torch.Tensor, within: float = FP32_ROUNDING) -> None:
    """Assert that both give the same, within a part of the largest value, on copies of the inputs."""
    with attention_in_operators():
        expected, got = old(*(x.clone() for x in inputs)), new(*(x.clone() for x in inputs))
    assert expected.shape == got.shape
    assert float((expected - got).abs().max()) <= within * float(expected.abs().max())


def types_in(module: nn.Module) -> set[str]:
    """The names of all module types in a tree."""
    return {type(m).__name__ for m in module.modules()}


def randomized(module: nn.Module, seed: int = 0) -> nn.Module:
    """Give parameters and statistics values that make mistakes visible: no ones, zeros or equal channels."""
    generator = torch.Generator().manual_seed(seed)
    for name, tensor in [*module.named_parameters(), *module.named_buffers()]:
        if not tensor.is_floating_point():
            continue
        noise = torch.rand(tensor.shape, generator=generator)
        if tensor.dim() > 1:
            tensor.data.copy_((noise - 0.5) * (12 / tensor[0].numel()) ** 0.5)
        else:
            tensor.data.copy_(noise + 0.5 if name.endswith(("var", "weight")) else noise - 0.5)
    return module.eval()
