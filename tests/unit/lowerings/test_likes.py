"""Arrays of one value in the dtype that is asked for, of fixed and open sizes, and means of integers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import coreml_runtime as runtime
from builder.artifacts.stages import LoadedModel
from builder.backends.coreml.convert import convert
from builder.data import make_examples
from builder.stages.capture import capture
from builder.stages.prepare import prepare
from tests.unit.stages.small_builds import make_spec


class Likes(nn.Module):
    """Nothing is promoted afterwards, which would hide a wrong dtype."""

    def forward(self, x: torch.Tensor, i: torch.Tensor) -> tuple[torch.Tensor, ...]:
        above = x > 0
        return (
            torch.zeros_like(above, dtype=torch.float32).masked_fill(above, 0.5),
            torch.ones_like(i, dtype=torch.float32).masked_fill(above, 0.25),
            torch.full_like(i, 0.75, dtype=torch.float32),
            torch.empty_like(i, dtype=torch.float32).fill_(0.5),
            torch.full_like(x, 3) ** -1,  # a number without a fraction, and a third
            torch.ones_like(i) * (i + 2049),
            i.mean(1, dtype=torch.float32),
            i.mean(dtype=torch.float32).reshape(1),
            x[:1, :3] * torch.hamming_window(3, periodic=False) + torch.blackman_window(3) + torch.kaiser_window(3),
            x[:, torch.tril_indices(3, 3)[1]] * torch.logspace(0, 1, 6),
        )


@pytest.mark.parametrize(
    ("size", "method", "half"), [(5, "trace", True), ({"min": 3, "max": 9, "default": 5, "name": "n"}, "export", False)]
)
def test_likes(size: object, method: str, half: bool, tmp_path: Path) -> None:
    inputs = {
        "x": {"kind": "tensor", "shape": [2, size]},
        "i": {"kind": "tensor", "shape": [2, size], "dtype": "int32", "high": 9},
    }
    spec = make_spec(input=inputs, precision={"kind": "fp16" if half else "fp32"})
    examples = make_examples(spec)
    prepared = prepare(LoadedModel(module=Likes(), digest="0" * 64, origin={}), examples, spec)
    captured = capture(prepared, examples, method, {}, strict=True)
    convert(prepared, captured, examples, spec).model.save(str(tmp_path / "m.mlpackage"))
    artifact = runtime.load(tmp_path / "m.mlpackage")
    generator = torch.Generator().manual_seed(0)
    for length in (5,) if size == 5 else (3, 5, 8):
        x, i = torch.randn(2, length, generator=generator), torch.randint(0, 9, (2, length), generator=generator)
        found = artifact.predict({"x": x.numpy(), "i": i.int().numpy()})
        for (name, got), wanted in zip(found.items(), Likes()(x, i.int()), strict=True):
            np.testing.assert_allclose(got, wanted.numpy(), rtol=2e-3 if half else 1e-6, err_msg=f"{name} {length}")
