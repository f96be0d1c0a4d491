"""A net with every layer whose weights coremltools compresses, converted once for each target."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from coremltools.optimize._utils import dequantize_by_scale_and_zp, lut_to_dense, sparse_to_dense
from torch import nn

from builder.artifacts.stages import CompressedModel, ConvertedModel
from builder.backends.coreml.compress import compress
from builder.progress import Silent
from builder.spec import BuildSpec
from coreml_runtime import load
from tests.unit.stages.small_builds import convert_module, make_spec, operators

Dense = dict[str, np.ndarray]
"""Weights by the type of their operator."""

SHAPE = (1, 8, 6, 6)


class SmallNet(nn.Module):
    """(1, 8, 6, 6) to (1, 48): a convolution, a transposed one, a linear layer and a matrix product."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(5)
        self.conv = nn.Conv2d(8, 32, 3)
        self.up = nn.ConvTranspose2d(32, 16, 2, stride=2)
        self.fc = nn.Linear(16, 64)
        self.table = nn.Parameter(torch.empty(48, 64))
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.up(self.conv(x).relu()).relu()
        x = self.fc(x.mean((2, 3))).relu()
        return (self.table @ x.transpose(0, 1)).transpose(0, 1)

    def weights(self) -> dict[str, nn.Parameter]:
        return {
            "conv": self.conv.weight,
            "conv_transpose": self.up.weight,
            "linear": self.fc.weight,
            "matmul": self.table,
        }


def spec_for(target: str, **steps: Any) -> BuildSpec:
    return make_spec(
        input={"x": {"kind": "tensor", "shape": list(SHAPE)}},
        precision={"kind": "fp32"},
        target={"name": target},
        compression=steps,
    )


@cache
def converted(target: str) -> ConvertedModel:
    return convert_module(SmallNet(), spec_for(target))


def compressed(target: str, *steps: dict[str, Any], threshold: int = 500) -> CompressedModel:
    """SmallNet in fp32 with the steps applied to weights of more than `threshold` elements."""
    named = {f"step_{index}": {"weight_threshold": threshold} | step for index, step in enumerate(steps)}
    return compress(converted(target), spec_for(target, **named), Silent())


def dense_weights(model: CompressedModel) -> Dense:
    """The weights as coremltools itself decompresses them."""
    found = {}
    for op in operators(model):
        if op.op_type in ("conv", "conv_transpose", "linear", "matmul"):
            found[op.op_type] = np.array(_dense(op.x if op.op_type == "matmul" else op.weight))
    return found


def _dense(variable: Any) -> Any:
    """The value of a variable behind any chain of `constexpr_*`, by coremltools' own functions (not the runtime's)."""
    op = variable.op
    if op.op_type == "const":
        return variable.val
    given = {name: None if value is None else _dense(value) for name, value in op.inputs.items()}
    match op.op_type:
        case "constexpr_affine_dequantize" | "constexpr_blockwise_shift_scale":
            data = given.get("quantized_data", given.get("data"))
            zero = given.get("zero_point", given.get("offset"))
            return dequantize_by_scale_and_zp(data, given["scale"], zero, given.get("axis"))
        case "constexpr_lut_to_dense" if given.get("shape") is not None:
            return op.materialized_val_inference()
        case "constexpr_lut_to_dense":
            return lut_to_dense(given["indices"], given["lut"], given.get("vector_axis"))
        case "constexpr_sparse_to_dense" if given.get("shape") is not None:
            return op.materialized_val_inference()
        case "constexpr_sparse_to_dense":
            return sparse_to_dense(given["nonzero_data"], given["mask"])
        case "constexpr_lut_to_sparse":
            indices = sparse_to_dense(given["indices_nonzero_data"], given["indices_mask"])
            mask = given["indices_mask"]
            values = lut_to_dense(indices, given["lut"], given.get("vector_axis"))[mask != 0]
        case "constexpr_sparse_blockwise_shift_scale":
            mask = given["data_mask"]
            data = sparse_to_dense(given["nonzero_data"], mask)
            values = dequantize_by_scale_and_zp(data, given["scale"], given.get("offset"))[mask != 0]
    return mask if variable is op.outputs[0] else values


def plain_weights() -> Dense:
    return {kind: weight.detach().numpy().copy() for kind, weight in SmallNet().weights().items()}


def executed(model: CompressedModel, folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """What the saved file computes, and what PyTorch computes with the decompressed weights."""
    path = folder / "net.mlpackage"
    model.model.save(str(path))
    x = np.random.default_rng(3).standard_normal(SHAPE).astype(np.float32)
    net = SmallNet()
    with torch.no_grad():
        for kind, value in dense_weights(model).items():
            net.weights()[kind].copy_(torch.from_numpy(value))
        wanted = net(torch.from_numpy(x)).numpy()
    (result,) = load(path).predict({"x": x}).values()
    return result, wanted
