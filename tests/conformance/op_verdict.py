"""Whether an operator's artifact gives what torch gives, on every set of values, or is refused, and by which words."""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

import coreml_runtime as runtime
from builder.errors import BuilderError
from tests.conformance.op_samples import ANY_ORDER, VALUES, Case
from tests.unit.lowerings.agreement import captured, convert_program

Outputs = tuple[Tensor, ...]

SINGLE, HALF = 1e-5, 4e-3
"""Of an output's scale: some operators that each round at 6e-8, or at 5e-4 in half precision."""
_LARGEST = 65504.0
"""Of half precision."""
_LARGEST_SINGLE = 3.4e38
_ULPS = {False: 2.0**-22, True: 2.0**-10}
"""Two units in the last place of an input: what they change in the result is no error."""


def verdicts(cases: Sequence[Case], methods: Sequence[str]) -> Iterator[tuple[int, str, dict[str, Any]]]:
    """Of each case by each method of capture and in both precisions: its place, `trace fp16` and what came of it.

    All cases are converted as one program first, which is several times faster; where that is refused, or a result
    is not right, each is converted alone.
    """
    for method in methods:
        together = _verdicts(cases, method) if len(cases) > 1 else {}
        for index, case in enumerate(cases):
            alone = None
            for precision in ("fp32", "fp16"):
                found = together.get((index, precision))
                if found is None or found["verdict"] != "right":
                    alone = alone or _verdicts([case], method)
                    found = alone[0, precision]
                yield index, f"{method} {precision}", found


class Together(torch.nn.Module):
    """Several cases: takes their inputs one after the other, gives their outputs."""

    def __init__(self, cases: Sequence[Case]) -> None:
        super().__init__()
        self.cases = torch.nn.ModuleList([case.module for case in cases])
        self.counts = [len(case.inputs) for case in cases]

    def forward(self, *tensors: Tensor) -> Outputs:
        outputs: list[Tensor] = []
        for case, count in zip(self.cases, self.counts, strict=True):
            outputs += case(*tensors[:count])
            tensors = tensors[count:]
        return tuple(outputs)


def _verdicts(cases: Sequence[Case], method: str) -> dict[tuple[int, str], dict[str, Any]]:
    """The verdict on each case, by its place and precision, from one program that holds all of them."""
    module = Together(cases).eval()
    inputs = tuple(x for case in cases for x in case.inputs)
    every = [(index, precision) for precision in ("fp32", "fp16") for index in range(len(cases))]
    try:
        program = captured(module, inputs, method)
    except Exception as error:
        return {key: {"verdict": "refused", "why": f"{method} failed: {first_line(error)}"} for key in every}
    found: dict[tuple[int, str], dict[str, Any]] = {}
    for precision in ("fp32", "fp16"):
        half = precision == "fp16"
        of_this = _converted(program, module, inputs, cases, half=half)
        found.update({(index, precision): result for index, result in enumerate(of_this)})
    wrong = any(result["verdict"] not in ("right", "refused") for result in found.values())
    if method == "trace" and len(cases) == 1 and wrong and _is_frozen(cases[0], program):
        why = "trace froze something: on other values it gives something else"
        return {key: {"verdict": "refused", "why": why} for key in every}
    return found


def _is_frozen(case: Case, program: Any) -> bool:
    """Whether the trace gives something else than the operator, as the capture stage compares them."""
    for inputs in case.others.values():
        expected = _reference(case, inputs)
        if expected is None:
            continue
        try:
            with torch.no_grad():
                got = program(*(x.clone() for x in inputs))
        except Exception:
            return True
        got = got if isinstance(got, tuple) else (got,)
        for a, b in zip(got, expected, strict=True):
            if a.shape != b.shape or not torch.allclose(a.double(), b.double(), 1e-3, 1e-6, equal_nan=True):
                return True
    return False


def _converted(
    program: Any, module: torch.nn.Module, inputs: Sequence[Tensor], cases: Sequence[Case], *, half: bool
) -> list[dict[str, Any]]:
    """For each case `right`, `wrong` with what differs, `refused` with the message, `breaks` where it does not run."""
    try:
        model, used, types = convert_program(program, module, inputs, half=half)
    except BuilderError as error:
        return [{"verdict": "refused", "why": str(error).removeprefix("cannot convert: ")[:200]}] * len(cases)
    except Exception as error:
        return [{"verdict": "breaks", "why": first_line(error)}] * len(cases)
    found: dict[str, Any] = {"lowerings": sorted(used), "types": sorted(types)}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.mlpackage"
        model.save(str(path))
        artifact = runtime.load(path)
        return [found | verdict for verdict in judged(artifact, cases, half=half)]


def judged(artifact: Any, cases: Sequence[Case], *, half: bool) -> list[dict[str, Any]]:
    """The verdicts on all values; each case is right until one of its sets of values is not."""
    verdicts: list[dict[str, Any]] = [{"verdict": "right"} for _ in cases]
    for name in VALUES:
        given = [_given(case, name) for case in cases]
        if name != "own" and not any(name in case.others for case in cases):
            continue
        try:
            got = artifact.predict({f"x{i}": x.numpy() for i, x in enumerate(x for one in given for x in one)})
        except Exception as error:
            breaks = {"verdict": "breaks", "values": name, "why": first_line(error)}
            return [breaks if v["verdict"] == "right" else v for v in verdicts]
        outputs = [np.asarray(got[f"y{i}"]) for i in range(len(got))]
        for index, (case, inputs) in enumerate(zip(cases, given, strict=True)):
            own, outputs = outputs[: case.outputs], outputs[case.outputs :]
            if verdicts[index]["verdict"] == "right" and (wrong := _difference(own, case, inputs, half=half)):
                verdicts[index] = {"verdict": "wrong", "values": name, "why": wrong}
    return verdicts


def first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0] if lines else ''}"[:200]


def _given(case: Case, name: str) -> tuple[Tensor, ...]:
    """The inputs of this name; the case's own where it has none, or torch refuses them."""
    inputs = case.others.get(name, case.inputs)
    return case.inputs if _reference(case, inputs) is None else inputs


def _difference(got: Sequence[np.ndarray], case: Case, inputs: Sequence[Tensor], *, half: bool) -> str | None:
    expected = _reference(case, inputs)
    if expected is None:
        return None  # torch itself refuses these values
    if all(not output.is_floating_point() for output in expected) and _overflows(case, inputs, expected):
        return None
    allowed = _allowed(case, inputs, expected, half=half)
    for index, (found, wanted, tolerance) in enumerate(zip(got, expected, allowed, strict=True)):
        if (wanted.is_floating_point() or case.name in _THROUGH_FLOATS) and _has_larger_integers(
            inputs, 2**11 if half else 2**24
        ):
            continue
        if case.name in ANY_ORDER and not wanted.is_floating_point() and _has_equal_values(inputs[0]):
            continue
        if not wanted.numel():
            continue  # Core ML returns no tensor without elements
        if found.size != wanted.numel():
            return f"output {index} has shape {found.shape}, not {tuple(wanted.shape)}"
        if (said := _compare(found.reshape(wanted.shape), wanted, tolerance, half=half)) is not None:
            return f"output {index}: {said}"
    return None


_THROUGH_FLOATS = {"masked.logsumexp"}
"""Operators that give integers for integers, by way of floats."""


def _reference(case: Case, inputs: Sequence[Tensor]) -> Outputs | None:
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return case.module(*(x.clone() for x in inputs))
        except Exception:
            return None


def _has_equal_values(x: Tensor) -> bool:
    return x.unique().numel() < x.numel()


def _has_larger_integers(inputs: Sequence[Tensor], most: int) -> bool:
    """Integers that floats of a precision cannot hold, so that no operator on them as floats is asked to be right."""
    return any(not x.is_floating_point() and bool((x.abs() > most).any()) for x in inputs)


def _in(dtype: torch.dtype, case: Case, inputs: Sequence[Tensor]) -> Outputs | None:
    """What torch gives where all floats are of another dtype, those that it makes of integers included."""
    usual = torch.get_default_dtype()
    case.module.floats = dtype
    torch.set_default_dtype(dtype)
    try:
        return _reference(case, inputs)
    finally:
        case.module.floats = None
        torch.set_default_dtype(usual)


def _overflows(case: Case, inputs: Sequence[Tensor], expected: Outputs) -> bool:
    """Whether integers leave 32 bits on the way, which no dtype of Core ML holds and no standard defines.

    As 64-bit integers they give something else then, or as floats (of powers) what no 32 bits hold.
    """
    long, double = (_widened(case, inputs, dtype) for dtype in (torch.int64, torch.float64))
    if long is None or any(not torch.equal(a, b.double()) for a, b in zip(long, expected, strict=True)):
        return True
    return double is not None and any(bool((x.abs() >= 2.0**31).any()) for x in double)


def _widened(case: Case, inputs: Sequence[Tensor], dtype: torch.dtype) -> Outputs | None:
    case.module.wide = dtype
    try:
        return _reference(case, inputs)
    finally:
        case.module.wide = None


def _moved(x: Tensor, share: float, seed: int) -> Tensor:
    """X with each element off by a share of it: all up or all down (seeds 0 and 1), or at random."""
    signs = torch.full(x.shape, 1.0 - 2 * seed)
    if seed > 1:
        signs = torch.randint(0, 2, x.shape, generator=torch.Generator().manual_seed(seed)) * 2.0 - 1
    return x * (1 + share * signs) if x.is_floating_point() else x + (x * share * signs).round().to(x.dtype)


def _allowed(case: Case, inputs: Sequence[Tensor], expected: Outputs, *, half: bool) -> list[Tensor]:
    """For each output how far off each element may be: a share of the scale, and what unsure inputs change."""
    share = HALF if half else SINGLE
    allowed = []
    for wanted in expected:
        finite = wanted.double()[wanted.double().isfinite()]
        scale = float(finite.abs().max()) if finite.numel() else 0.0
        allowed.append(torch.full(wanted.shape, share * max(scale, 1e-4), dtype=torch.float64))
    for index, exact in enumerate(_in(torch.float64, case, inputs) or ()):
        if exact.is_floating_point() and exact.shape == expected[index].shape:  # what torch itself is unsure of
            change = (exact.double() - expected[index].double()).abs()
            allowed[index] = allowed[index] + 4 * torch.where(change.isfinite(), change, 0.0)
    if half:
        _open_what_half_lacks(case, inputs, expected, allowed)
    for seed in range(_SHAKES):
        moved = _reference(case, [_moved(x, _ULPS[half], seed) for x in inputs])
        if moved is None or [m.shape for m in moved] != [w.shape for w in expected]:
            continue
        for index, (wanted, other) in enumerate(zip(expected, moved, strict=True)):
            change = (wanted.double() - other.double()).abs().nan_to_num(float("inf"), float("inf"))
            change = torch.where(wanted.double() == other.double(), 0.0, change)
            allowed[index] = allowed[index] + 4 * change
    return allowed


_SHAKES = 8
"""How often the inputs are changed by a unit in their last place."""


def _open_what_half_lacks(case: Case, inputs: Sequence[Tensor], expected: Outputs, allowed: list[Tensor]) -> None:
    """Allow anything where half precision cannot hold what is on the way, and as much as torch's own half is off.

    Sums and products leave its range although their terms cancel, or zero follows: of magnitudes (in products at least
    1) with other signs they do not all cancel, and of a sum of half the range a part may be beyond it.
    Scores of attention are seen in no result.
    """
    least = 1.0 if case.name in _PRODUCTS else 0.0
    for seed in range(_SIGNS):
        for index, size in enumerate(_reference(case, [_signed(x, least, seed) for x in inputs]) or ()):
            if size.is_floating_point() and size.shape == allowed[index].shape:
                allowed[index] = torch.where(size.abs() > _LARGEST / 2, float("inf"), allowed[index])
    if case.name.startswith(_SUMS) and sum(float(x.double().abs().sum()) for x in inputs[:1]) > _LARGEST:
        allowed[:] = [torch.full_like(each, float("inf")) for each in allowed]
    if case.name == _ATTENTION and float((inputs[0].abs() @ inputs[1].abs().mT).max()) > _LARGEST:
        allowed[:] = [torch.full_like(each, float("inf")) for each in allowed]
    for index, wanted in enumerate(expected):
        if "loss" in case.name and wanted.dim() == 0:  # the mean of terms, a few of which may be all of it
            allowed[index] = torch.where(wanted.abs() * inputs[0].numel() > _LARGEST, float("inf"), allowed[index])
    for index, own in enumerate(_in(torch.float16, case, inputs) or ()):
        if own.is_floating_point() and own.shape == expected[index].shape:
            change = (own.double() - expected[index].double()).abs().nan_to_num(float("inf"), float("inf"))
            grossly = (change > 50 * allowed[index]) | (change > 0.5 * expected[index].double().abs())
            allowed[index] = torch.maximum(allowed[index], torch.where(grossly, change, 0.0))


_SIGNS = 5
"""How often the signs of inputs are changed."""


def _signed(x: Tensor, least: float, seed: int) -> Tensor:
    """Magnitudes of at least so much: all positive (seed 0), or with signs at random."""
    signs = torch.randint(0, 2, x.shape, generator=torch.Generator().manual_seed(seed)) * 2 - 1
    return (x.abs().clamp(min=least) * (signs if seed else 1)).to(x.dtype)


_PRODUCTS = {"cumprod", "prod", "masked.cumprod", "masked.prod"}
_SUMS = ("fft.", "stft", "istft")
_ATTENTION = "nn.functional.scaled_dot_product_attention"


def _compare(found: np.ndarray, wanted: Tensor, allowed: Tensor, *, half: bool) -> str | None:
    if not wanted.numel():
        return None
    want, have = wanted.double().numpy(), found.astype(np.float64)
    limit = np.inf if not wanted.is_floating_point() else _LARGEST if half else _LARGEST_SINGLE
    sure = np.isfinite(want) & (np.abs(want) <= limit)
    off = np.where(sure, np.abs(np.where(sure, have - want, 0)), 0)
    bad = ~(off <= allowed.numpy())
    bad |= np.isposinf(want) & ~(have >= min(limit, 3.4e38)) | np.isneginf(want) & ~(have <= -min(limit, 3.4e38))
    bad |= np.isnan(want) & ~np.isnan(have)
    bad |= sure & ~np.isfinite(have)
    bad &= ~np.isposinf(allowed.numpy())
    if not bad.any():
        return None
    place = int(np.argmax(bad))
    return f"{have.flat[place]:.6g} instead of {want.flat[place]:.6g} ({int(bad.sum())} of {bad.size})"


def summary(results: Sequence[Mapping[str, Any]]) -> str:
    """The worst of several verdicts."""
    order = ("wrong", "breaks", "timeout", "refused", "right")
    found = {result["verdict"] for result in results}
    return next((name for name in order if name in found), "none")
