"""Intervals through whole programs: what the runtime computes on inputs within the domain is within them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from coremltools.converters.mil.mil import Builder as mb  # noqa: N813 - the name that everybody gives it

import coreml_runtime as runtime
from coreml_runtime.errors import UnsupportedError
from coreml_runtime.executor import Step
from coreml_runtime.intervals.program import read_visits
from coreml_runtime.intervals.visit import Operand
from coreml_runtime.intervals.walk import walk
from coreml_runtime.observed import run_observed
from coreml_runtime.ops import operators
from coreml_runtime.ops.context import TensorType
from coreml_runtime.program import Block, Constant, Function, Named, Operation, Reference, StateType
from tests.runtime.programs import save_program
from tests.runtime.stateful import save_stateful

RANDOM = np.random.default_rng(1)
SHAPE = (1, 5, 64)
RANGE = (-300.0, 300.0)


def weight(*shape: int) -> np.ndarray:
    return RANDOM.standard_normal(shape).astype(np.float16)


def normalised(x: Any) -> Any:
    """A layer norm and a linear layer, as in transformers."""
    gamma, beta = 1 + 0.1 * weight(64), weight(64)
    return mb.linear(
        x=mb.layer_norm(x=x, axes=[-1], gamma=gamma, beta=beta, epsilon=np.float16(1e-4)), weight=weight(32, 64)
    )


def root_mean_square(x: Any) -> Any:
    """The same by the root of the mean of squares, in operators of its own, as in language models."""
    scaled = mb.mul(x=x, y=np.float16(0.1))
    mean = mb.reduce_mean(x=mb.square(x=scaled), axes=[-1], keep_dims=True)
    root = mb.rsqrt(x=mb.add(x=mean, y=np.float16(1e-3)), epsilon=np.float16(1e-7))
    return mb.linear(x=mb.mul(x=mb.mul(x=scaled, y=root), y=1 + 0.1 * weight(64)), weight=weight(32, 64))


def attention(x: Any) -> Any:
    """Means of values by softmax."""
    scaled = mb.mul(x=x, y=np.float16(0.05))
    shares = mb.softmax(x=mb.matmul(x=scaled, y=scaled, transpose_y=True), axis=-1)
    return mb.matmul(x=shares, y=mb.mul(x=x, y=np.float16(2)))


def chosen(x: Any) -> Any:
    """One of two blocks."""
    large = mb.greater(x=mb.reduce_max(x=x, keep_dims=False), y=np.float16(1))
    return mb.cond(
        pred=large, _true_fn=lambda: mb.mul(x=x, y=np.float16(2)), _false_fn=lambda: mb.add(x=x, y=np.float16(7))
    )


def placed(x: Any) -> Any:
    """A part whose place is computed."""
    start = mb.cast(
        x=mb.clip(x=mb.reduce_max(x=x, keep_dims=False), alpha=np.float16(0), beta=np.float16(3)), dtype="int32"
    )
    begin = mb.stack(values=[np.int32(0), start, np.int32(0)], axis=0)
    return mb.slice_by_size(x=mb.mul(x=x, y=np.float16(3)), begin=begin, size=[1, 2, 64])


PROGRAMS: dict[str, tuple[Callable[..., Any], float]] = {
    "normalised": (normalised, 300.0),
    "root_mean_square": (root_mean_square, 300.0),
    "attention": (attention, 620.0),
    "chosen": (chosen, 620.0),
    "placed": (placed, 920.0),
}
"""By name, a program, and what its result is proven to be below."""


def results(path: Path) -> dict[str, Operand]:
    visits = read_visits(path, {"x": RANGE})
    return {output.name: output for visit in visits for output in visit.outputs if output.name}


@pytest.mark.parametrize("name", PROGRAMS)
def test_every_value_is_within_its_interval(name: str, tmp_path: Path) -> None:
    # given a program in half precision
    build, most = PROGRAMS[name]
    path = save_program(tmp_path, build, {"x": (SHAPE, "fp16")}, precision="fp16", opset="ios17")
    found = results(path)
    # then its result is bounded, and surely finite
    assert found["y0"].interval.magnitude < most
    assert found["y0"].sure
    # when it is executed, on noise of several levels, constants and the ends of the range
    inputs = [RANDOM.uniform(*RANGE, SHAPE) * scale for scale in (1, 1e-2, 1e-5)]
    inputs += [np.full(SHAPE, value) for value in (0.0, 300.0, -300.0)] + [RANDOM.choice(RANGE, SHAPE)]

    def observe(step: Step | None, value_name: str, value: torch.Tensor) -> None:
        if step is not None and value.dtype is not torch.bool:
            interval = found[value_name].interval
            assert bool(((value.double() >= interval.low) & (value.double() <= interval.high)).all()), value_name

    for precision in ("half", "fast"):
        model = runtime.load(path, precision=precision)
        for given in inputs:
            run_observed(model, {"x": given.astype(np.float16)}, observe)


def test_a_state_holds_what_is_written_to_it(tmp_path: Path) -> None:
    # given a state that is replaced by a limited value, and one that grows
    def build(x: Any, held: Any, sum_: Any) -> Any:
        read = mb.read_state(input=held)
        kept = mb.coreml_update_state(
            state=held, value=mb.clip(x=mb.add(x=read, y=x), alpha=np.float16(-2), beta=np.float16(2))
        )
        grown = mb.coreml_update_state(state=sum_, value=mb.add(x=mb.read_state(input=sum_), y=x))
        return kept, grown

    path = save_stateful(tmp_path, build)
    visits = read_visits(path, {"x": (-1.0, 1.0)})
    reads = [visit.outputs[0] for visit in visits if visit.operation.type == "read_state"]
    # then the first is proven to stay, and nothing is said of the second
    assert [(r.interval.magnitude <= 2.001, r.sure) for r in reads if r.interval.magnitude < 1e9] == [(True, True)] * 2
    assert sum(r.interval.magnitude == float("inf") for r in reads) == 2


def test_nothing_is_guessed_of_an_operator_without_a_transfer_function(tmp_path: Path) -> None:
    path = save_program(tmp_path, lambda x: mb.random_normal(shape=mb.shape(x=x)), {"x": ((2, 3), "fp32")})
    drawn = next(visit for visit in read_visits(path, {"x": RANGE}) if visit.operation.type == "random_normal")
    assert not drawn.known
    assert (drawn.outputs[0].interval.least, drawn.outputs[0].interval.greatest) == (-float("inf"), float("inf"))


def test_bounds_are_reached_where_elements_are_free(tmp_path: Path) -> None:
    # given a convolution of an input, and a product of two values that depend on the same elements
    def build(x: Any) -> Any:
        made = mb.conv(x=x, weight=weight(3, 4, 2).astype(np.float32))
        return mb.square(x=made), mb.mul(x=made, y=mb.relu(x=made))

    path = save_program(tmp_path, build, {"x": ((1, 4, 9), "fp32")})
    found = results(path)
    # then the largest square is one that some input gives, and of the product nobody says so
    assert found["y0"].interval.reached
    assert not found["y1"].interval.reached
    stored = next(visit for visit in read_visits(path, {"x": RANGE}) if visit.operation.type == "conv")
    kernel = stored.inputs["weight"][0].constant
    assert kernel is not None
    worst = float(kernel.abs().sum((1, 2)).max() * RANGE[1]) ** 2
    assert found["y0"].interval.greatest == pytest.approx(worst, rel=1e-4)


def test_what_is_not_a_program_is_said(tmp_path: Path) -> None:
    from coremltools.models import datatypes
    from coremltools.models.neural_network import NeuralNetworkBuilder
    from coremltools.models.utils import save_spec

    made = NeuralNetworkBuilder([("x", datatypes.Array(4))], [("y", datatypes.Array(4))])
    made.add_activation("a", "RELU", "x", "y")
    save_spec(made.spec, str(tmp_path / "model.mlmodel"))
    with pytest.raises(UnsupportedError, match="neuralNetwork"):
        read_visits(tmp_path / "model.mlmodel", {})


def test_what_one_function_writes_into_a_state_another_reads() -> None:
    # given a function that reads a state, and one that writes 50 into it
    state = Named(name="s", type=StateType(wrapped=TensorType(dtype="fp16", shape=(1,))))
    value = TensorType(dtype="fp16", shape=(1,))
    read = Operation(
        type="read_state", name="r", inputs={"input": (Reference(name="s"),)}, outputs=(Named(name="r", type=value),),
        blocks=(),
    )  # fmt: skip
    fifty = Constant(value=torch.tensor([50.0]).half(), type=value)
    write = Operation(
        type="write_state", name="w", inputs={"input": (Reference(name="s"),), "data": (fifty,)}, outputs=(), blocks=()
    )

    def function(name: str, operation: Operation, *outputs: str) -> Function:
        block = Block(inputs=(), operations=(operation,), outputs=outputs)
        return Function(name=name, opset="ios18", inputs=(state,), block=block)

    reader, writer = function("reader", read, "r"), function("writer", write)
    # then it is bounded by zero alone, and by what both functions do together
    alone = walk({"reader": reader}, operators(), {"reader": {}})["reader"]
    both = walk({"reader": reader, "writer": writer}, operators(), {"reader": {}, "writer": {}})["reader"]
    assert (alone[0].outputs[0].interval.least, alone[0].outputs[0].interval.greatest) == (0.0, 0.0)
    assert (both[0].outputs[0].interval.least, both[0].outputs[0].interval.greatest) == (0.0, 50.0)
