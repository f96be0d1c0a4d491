"""Complex numbers in a model: constants such as `1j`, products of matrices, what is written into one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from builder import runtime
from builder.backends.coreml.convert import convert
from builder.stages.capture import capture
from tests.unit.stages.test_capture import prepared_with


def _assigned(z: torch.Tensor) -> torch.Tensor:
    modes = torch.zeros(2, 5, dtype=torch.cfloat)
    modes[..., :3] = z[..., :3] * 2j
    modes[0, 4] = z[1, 0]
    return modes


def _parts_written(z: torch.Tensor) -> torch.Tensor:
    z = z * 1
    z.real.mul_(3)
    z.imag[..., :2] = 0.5
    return z


def _pairs_written(z: torch.Tensor) -> torch.Tensor:
    pairs = torch.view_as_real(z * 1)
    z = torch.view_as_complex(pairs)
    pairs[..., 1] += 1
    return z


WAYS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "numbers": lambda z: (1j * z.real - (2 - 1j)) / (1 + 2j) + (3j - z),
    "quotients": lambda z: z / (z * z + 9) + 2 / (z + 4) + z / z.abs().add(1) + 1j / z.abs().add(1),
    "exponentials": lambda z: torch.exp(1j * z.real) + torch.log(z + 5j),
    "sums": lambda z: z.sum(-1, keepdim=True) + z.mean(0, keepdim=True) + z.cumsum(1),
    "matrices": lambda z: torch.einsum("ij,kj->ik", z, z) + z @ z.T,
    "joined": lambda z: torch.cat([z, z.real, -z], -1) + torch.stack([z, z * 2, z], 2).reshape(2, 15),
    "moved": lambda z: z.flip(1).roll(1, -1).conj() + z[:, :, None].expand(-1, -1, 2).reshape(2, 10)[:, ::2],
    "chosen": lambda z: torch.where(z.real > 0, z, z * 2j),
    "assigned": _assigned,
    "parts written": _parts_written,
    "pairs written": _pairs_written,
}


class All(nn.Module):
    """Each of them, as pairs of numbers: (1, 2, 5, 2) to one output a way."""

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        z = torch.complex(x[0, ..., 0], x[0, ..., 1])
        return tuple(torch.view_as_real(way(z).resolve_conj()) for way in WAYS.values())


@pytest.mark.parametrize("method", ["trace", "export"])
def test_complex_numbers_convert(method: str, tmp_path: Path) -> None:
    prepared, examples, spec = prepared_with(All(), input={"x": {"kind": "tensor", "shape": [1, 2, 5, 2]}})
    captured = capture(prepared, examples, method, {}, strict=True)
    convert(prepared, captured, examples, spec).model.save(str(tmp_path / "m.mlpackage"))
    model = runtime.load(tmp_path / "m.mlpackage")

    for sample in examples.samples[:2]:
        x = sample.tensors["x"]
        found = model.predict({"x": x.numpy()})
        assert len(found) == len(WAYS)
        for way, got, wanted in zip(WAYS, found.values(), All()(x), strict=True):
            np.testing.assert_allclose(got, wanted.numpy(), rtol=1e-4, atol=1e-5, err_msg=way)
