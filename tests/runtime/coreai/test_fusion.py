"""Operations that are joined compute what they computed apart, and only where nothing else reads what lies between."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from coreml_runtime.coreai.fusion import KERNELS, fuse
from coreml_runtime.coreai.ops import operators
from coreml_runtime.mlprogram import ProgramNetwork
from coreml_runtime.ops.context import TensorType
from coreml_runtime.ops.table import merge
from coreml_runtime.plan import make_plan
from coreml_runtime.program import Block, Constant, Function, Named, Operation, Reference


class Program:
    """Builds a function on one input x, an operation after the other."""

    def __init__(self, *shape: int) -> None:
        self.shape, self.operations = shape, list[Operation]()
        torch.manual_seed(0)

    def constant(self, value: torch.Tensor) -> str:
        dtype = {torch.float32: "fp32", torch.int32: "int32"}[value.dtype]
        type_ = TensorType(dtype=dtype, shape=tuple(value.shape))
        return self.add("const", {}, tuple(value.shape), dtype, val=Constant(value=value, type=type_))

    def add(self, type_: str, inputs: dict[str, str], shape: tuple[int, ...], dtype: str = "fp32", **given: Any) -> str:
        name = f"v{len(self.operations)}"
        text = TensorType(dtype="string", shape=())
        arguments: dict[str, Any] = {key: (Reference(name=value),) for key, value in inputs.items()}
        for key, value in given.items():
            arguments[key] = (value if isinstance(value, Constant) else Constant(value=value, type=text),)
        output = Named(name=name, type=TensorType(dtype=dtype, shape=shape))
        self.operations.append(Operation(type=type_, name=name, inputs=arguments, outputs=(output,), blocks=()))
        return name

    def function(self, *outputs: str) -> Function:
        entry = Named(name="x", type=TensorType(dtype="fp32", shape=self.shape))
        block = Block(inputs=(), operations=tuple(self.operations), outputs=outputs)
        return Function(name="main", opset="ios26", inputs=(entry,), block=block)


def kinds(function: Function) -> list[str]:
    return [each.type for each in function.block.operations if each.type != "const"]


def agree(function: Function) -> list[str]:
    """The operations that are left, after both functions gave the same."""
    fused = fuse(function)
    x = torch.randn(function.inputs[0].type.shape)  # type: ignore[union-attr]  # a tensor
    results = []
    for each in (function, fused):
        plan = make_plan(each, merge(operators(), KERNELS), "half", release=lambda: None)
        results.append(ProgramNetwork(plan=plan).run({"x": x}, states={}, record=None))
    for name, value in results[0].items():
        torch.testing.assert_close(results[1][name], value, rtol=1e-5, atol=1e-5)
    return kinds(fused)


def convolution(program: Program, padding: list[int], value: float = 0.0) -> tuple[str, str, tuple[int, ...]]:
    """A padded convolution of 3 to 4 channels: what is padded, the result, its shape."""
    n, c, h, w = (size + padding[2 * i] + padding[2 * i + 1] for i, size in enumerate(program.shape))
    names = {
        "x": "x",
        "padding": program.constant(torch.tensor(padding, dtype=torch.int32)),
        "padding_value": program.constant(torch.tensor(value)),
    }
    padded = program.add("pad", names, (n, c, h, w), padding_mode="constant")
    ones = program.constant(torch.tensor([1, 1], dtype=torch.int32))
    names = {
        "x": padded, "weight": program.constant(torch.randn(4, c, 3, 3)), "stride": ones, "dilation": ones,
        "groups": program.constant(torch.tensor(1, dtype=torch.int32)),
    }  # fmt: skip
    shape = (n, 4, h - 2, w - 2)
    return padded, program.add("conv2d", names, shape), shape


@pytest.mark.parametrize("constant_first", [False, True])
def test_padding_convolution_and_bias_are_one(constant_first: bool) -> None:
    program = Program(1, 3, 6, 5)
    _, result, shape = convolution(program, [0, 0, 0, 0, 1, 1, 2, 0])
    bias = program.constant(torch.randn(1, 4, 1, 1))
    pair = (bias, result) if constant_first else (result, bias)
    end = program.add("add", dict(zip("xy", pair, strict=True)), shape)

    assert agree(program.function(end)) == ["conv"]


def test_a_bias_of_one_repeated_number_is_read_as_a_whole_vector() -> None:
    program = Program(8, 64)
    weight = program.constant(torch.randn(32, 64))
    turned = program.add(
        "transpose", {"x": weight, "perm": program.constant(torch.tensor([1, 0], dtype=torch.int32))}, (64, 32)
    )
    product = program.add("batch_matmul", {"x": "x", "y": turned}, (8, 32))
    end = program.add("add", {"x": product, "y": program.constant(torch.zeros(32))}, (8, 32))

    assert agree(program.function(end)) == ["linear"]


@pytest.mark.parametrize(("padding", "value"), [([0, 0, 1, 1, 1, 1, 1, 1], 0.0), ([0, 0, 0, 0, 1, 1, 1, 1], 2.0)])
def test_padding_of_channels_or_by_another_number_stays(padding: list[int], value: float) -> None:
    program = Program(1, 3, 6, 5)
    _, result, _ = convolution(program, padding, value)

    assert agree(program.function(result)) == ["pad", "conv"]


def test_what_something_else_reads_stays() -> None:
    program = Program(1, 3, 6, 5)
    padded, result, shape = convolution(program, [0, 0, 0, 0, 1, 1, 1, 1])
    end = program.add("add", {"x": result, "y": program.constant(torch.randn(1, 4, 1, 1))}, shape)

    assert agree(program.function(padded, result, end)) == ["pad", "conv", "add"]


@pytest.mark.parametrize("bias", [(1, 4, 6, 5), (5,), (1,), (1, 1, 4, 1, 1)])
def test_what_is_not_one_number_a_channel_is_added_as_it_is(bias: tuple[int, ...]) -> None:
    program = Program(1, 3, 6, 5)
    _, result, shape = convolution(program, [0, 0, 0, 0, 1, 1, 1, 1])
    shape = shape if len(bias) < 5 else (1, *shape)
    end = program.add("add", {"x": result, "y": program.constant(torch.randn(bias))}, shape)

    assert agree(program.function(end)) == ["conv", "add"]


def test_two_limits_are_one() -> None:
    program = Program(4, 4)
    low = program.add("maximum", {"x": "x", "y": program.constant(torch.tensor(-0.5))}, (4, 4))
    end = program.add("minimum", {"x": program.constant(torch.tensor(0.5)), "y": low}, (4, 4))

    assert agree(program.function(end)) == ["clip"]


def test_a_function_without_anything_to_join_is_the_same_object() -> None:
    program = Program(4, 4)
    function = program.function(program.add("add", {"x": "x", "y": "x"}, (4, 4)))

    assert fuse(function) is function
