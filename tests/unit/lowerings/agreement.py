"""What the tests of lowerings share: convert many random cases of one operator at once, run the artifact, and compare.

A case is a function of a random generator: it draws shapes, values and settings, and returns a function of tensors
with the tensors to call it on. `LOWERING_CASES=20 python -m pytest tests/unit/lowerings` draws more than the usual few.
"""

from __future__ import annotations

import os
import random
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import coremltools as ct
import numpy as np
import pytest
import torch
from torch import Tensor

import coreml_runtime as runtime
from builder.artifacts.stages import UsedLowering
from builder.backends.coreml.convert import conversion_errors
from builder.backends.coreml.lowerings.assignment import assignments
from builder.backends.coreml.lowerings.decomposed import decomposed
from builder.backends.coreml.lowerings.half_masks import finite_masks
from builder.backends.coreml.lowerings.high_rank import high_ranks_lowered
from builder.backends.coreml.lowerings.narrow import wrap_exported, wrap_trace
from builder.backends.coreml.lowerings.register import registered_lowerings, uses
from builder.backends.coreml.lowerings.writes import functional_writes, mark_copies
from builder.backends.coreml.patches.conversion import fast_conversion, validate_program
from builder.backends.coreml.patches.exact_passes import exact_passes
from builder.model.capture.composites import run_decompositions

USUAL = 3
CASES = int(os.environ.get("LOWERING_CASES", USUAL))
"""How many random cases of each operator are tried."""

SINGLE, HALF = 2e-5, 4e-3
"""Of the largest value: some tens of operators that each round at 6e-8, or at 5e-4 in half precision."""

Case = tuple[Callable[..., object], Sequence[Tensor]]
Draw = Callable[[random.Random], Case]


class Cases(torch.nn.Module):
    """All cases of one operator: takes their inputs one after the other, returns their outputs."""

    def __init__(self, cases: Sequence[Case]) -> None:
        super().__init__()
        self.cases = list(cases)

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        outputs: list[Tensor] = []
        for function, given in self.cases:
            own, inputs = inputs[: len(given)], inputs[len(given) :]
            result = function(*own)
            outputs += [plain(r) for r in (result if isinstance(result, tuple | list) else (result,))]
        return tuple(outputs)


def plain(result: Tensor) -> Tensor:
    """What Core ML can return: floats and integers as they are, booleans as integers; never an input itself."""
    if result.dtype == torch.bool:
        return torch.where(result, 1, 0).to(torch.int32)
    return result * 1 if result.is_floating_point() else result.to(torch.int32)


def ways(*draws: Draw) -> pytest.MarkDecorator:
    """Each draw by both methods of capture and in both precisions; in the usual run two of the four."""
    every = [(method, half) for method in ("trace", "export") for half in (False, True)]
    chosen = every if CASES > USUAL else [("trace", False), ("export", True)]
    cases = [(draw, *way) for draw in draws for way in chosen]
    names = [f"{draw.__name__}-{method}-{'fp16' if half else 'fp32'}" for draw, method, half in cases]
    return pytest.mark.parametrize(("draw", "method", "half"), cases, ids=names)


def floats(rng: random.Random, *shape: int, low: float = -2.0, high: float = 2.0) -> Tensor:
    """Values that half precision holds exactly, so that both precisions see the same inputs."""
    generator = torch.Generator().manual_seed(rng.randrange(2**31))
    return (torch.rand(shape, generator=generator) * (high - low) + low).half().float()


def integers(rng: random.Random, *shape: int, low: int = -50, high: int = 50) -> Tensor:
    generator = torch.Generator().manual_seed(rng.randrange(2**31))
    return torch.randint(low, high, shape, generator=generator, dtype=torch.int32)


def some_shape(rng: random.Random, *, low: int = 1, high: int = 4, largest: int = 5) -> list[int]:
    """A rank from `low` to `high`, and sizes up to `largest`."""
    return [rng.randint(1, largest) for _ in range(rng.randint(low, high))]


def some_axis(rng: random.Random, shape: Sequence[int]) -> int:
    return rng.randrange(-len(shape), len(shape))


def agree(
    draw: Draw,
    *,
    method: str,
    half: bool,
    folder: Path,
    count: int = CASES,
    within: float | None = None,
    target: str = "iOS17",
) -> Mapping[str, UsedLowering]:
    """Assert that the artifact gives what torch gives, NaN and infinities included; return the lowerings used."""
    rng = random.Random(f"{draw.__name__} {method}")
    module = Cases([draw(rng) for _ in range(count)]).eval()
    inputs = [tensor for _, given in module.cases for tensor in given]
    with torch.no_grad():
        expected = module(*(x.clone() for x in inputs))
    model, used = convert(module, inputs, method=method, half=half, target=target)
    path = folder / f"{method}_{half}.mlpackage"
    model.save(str(path))
    got = runtime.load(path).predict({f"x{i}": x.numpy() for i, x in enumerate(inputs)})
    tolerance = within if within is not None else HALF if half else SINGLE
    for index, wanted in enumerate(expected):
        found = np.asarray(got[f"y{index}"])
        assert found.shape == tuple(wanted.shape) or (wanted.dim() == 0 and found.shape == (1,)), (
            index,
            found.shape,
            wanted.shape,
        )
        check_close(found.reshape(wanted.shape), wanted.numpy(), tolerance, f"case {index}")
    return used


def check_close(found: np.ndarray, wanted: np.ndarray, tolerance: float, which: str) -> None:
    if not wanted.size:
        return
    if np.issubdtype(wanted.dtype, np.integer):
        np.testing.assert_array_equal(found, wanted, err_msg=which)
        return
    finite = np.isfinite(wanted)
    scale = float(np.abs(wanted[finite]).max()) if finite.any() else 0.0
    np.testing.assert_allclose(found, wanted, rtol=0, atol=tolerance * max(scale, 1e-3), err_msg=which)


def convert(module: torch.nn.Module, inputs: Sequence[Tensor], *, method: str, half: bool, target: str = "iOS17"):
    """The model as coremltools and our lowerings make it, and which of ours were used."""
    program = captured(module, inputs, method)
    model, used, _ = convert_program(program, module, inputs, half=half, target=target)
    return model, used


def captured(module: torch.nn.Module, inputs: Sequence[Tensor], method: str) -> Any:
    """A trace or an exported program, as the capture stage makes them."""
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of tracing and exporting itself
        if method == "export":
            return wrap_exported(run_decompositions(torch.export.export(module, tuple(inputs)), {}))
        traced = torch.jit.trace(module, tuple(inputs), check_trace=False)
        mark_copies(traced)
        wrap_trace(traced)
        return traced


def convert_program(
    program: Any, module: torch.nn.Module, inputs: Sequence[Tensor], *, half: bool, target: str = "iOS17"
) -> tuple[Any, Mapping[str, UsedLowering], set[str]]:
    """The model, the lowerings of ours that were used, and the types of its operators."""
    with torch.no_grad():
        outputs = [
            ct.TensorType(name=f"y{i}", dtype=np.float32 if y.is_floating_point() else np.int32)
            for i, y in enumerate(module(*(x.clone() for x in inputs)))
        ]
    with (
        fast_conversion() as keep,
        conversion_errors("cannot convert"),
        registered_lowerings() as counted,
        functional_writes(),
        assignments(),
        high_ranks_lowered(),
        exact_passes(),
        finite_masks(),
    ):
        model = ct.convert(
            decomposed(program) if isinstance(program, torch.export.ExportedProgram) else program,
            inputs=[ct.TensorType(name=f"x{i}", shape=x.shape, dtype=_input_dtype(x)) for i, x in enumerate(inputs)],
            outputs=outputs,
            minimum_deployment_target=getattr(ct.target, target),
            compute_precision=ct.precision.FLOAT16 if half else ct.precision.FLOAT32,
            skip_model_load=True,
        )
        validate_program(model._mil_program)
        keep(model)
    types = {op.op_type for op in model._mil_program.functions["main"].operations if op.op_type != "const"}
    return model, {used.operator: used for used in uses(counted)}, types


def _input_dtype(x: Tensor) -> type:
    return np.float32 if x.is_floating_point() else np.int32
