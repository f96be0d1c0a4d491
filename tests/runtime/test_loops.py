"""The loop that coremltools writes for torch.nn.GRU runs as one operation, and gives what the loop gives."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from coreml_runtime import load
from coreml_runtime.dtypes import PRECISIONS, Precision
from coreml_runtime.loops import GRU_LOOP, fuse_loops, gru_loop
from coreml_runtime.mlprogram import ProgramNetwork
from coreml_runtime.package import open_package
from coreml_runtime.program import Function, Operation
from coreml_runtime.reader import read_function

STEPS, BATCH, INPUT, HIDDEN = 5, 2, 3, 4


class Recurrent(nn.Module):
    """A GRU of two directions; the first state may be an input."""

    def __init__(self, *, bias: bool = True) -> None:
        super().__init__()
        self.gru = nn.GRU(INPUT, HIDDEN, bidirectional=True, bias=bias)

    def forward(self, x: Tensor, h: Tensor | None = None) -> tuple[Tensor, Tensor]:
        y, last = self.gru(x, h)
        return y, last


def converted(
    folder: Path, module: nn.Module, *, target: str = "iOS16", half: bool = False, state: bool = False,
    steps: Any = STEPS, compress: Callable[[Any], Any] | None = None,
) -> Path:  # fmt: skip
    """The module as a package."""
    import coremltools as ct

    examples = (torch.zeros(STEPS, BATCH, INPUT), torch.zeros(2, BATCH, HIDDEN))[: 2 if state else 1]
    shapes = ((steps, BATCH, INPUT), (2, BATCH, HIDDEN))
    model = ct.convert(
        torch.jit.trace(module.eval(), examples, check_trace=False),
        inputs=[ct.TensorType(name="xh"[index], shape=shapes[index]) for index in range(len(examples))],
        outputs=[ct.TensorType(name="y", dtype=np.float32), ct.TensorType(name="last", dtype=np.float32)],
        minimum_deployment_target=getattr(ct.target, target),
        compute_precision=ct.precision.FLOAT16 if half else ct.precision.FLOAT32,
        skip_model_load=True,
    )  # fmt: skip
    path = folder / "model.mlpackage"
    (model if compress is None else compress(model)).save(str(path))
    return path


def loops(network: Any) -> tuple[int, int]:
    """How many loops the plan has as one operation, and how many as loops."""
    assert isinstance(network, ProgramNetwork)
    types = [step.type for step in network.plan.block.steps]
    return types.count(GRU_LOOP), types.count("while_loop")


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("target", "bias"), [("iOS15", True), ("iOS16", False), ("iOS17", True), ("iOS18", False)])
def test_a_gru_is_torchs(tmp_path: Path, target: str, bias: bool) -> None:
    # given
    torch.manual_seed(0)
    module = Recurrent(bias=bias)
    model = load(converted(tmp_path, module, target=target, state=target == "iOS17"))
    x, h = torch.randn(STEPS, BATCH, INPUT), torch.randn(2, BATCH, HIDDEN)
    given = {"x": x, "h": h} if target == "iOS17" else {"x": x}
    # when
    found = model.predict(given)
    # then nothing is left of the two loops
    with torch.no_grad():
        y, last = module(*given.values())
    assert loops(model.network) == (2, 0)
    np.testing.assert_allclose(found["y"], y.numpy(), atol=1e-6)
    np.testing.assert_allclose(found["last"], last.numpy(), atol=1e-6)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("precision", PRECISIONS)
def test_in_half_it_is_the_loop_step_by_step(tmp_path: Path, precision: Precision) -> None:
    # given a GRU in half precision, over sequences of any length
    import coremltools as ct

    torch.manual_seed(0)
    path = converted(tmp_path, Recurrent(), half=True, target="iOS17", steps=ct.RangeDim(2, 40, default=STEPS))
    model = load(path, precision=precision)
    assert loops(model.network) == (2, 0)
    for steps in (2, 40):
        x = {"x": torch.randn(steps, BATCH, INPUT) * 3}
        # when it runs as one operation, and as the loop, which shows its inner values
        fused, looped = model.predict(x), model.predict(x, intermediates="all")
        # then both round alike but for the order of sums in a product
        limit = 1e-5 if precision == "fast" else 2e-3
        assert len(looped) > 20
        for name in ("y", "last"):
            np.testing.assert_allclose(fused[name], looped[name], atol=limit)


@pytest.mark.filterwarnings("ignore")
def test_compressed_weights(tmp_path: Path) -> None:
    # given
    from coremltools.optimize import coreml as optimize

    config = optimize.OptimizationConfig(optimize.OpPalettizerConfig(mode="uniform", nbits=4, weight_threshold=4))
    path = converted(tmp_path, Recurrent(), half=True, compress=lambda model: optimize.palettize_weights(model, config))
    model, x = load(path, precision="fast"), {"x": torch.randn(STEPS, BATCH, INPUT)}
    # when
    fused, looped = model.predict(x), model.predict(x, intermediates="all")
    # then
    np.testing.assert_allclose(fused["y"], looped["y"], atol=1e-5)


def altered(function: Function) -> list[Function]:
    """The function with one operator of one loop's body replaced by another, each in turn."""
    others = {
        "add": "sub", "sub": "add", "mul": "add", "sigmoid": "tanh", "tanh": "sigmoid", "gather": "gather_nd",
        "squeeze": "expand_dims", "linear": "matmul", "scatter": "scatter_along_axis", "expand_dims": "squeeze",
        "less": "less_equal",
    }  # fmt: skip
    found = []
    for index, operation in enumerate(function.block.operations):
        for which, block in enumerate(operation.blocks):
            for place, inner in enumerate(block.operations):
                if inner.type == "const":
                    continue
                changed = replace(inner, type=others[inner.type])
                inside = (*block.operations[:place], changed, *block.operations[place + 1 :])
                blocks = [*operation.blocks]
                blocks[which] = replace(block, operations=inside)
                loop = replace(operation, blocks=tuple(blocks))
                outer = (*function.block.operations[:index], loop, *function.block.operations[index + 1 :])
                found.append(replace(function, block=replace(function.block, operations=outer)))
    return found


@pytest.mark.filterwarnings("ignore")
def test_any_other_loop_stays_a_loop(tmp_path: Path) -> None:
    # given the loop, and all that differ from it by one operator
    module = nn.GRU(INPUT, HIDDEN)
    package = open_package(converted(tmp_path, module))
    message = package.specification.mlProgram.functions["main"]
    function = read_function("main", message, lambda file, offset, dtype, shape: torch.zeros(shape))
    others = altered(function)
    # when, then
    assert len(others) > 20
    assert fuse_loops(function, rounds=False) is not function
    for other in others:
        assert fuse_loops(other, rounds=False) is other


@pytest.mark.filterwarnings("ignore")
def test_a_loop_with_swapped_values_stays_a_loop(tmp_path: Path) -> None:
    # given a body in which two operators exchange their first arguments
    package = open_package(converted(tmp_path, nn.GRU(INPUT, HIDDEN)))
    message = package.specification.mlProgram.functions["main"]
    function = read_function("main", message, lambda file, offset, dtype, shape: torch.zeros(shape))
    (loop,) = (each for each in function.block.operations if each.type == "while_loop")
    body = loop.blocks[1]
    places = [index for index, each in enumerate(body.operations) if each.type in ("add", "mul", "linear", "sub")]
    for one, two in pairwise(places):
        operations = list(body.operations)
        first, second = operations[one].inputs, operations[two].inputs
        if first["x"] == second["x"]:
            continue
        operations[one] = replace(operations[one], inputs={**first, "x": second["x"]})
        operations[two] = replace(operations[two], inputs={**second, "x": first["x"]})
        swapped = replace(loop, blocks=(loop.blocks[0], replace(body, operations=tuple(operations))))
        # when, then
        assert _fused(function, loop, swapped) is None


def _fused(function: Function, loop: Operation, other: Operation) -> Operation | None:
    """The operation that the other loop becomes in the loop's place; None if it stays."""
    operations = tuple(other if each is loop else each for each in function.block.operations)
    changed = replace(function, block=replace(function.block, operations=operations))
    found = fuse_loops(changed, rounds=False)
    return None if found is changed else next(each for each in found.block.operations if each.type == GRU_LOOP)


@pytest.mark.parametrize("rounds", [False, True])
def test_states_that_are_not_empty_are_added_to(rounds: bool) -> None:
    # given a list whose later rows hold something, which the loop's scatter adds to
    random = torch.Generator().manual_seed(0)
    weights = {f"weight_i{gate}": torch.randn(HIDDEN, INPUT, generator=random) for gate in "rzn"}
    weights |= {f"weight_h{gate}": torch.randn(HIDDEN, HIDDEN, generator=random) for gate in "rzn"}
    x, states = (torch.randn(steps, BATCH, size, generator=random) for steps, size in ((3, INPUT), (4, HIDDEN)))
    # when
    counter, found = gru_loop(x=x, states=states, length=3, rounds=rounds, **weights)
    # then
    h, expected = states[0], [states[0]]
    for row, before in zip(x, states[1:], strict=True):
        r, z = (torch.sigmoid(row @ weights[f"weight_i{g}"].T + h @ weights[f"weight_h{g}"].T) for g in "rz")
        n = torch.tanh(row @ weights["weight_in"].T + r * (h @ weights["weight_hn"].T))
        h = before + (1 - z) * n + z * h
        expected.append(h)
    assert counter.tolist() == [3]
    torch.testing.assert_close(found, torch.stack(expected), rtol=0, atol=2e-2 if rounds else 1e-5)
    # and no step leaves the list as it is, more steps than inputs are an error
    assert torch.equal(gru_loop(x=x, states=states, length=0, rounds=rounds, **weights)[1], states)
    with pytest.raises(IndexError, match="4 steps, but 3 inputs"):
        gru_loop(x=x, states=states, length=4, rounds=rounds, **weights)
