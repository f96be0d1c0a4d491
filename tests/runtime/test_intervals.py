"""Bounds hold: what a kernel computes on values within its operands' intervals is within the interval of its result."""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import Tensor

from coreml_runtime.dtypes import held, round_half
from coreml_runtime.intervals.context import Outputs
from coreml_runtime.intervals.interval import Interval, of_input
from coreml_runtime.intervals.transfers import transfers
from coreml_runtime.intervals.walk import finished
from coreml_runtime.ops import operators
from coreml_runtime.ops.context import Context, TensorType
from coreml_runtime.ops.table import is_exact, parameters
from tests.runtime.interval_cases import CASES, Case

TRIALS = 8


def test_every_transfer_function_is_tried() -> None:
    assert set(CASES) == set(transfers())
    assert set(transfers()) <= set(operators())


def _drawn(shape: tuple[int, ...], name: str, case: Case, generator: torch.Generator) -> tuple[Interval, list[Tensor]]:
    """An interval, for all elements or for each index of one axis, and values within it."""
    axis = int(torch.randint(-1, max(len(shape), 1), (1,), generator=generator))
    kept = tuple(size if place == axis else 1 for place, size in enumerate(shape))
    if case.integer is not None:
        low = torch.randint(case.integer[0], case.integer[1] + 1, kept, generator=generator).double()
        high = torch.randint(case.integer[0], case.integer[1] + 1, kept, generator=generator).double()
        if name == "indices":
            low, high = torch.full_like(low, case.integer[0]), torch.full_like(high, case.integer[1])
    else:
        scale = case.scale or 10 ** float(torch.empty(1).uniform_(-4, 4, generator=generator))
        middle = torch.randn(kept, generator=generator, dtype=torch.float64) * scale / 2
        reach = (
            torch.rand(kept, generator=generator, dtype=torch.float64)
            * scale
            * 10 ** float(torch.empty(1).uniform_(-3, 0, generator=generator))
        )
        low, high = (middle - reach).clamp(-scale, scale), (middle + reach).clamp(-scale, scale)
        low, high = low.clamp(min=case.low), high.clamp(min=max(case.low, 0.0) + 1e-3 if case.low >= 0 else -math.inf)
        low, high = low.float().double(), high.float().double()
    low, high = torch.minimum(low, high), torch.maximum(low, high)
    dtype = torch.float32 if case.integer is None or case.dtype != "fp32" else torch.int32
    values = []
    for share in (
        torch.rand(shape, generator=generator, dtype=torch.float64),
        torch.zeros(shape),
        torch.ones(shape),
        torch.randint(0, 2, shape, generator=generator),
    ):
        value = (low + share * (high - low)).expand(shape)
        value = value.round() if dtype is torch.int32 else value
        values.append(torch.maximum(torch.minimum(value.to(dtype), high.to(dtype)), low.to(dtype)).contiguous())
    return of_input(name, low, high, shape), values


def _context(types: tuple[TensorType | None, ...]) -> Context:
    return Context(
        opset="ios17", output_types=types, held=lambda dtype: held(dtype, "half"),
        generator=torch.Generator().manual_seed(0), run_block=lambda *_: (), states={},
    )  # fmt: skip


def _called(name: str, arguments: Mapping[str, Any]) -> tuple[Tensor, ...]:
    kernel = operators()[name]
    given = {p.keyword: arguments[p.name] for p in parameters(kernel) if p.name in arguments}
    if any(p.kind == "context" for p in parameters(kernel)):
        declared = arguments.get("dtype", "fp32")
        given["context"] = _context((TensorType(dtype=declared, shape=()),) * 3)
    result = kernel(**given)
    return result if isinstance(result, tuple) else (result,)


def _bounds(name: str, intervals: Mapping[str, Any], case: Case, types: tuple[TensorType, ...]) -> tuple[Interval, ...]:
    transfer = transfers()[name]
    kernel_words = {p.name: p.keyword for p in parameters(operators()[name])}
    arguments = {kernel_words[word]: value for word, value in {**case.constants, **intervals}.items()}
    kinds = dict.fromkeys(intervals, "int32" if case.integer else "fp32")
    arguments["outputs"] = Outputs(types=types, opset="ios17", given=kinds)
    wanted = inspect.signature(transfer).parameters
    result = transfer(**{k: v for k, v in arguments.items() if "_" in wanted or k in wanted})
    return result if isinstance(result, tuple) else (result,)


def _assert_within(value: Tensor, interval: Interval, what: str) -> None:
    value = value.double()
    assert interval.nan or not bool(value.isnan().any()), f"{what}: not a number, and nobody said so"
    fits = (value >= interval.low) & (value <= interval.high) | value.isnan()
    assert bool(fits.all()), (
        f"{what}: {value[~fits][:3].tolist()} in {interval.low.expand(value.shape)[~fits][:3].tolist()}, "
        f"{interval.high.expand(value.shape)[~fits][:3].tolist()}"
    )


def _kind(value: Tensor, integer: bool) -> str:
    if value.dtype is torch.bool:
        return "bool"
    return "fp32" if value.is_floating_point() else "int32"


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("name", sorted(CASES))
def test_values_within_intervals_give_values_within_the_interval(name: str) -> None:
    generator = torch.Generator().manual_seed(sum(map(ord, name)))
    for number, case in enumerate(CASES[name]):
        for trial in range(TRIALS):
            drawn = {
                word: tuple(_drawn(s, f"{word}{i}", case, generator) for i, s in enumerate(shape))
                if shape and isinstance(shape[0], tuple)
                else _drawn(shape, word, case, generator)
                for word, shape in case.values.items()
            }
            intervals: dict[str, Any] = {
                word: tuple(each[0] for each in found) if isinstance(found[0], tuple) else found[0]
                for word, found in drawn.items()
            }
            for pick in range(4):
                values = {
                    word: tuple(each[1][pick] for each in found) if isinstance(found[0], tuple) else found[1][pick]
                    for word, found in drawn.items()
                }
                results = _called(name, {**case.constants, **values})
                types = tuple(TensorType(dtype=_kind(r, bool(case.integer)), shape=tuple(r.shape)) for r in results)
                if name == "real_div" and case.integer:
                    results = (results[0].int(),)
                    types = (TensorType(dtype="int32", shape=tuple(results[0].shape)),)
                if name == "non_zero":
                    types = (TensorType(dtype="int32", shape=(None, *types[0].shape[1:])),)
                if name == "cast":
                    types = (TensorType(dtype=case.constants["dtype"], shape=types[0].shape),)
                bounds = _bounds(name, intervals, case, types)
                what = f"{name}, case {number}, trial {trial}"
                exact = is_exact(operators()[name])
                for result, bound, type_ in zip(results, bounds, types, strict=True):
                    whole = finished(bound, type_, exact=exact)
                    _assert_within(result, whole, what)
                    if result.is_floating_point() and whole.magnitude < 65504:
                        half = finished(bound, TensorType(dtype="fp16", shape=type_.shape), exact=False)
                        _assert_within(round_half(result.float()), half, f"{what}, in half")
