"""What the tests of Core AI share: one small network, converted once, and the skip where the extra is missing."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from builder.backends.coreai.conversion import Declared, Halves, convert
from builder.model.capture.composites import run_decompositions
from builder.model.capture.guards import export_program

pytest.importorskip("coreai", reason="needs the extra coreai, which has wheels for Linux x86-64 and macOS alone")


class Wrapped(torch.nn.Module):
    """A model as the builder wraps it: raw inputs, a tuple of outputs."""

    def __init__(self, model: torch.nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, *inputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
        found = self.model(*inputs)
        return found if isinstance(found, tuple) else (found,)


class Small(torch.nn.Module):
    """Convolution, batch norm, layer norm and two linear layers."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = torch.nn.Conv2d(4, 8, 3, padding=1)
        self.norm = torch.nn.BatchNorm2d(8)
        self.linear = torch.nn.Linear(8 * 8 * 8, 32)
        self.layer_norm = torch.nn.LayerNorm(32)
        self.last = torch.nn.Linear(32, 40)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.nn.functional.silu(self.norm(self.conv(x)))
        return torch.nn.functional.hardswish(self.last(self.layer_norm(self.linear(x.flatten(1)))))


def export(model: torch.nn.Module, inputs: tuple[torch.Tensor, ...], dynamic_shapes: Any = None) -> Any:
    """The exported program of a wrapped model, as the capture stage makes it."""
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        return run_decompositions(export_program(Wrapped(model).eval(), inputs, dynamic_shapes), {})


def plain(inputs: Mapping[str, torch.Tensor], outputs: int) -> Declared:
    """Inputs of their own types, and outputs `y0`, `y1` and so on as the program has them."""
    types = {name: str(value.dtype).removeprefix("torch.") for name, value in inputs.items()}
    return Declared(inputs=types, outputs={f"y{i}": None for i in range(outputs)})


def snr(found: np.ndarray, wanted: np.ndarray) -> float:
    """Signal to noise in dB."""
    wanted, noise = wanted.astype(np.float64), found.astype(np.float64) - wanted
    return float(10 * np.log10((wanted**2).sum() / max((noise**2).sum(), 1e-300)))


@pytest.fixture(scope="session")
def small() -> tuple[Small, torch.Tensor, torch.Tensor]:
    """The network with statistics that are not the identity, an input, and what it gives."""
    torch.manual_seed(0)
    model, x = Small().eval(), torch.rand(1, 4, 8, 8)
    model.norm.running_mean.uniform_(-0.5, 0.5)
    model.norm.running_var.uniform_(0.1, 3)
    with torch.no_grad():
        return model, x, model(x)


@pytest.fixture(scope="session")
def converted(small: Any, tmp_path_factory: pytest.TempPathFactory) -> Callable[[bool], tuple[Path, Any]]:
    """The network as an asset, in float32 or half precision, and what the conversion says; each made once."""
    folder, made = tmp_path_factory.mktemp("coreai"), {}

    def make(half: bool) -> tuple[Path, Any]:
        if half not in made:
            path = folder / f"{'half' if half else 'full'}.aimodel"
            declared = Declared(inputs={"image": "float32"}, outputs={"logits": "float32"})
            made[half] = path, convert(export(small[0], (small[1],)), path, declared, Halves() if half else None)
        return made[half]

    return make
