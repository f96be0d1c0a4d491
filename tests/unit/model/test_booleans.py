"""Inputs that a model takes as booleans, which no format takes from an app."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from builder import runtime
from builder.backends.coreml.convert import convert
from builder.spec.inputs import TensorInput
from builder.stages.capture import capture
from tests.unit.stages.test_capture import prepared_with


class Attention(nn.Module):
    """Attention to what `keep` (N, L) shows, of ids (N, L)."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(50, 8)
        self.attend = nn.MultiheadAttention(8, 2, batch_first=True)

    def forward(self, ids: torch.Tensor, keep: torch.Tensor) -> torch.Tensor:
        x = self.words(ids.gather(1, ids % 7))
        attended: torch.Tensor = self.attend(x, x, x, key_padding_mask=~keep)[0]
        return attended * keep[..., None]


class Opposite(nn.Module):
    """What `keep` hides; of integers, `~` gives -1 and -2."""

    def forward(self, x: torch.Tensor, keep: torch.Tensor) -> torch.Tensor:
        return x * ~keep


IDS = {"kind": "tensor", "shape": [2, 7], "dtype": "int32", "high": 50}
X = {"kind": "tensor", "shape": [2, 7]}


@pytest.mark.parametrize(
    ("model", "first", "keep"),
    [
        (Attention(), ("ids", IDS), {"dtype": "bool"}),
        (Attention(), ("ids", IDS), {"dtype": "int32", "high": 2}),  # it takes no others, which is tried
        (Opposite(), ("x", X), {"dtype": "bool"}),
    ],
    ids=["declared", "found", "opposite"],
)
def test_a_model_gets_booleans(
    model: nn.Module, first: tuple[str, dict[str, object]], keep: dict[str, object], tmp_path: Path
) -> None:
    model.eval()
    mask = {"kind": "tensor", "shape": [2, 7], **keep}
    prepared, examples, spec = prepared_with(model, input={first[0]: first[1], "keep": mask})
    captured = capture(prepared, examples, "trace", {}, strict=True)
    convert(prepared, captured, examples, spec).model.save(str(tmp_path / "m.mlpackage"))

    given = {name: tensor.numpy() for name, tensor in examples.samples[0].tensors.items()}
    given["keep"] = np.array([[1, 1, 1, 0, 0, 0, 0], [1, 0, 1, 1, 1, 1, 1]], dtype=np.int32)
    (found,) = runtime.load(tmp_path / "m.mlpackage").predict(given).values()
    values = torch.from_numpy(given[first[0]])
    wanted = model(values.long() if first[0] == "ids" else values, torch.from_numpy(given["keep"]) != 0)
    np.testing.assert_allclose(found, wanted.detach().numpy(), rtol=1e-4, atol=1e-5)


def test_booleans_are_integers_of_0_and_1() -> None:
    declared = TensorInput.model_validate({"kind": "tensor", "shape": [1, 4], "dtype": "bool"})
    assert (declared.dtype, declared.low, declared.high, declared.booleans) == ("int32", 0, 2, True)
