"""Copies of models that hold what Python cannot copy."""

from __future__ import annotations

import math
import warnings

import torch

from builder.model.substitutions.rewrite import copy_module


def doubled(x: torch.Tensor) -> torch.Tensor:
    return x * 2


class Holder(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of torch.jit.script itself
            compiled = torch.jit.script(doubled)
        self.double, self.more, self.math = compiled, [compiled], math
        self.generator = torch.Generator()
        self.layer = torch.nn.Linear(2, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.more[0](self.double(self.layer(x))) * self.math.pi


def test_a_copy_shares_what_cannot_be_copied() -> None:
    module = Holder()
    copied = copy_module(module)
    x = torch.ones(1, 2)
    assert torch.equal(copied(x), module(x))
    assert copied.layer.weight is not module.layer.weight


def test_hooks_within_a_module_speak_of_its_copy() -> None:
    class Hooked(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = torch.nn.Linear(4, 4)
            self.seen: dict[str, torch.Tensor] = {}
            self.layer.register_forward_hook(lambda _module, _given, out: self.seen.__setitem__("layer", out))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            self.layer(x)
            return self.seen.pop("layer") * 2

    model = Hooked()
    x = torch.ones(1, 4)
    copied = copy_module(model)
    torch.testing.assert_close(copied(x), model(x))
    with torch.no_grad():
        copied.layer.weight.zero_()
    torch.testing.assert_close(copied(x), (copied.layer.bias * 2)[None])
