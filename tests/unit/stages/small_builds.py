"""Small models and specs that the tests of the convert, compress and seal stages share."""

from __future__ import annotations

from typing import Any

import torch

from builder.artifacts.stages import (
    CapturedProgram,
    CompressedModel,
    ConvertedModel,
    ExampleInputs,
    LoadedModel,
    PreparedModel,
)
from builder.backends.coreml.convert import convert
from builder.data import make_examples
from builder.spec import BuildSpec
from builder.stages.capture import capture
from builder.stages.prepare import prepare
from builder.store.inputs import spec_view

IMAGE = {"kind": "image", "shape": [1, 3, 16, 16], "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}
TENSOR = {"kind": "tensor", "shape": [1, 3, 16, 16]}


class Convolutions(torch.nn.Module):
    """Two convolutions, a batch norm and a linear layer: (1, 3, H, W) to (1, 250)."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(7)
        self.stem = torch.nn.Conv2d(3, 64, 3)
        self.norm = torch.nn.BatchNorm2d(64)
        self.body = torch.nn.Conv2d(64, 50, 3)
        self.head = torch.nn.Linear(50, 250)
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.norm(self.stem(x)).relu()
        return self.head(self.body(x).relu().mean((2, 3)))


def make_spec(**parts: Any) -> BuildSpec:
    """A spec for an image model in fp16 for iOS 16, with parts replaced."""
    given: dict[str, Any] = {
        "source": {"kind": "torchvision", "name": "mobilenet_v2", "weights": None},
        "input": {"image": IMAGE},
        "precision": {"kind": "fp16"},
        "target": {"name": "ios16"},
        "tracking": {"kind": "none"},
        "capture": {"method": "trace"},
    }
    return BuildSpec.model_validate(given | parts)


def capture_module(
    module: torch.nn.Module, spec: BuildSpec
) -> tuple[PreparedModel, CapturedProgram, ExampleInputs, BuildSpec]:
    """What `convert` takes, for a module of one's own."""
    examples = make_examples(spec)
    loaded = LoadedModel(module=module.eval(), digest="0" * 64, origin={})
    prepared = prepare(loaded, examples, spec_view("prepare", spec))
    return prepared, capture(prepared, examples, spec.capture.method, {}), examples, spec


def convert_module(module: torch.nn.Module, spec: BuildSpec) -> ConvertedModel:
    """Prepare, capture and convert a module."""
    return convert(*capture_module(module, spec))


def operators(converted: ConvertedModel | CompressedModel) -> list[Any]:
    """The operators of the final MIL program, without constants."""
    function = converted.model._mil_program.functions["main"]
    return [op for op in function.operations if op.op_type != "const"]
