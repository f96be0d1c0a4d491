"""What rewrites make converts, by either capture method, and the artifact computes what the original computes."""

from __future__ import annotations

import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import coreml_runtime as runtime
from builder.backends.coreml.convert import convert
from builder.model.torchvision_import import import_torchvision
from tests.unit.stages.small_builds import TENSOR, capture_module, make_spec, operators
from tests.unit.substitutions.rewriting import randomized

FP32_RUNTIME = 2e-5
"""Of the largest value: the artifact's operators and torch's round in another order."""


class Attention(nn.Module):
    """Causal self-attention over (1, 6, 16) with a learned mask, then cross-attention to its own input."""

    def __init__(self) -> None:
        super().__init__()
        self.own, self.cross = (nn.MultiheadAttention(16, 4, batch_first=True) for _ in range(2))
        self.register_buffer("causal", torch.ones(6, 6).triu(1).bool())

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        y, _ = self.own(x, x, x, attn_mask=self.causal, need_weights=False)
        return self.cross(y, x, x)


def channel_norm() -> nn.Module:
    import_torchvision()
    from torchvision.models.convnext import LayerNorm2d

    return nn.Sequential(nn.Conv2d(3, 8, 1), LayerNorm2d(8))


def build(module: nn.Module, shape: list[int], kinds: list[str], method: str, folder: Path) -> tuple[Counter[str], Any]:
    """Build an artifact in fp32, run it, and compare with the original; return its operators and effects."""
    spec = make_spec(
        input={"x": {**TENSOR, "shape": shape}},
        precision={"kind": "fp32"},
        substitutions={kind: {} for kind in kinds},
        capture={"method": method},
    )
    prepared, captured, examples, spec = capture_module(randomized(module), spec)
    converted = convert(prepared, captured, examples, spec)
    path = folder / "m.mlpackage"
    converted.model.save(str(path))
    sample = examples.samples[0]
    got = runtime.load(path).predict(dict(sample.given))
    with torch.no_grad():
        expected = prepared.reference(*sample.tensors.values())
    for name, reference in zip(prepared.output_names, expected, strict=True):
        error = float((torch.as_tensor(got[name]) - reference).abs().max())
        assert error <= FP32_RUNTIME * float(reference.abs().max())
    return Counter(op.op_type for op in operators(converted)), prepared.substitutions


@pytest.mark.parametrize("method", ["trace", "export"])
def test_attention_with_masks_and_weights_converts(method, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))  # coremltools leaves packages behind
    made, (effect,) = build(Attention(), [1, 6, 16], ["multi_head_attention"], method, tmp_path)
    assert effect.replaced == ("own", "cross")
    assert (made["softmax"], made["linear"], made["matmul"]) == (2, 8, 4)


@pytest.mark.parametrize(
    ("module", "shape", "kinds", "has", "has_not"),
    [
        (channel_norm(), [1, 3, 8, 8], ["layer_norm"], "conv", "transpose"),
        (nn.Sequential(nn.Linear(8, 6), nn.LayerNorm(6)), [1, 5, 8], ["layer_norm"], "rsqrt", "layer_norm"),
        (nn.Sequential(nn.Linear(8, 6), nn.RMSNorm(6)), [1, 5, 8], ["rms_norm"], "rsqrt", "pow"),
        (nn.Sequential(nn.Linear(8, 6)), [1, 5, 8], ["linear_to_conv1x1"], "conv", "linear"),
        (nn.Sequential(nn.Conv2d(3, 4, 1), nn.Upsample(scale_factor=2, mode="bicubic")), [1, 3, 5, 4],
         ["upsample_to_matmul"], "matmul", "resize"),
        (nn.Sequential(nn.Conv2d(3, 4, 1), nn.AdaptiveAvgPool2d(3)), [1, 3, 7, 9],
         ["adaptive_to_fixed_pooling"], "avg_pool", "slice_by_index"),
        (nn.Sequential(nn.Conv2d(3, 4, 1), nn.AdaptiveMaxPool2d(3)), [1, 3, 8, 8],
         ["adaptive_to_fixed_pooling"], "reduce_max", "max_pool"),
        (nn.Sequential(nn.Linear(8, 6), nn.utils.parametrizations.spectral_norm(nn.Linear(6, 6))), [1, 8],
         ["parametrization_removal"], "linear", "matmul"),
        (nn.Sequential(nn.Linear(8, 6), nn.Hardswish(inplace=True), nn.Hardsigmoid(inplace=True)), [1, 8],
         ["hardswish", "hardsigmoid"], "relu6", "sigmoid_hard"),
    ],
    ids=lambda given: given[0] if isinstance(given, list) and isinstance(given[0], str) else "",
)  # fmt: skip
def test_every_form_converts_to_the_operators_it_is_for(module, shape, kinds, has, has_not, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))  # coremltools leaves packages behind
    made, effects = build(module, shape, kinds, "trace", tmp_path)
    assert all(effect.exact and effect.replaced for effect in effects)
    assert made[has] > 0
    assert made[has_not] == 0
