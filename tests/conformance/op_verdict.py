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

from builder import runtime
from builder.errors import BuilderError
from tests.conformance.op_samples import ANY_ORDER, Case
from tests.unit.lowerings.agreement import captured, convert_program

Outputs = tuple[Tensor, ...]

SINGLE, HALF = 1e-5, 4e-3
"""Of an output's scale: some operators that each round at 6e-8, or at 5e-4 in half precision."""
_LARGEST = 65504.0
"""Of half precision."""
_ULPS = {False: 2.0**-22, True: 2.0**-10}
"""Two units in the last place of an input: what they change in the result is no error."""


def verdicts(case: Case, methods: Sequence[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    """By each method of capture and in both precisions: `trace fp16` and what came of it."""
    for method in methods:
        names = [f"{method} {precision}" for precision in ("fp32", "fp16")]
        try:
            program = captured(case.module, case.inputs, method)
        except Exception as error:
            yield from ((name, {"verdict": "refused", "why": f"{method} failed: {_first(error)}"}) for name in names)
            continue
        if method == "trace" and _is_frozen(case, program):
            frozen = {"verdict": "refused", "why": "trace froze something: on other values it gives something else"}
            yield from ((name, frozen) for name in names)
            continue
        single = verdict(case, program, half=False)
        yield names[0], single
        yield names[1], single if single["verdict"] == "refused" else verdict(case, program, half=True)


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


def verdict(case: Case, program: Any, *, half: bool) -> dict[str, Any]:
    """`right`, `wrong` with what differs, `refused` with the message, or `breaks` where a prediction fails."""
    try:
        model, used, types = convert_program(program, case.module, case.inputs, half=half)
    except BuilderError as error:
        return {"verdict": "refused", "why": str(error).removeprefix("cannot convert: ")[:200]}
    except Exception as error:
        return {"verdict": "breaks", "why": _first(error)}
    found: dict[str, Any] = {"lowerings": sorted(used), "types": sorted(types)}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.mlpackage"
        model.save(str(path))
        artifact = runtime.load(path)
        for name, inputs in {"own": case.inputs, **case.others}.items():
            if (wrong := _difference(artifact, case, inputs, half=half)) is not None:
                return found | {"verdict": wrong[0], "values": name, "why": wrong[1]}
    return found | {"verdict": "right"}


def _first(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0] if lines else ''}"[:200]


def _difference(artifact: Any, case: Case, inputs: Sequence[Tensor], *, half: bool) -> tuple[str, str] | None:
    expected = _reference(case, inputs)
    if expected is None:
        return None  # torch itself refuses these values
    try:
        got = artifact.predict({f"x{i}": x.numpy() for i, x in enumerate(inputs)})
    except Exception as error:
        return "breaks", _first(error)
    if all(not output.is_floating_point() for output in expected) and _overflows(case, inputs, expected):
        return None
    allowed = _allowed(case, inputs, expected, half=half)
    for index, (wanted, tolerance) in enumerate(zip(expected, allowed, strict=True)):
        if half and wanted.is_floating_point() and _has_integers_beyond_half(inputs):
            continue
        if case.name in ANY_ORDER and not wanted.is_floating_point() and _has_equal_values(inputs[0]):
            continue
        found = np.asarray(got[f"y{index}"])
        if not wanted.numel():
            continue  # Core ML returns no tensor without elements
        if found.size != wanted.numel():
            return "wrong", f"output {index} has shape {found.shape}, not {tuple(wanted.shape)}"
        said = _compare(found.reshape(wanted.shape), wanted, tolerance, half=half)
        if said is not None:
            return "wrong", f"output {index}: {said}"
    return None


def _reference(case: Case, inputs: Sequence[Tensor]) -> Outputs | None:
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return case.module(*(x.clone() for x in inputs))
        except Exception:
            return None


def _has_equal_values(x: Tensor) -> bool:
    return x.unique().numel() < x.numel()


def _has_integers_beyond_half(inputs: Sequence[Tensor]) -> bool:
    """Integers that half precision cannot hold, so that no operator on them as floats can be asked to be right."""
    return any(not x.is_floating_point() and bool((x.abs() > 2048).any()) for x in inputs)


def _in_half(case: Case, inputs: Sequence[Tensor]) -> Outputs | None:
    case.module.in_half = True
    try:
        return _reference(case, inputs)
    finally:
        case.module.in_half = False


def _overflows(case: Case, inputs: Sequence[Tensor], expected: Outputs) -> bool:
    """Whether integers leave 32 bits on the way, which no dtype of Core ML holds and no standard defines."""
    case.module.is_wide = True
    try:
        wide = _reference(case, inputs)
    finally:
        case.module.is_wide = False
    return wide is None or any(not torch.equal(a, b) for a, b in zip(wide, expected, strict=True))


def _moved(x: Tensor, share: float) -> Tensor:
    return x * (1 + share) if x.is_floating_point() else x + (x * share).round().to(x.dtype)


def _allowed(case: Case, inputs: Sequence[Tensor], expected: Outputs, *, half: bool) -> list[Tensor]:
    """For each output how far off each element may be: a share of the scale, and what unsure inputs change."""
    share = HALF if half else SINGLE
    allowed = []
    for wanted in expected:
        finite = wanted.double()[wanted.double().isfinite()]
        scale = float(finite.abs().max()) if finite.numel() else 0.0
        allowed.append(torch.full(wanted.shape, share * max(scale, 1e-4), dtype=torch.float64))
    if half:  # a sum whose terms leave the range may leave it too, although the terms cancel
        for index, size in enumerate(_reference(case, [x.abs() for x in inputs]) or ()):
            if size.is_floating_point() and size.shape == allowed[index].shape:
                allowed[index] = torch.where(size.abs() > _LARGEST, float("inf"), allowed[index])
        for index, own in enumerate(_in_half(case, inputs) or ()):  # what half precision itself gives is no error
            if own.is_floating_point() and own.shape == expected[index].shape:
                change = (own.double() - expected[index].double()).abs().nan_to_num(float("inf"), float("inf"))
                allowed[index] = torch.maximum(allowed[index], torch.where(change > 50 * allowed[index], change, 0.0))
    for sign in (1, -1):
        moved = _reference(case, [_moved(x, sign * _ULPS[half]) for x in inputs])
        if moved is None or [m.shape for m in moved] != [w.shape for w in expected]:
            continue
        for index, (wanted, other) in enumerate(zip(expected, moved, strict=True)):
            change = (wanted.double() - other.double()).abs().nan_to_num(float("inf"), float("inf"))
            change = torch.where(wanted.double() == other.double(), 0.0, change)
            allowed[index] = allowed[index] + 4 * change
    return allowed


def _compare(found: np.ndarray, wanted: Tensor, allowed: Tensor, *, half: bool) -> str | None:
    if not wanted.numel():
        return None
    want, have = wanted.double().numpy(), found.astype(np.float64)
    limit = _LARGEST if half and wanted.is_floating_point() else np.inf
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
