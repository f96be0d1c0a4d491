"""Exports every model that Apple's tests predict with, and compares what the program gives on the same inputs."""

import json
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from coreml_runtime.errors import UnsupportedError
from coreml_runtime.export import export
from coreml_runtime.ops.random import drawn_by_torch
from coreml_runtime.values import check_inputs
from tests.conformance.watch import describe

SAME, DIFFERENT, REFUSED, BROKEN = "same", "different", "refused", "broken"
LIMITS = {"fp32": 1e-5, "fp16": 2.0**-7}
"""The largest difference, relative to the largest value of the output: float32 adds in another order, and half
precision rounds sums of some hundred numbers several times."""

MOST = 40
"""Predictions of one test that are exported: some tests have a thousand of one kind."""


@dataclass(frozen=True, kw_only=True)
class Migrated:
    """What became of one prediction."""

    test: str
    outcome: str
    reason: str
    operators: tuple[str, ...]


class Exporter:
    """Wraps the runtime's proxy class: whatever predicts is exported, executed and compared."""

    def __init__(self, out: Path) -> None:
        self._out = out.open("a", encoding="utf-8")
        self._models: Counter[str] = Counter()

    def wrap(self, proxy: Any, current: list[str]) -> None:
        """Write one line a model and prediction; `current` holds the running test's name."""
        original, load, exporter = proxy.predict, proxy.__init__, self

        def begin(self: Any, path: str, *given: Any, **named: Any) -> None:
            load(self, path, *given, **named)
            self._file = _copied(Path(path))

        def predict(self: Any, data: Any, state: Any = None) -> Any:
            states = {} if state is None else {k: v.clone() for k, v in state.state.tensors.items()}
            exporter._models[current[0]] += 1
            if exporter._models[current[0]] > MOST:
                return original(self, data, state)
            self._drawn = getattr(self, "_drawn", 0) + 1
            with _drawn(self._drawn):
                result = original(self, data, state)
            outcome, reason = _judged(self, data, states, result)
            operators, _ = describe(self.model.specification)
            line = Migrated(test=current[0], outcome=outcome, reason=reason, operators=tuple(sorted(operators)))
            exporter._out.write(json.dumps(asdict(line)) + "\n")
            exporter._out.flush()
            return result

        proxy.predict = predict
        proxy.__init__ = begin


@contextmanager
def _drawn(seed: int) -> Iterator[None]:
    """Within, what is drawn without a seed comes from torch's generator, begun by a seed: both ends draw the same."""
    with torch.random.fork_rng(), drawn_by_torch():
        torch.manual_seed(seed)
        yield


def _copied(path: Path) -> Path:
    """A file that stays: coremltools removes single files once they are loaded, and a loaded one has no weights."""
    if path.is_dir():
        return path
    copy = Path(tempfile.mkdtemp()) / "model.mlmodel"
    shutil.copyfile(path, copy)
    return copy


def _judged(proxy: Any, data: Mapping[str, Any], states: Mapping[str, torch.Tensor], expected: Any) -> tuple[str, str]:
    model = proxy.model
    try:
        if not hasattr(proxy, "_exported"):
            proxy._exported = export(proxy._file, model.function if model.kind == "mlProgram" else None)
            proxy._module = proxy._exported.program.module()
    except UnsupportedError as error:
        return REFUSED, str(error)
    except Exception as error:  # what is neither exported nor refused is what this is looking for
        return BROKEN, f"{type(error).__name__}: {error}"[:300]
    exported = proxy._exported
    try:
        for name, path in exported.states.items():
            getattr(proxy._module, path).copy_(states[name])
        checked = check_inputs(model.inputs, data, allows=lambda feature, shape: model.network.allows(feature, shape))
        given = [torch.as_tensor(checked[each.name]).to(each.dtype) for each in exported.inputs]
        for each, value in zip(exported.inputs, given, strict=True):
            fixed = [
                axis for axis, size in enumerate(each.shape) if axis not in each.ranges and value.shape[axis] != size
            ]
            if each.name in exported.fixed and fixed:
                return REFUSED, f"a size of input {each.name} is fixed at the file's default, and the test has another"
        with torch.no_grad(), _drawn(proxy._drawn):
            found = proxy._module(*given)
    except AssertionError as error:
        if str(error).startswith("Guard failed") and exported.needs.tied:
            return REFUSED, "sizes of inputs must be equal, and the test has a size of 1 that is broadcast"
        return BROKEN, f"executing: {error}"[:300]
    except Exception as error:
        return BROKEN, f"executing: {type(error).__name__}: {error}"[:300]
    _, precision = describe(model.specification)
    wrong = [why for name in exported.outputs if (why := _difference(expected.get(name), found[name], precision))]
    return (DIFFERENT, "; ".join(wrong)[:300]) if wrong else (SAME, "")


def _difference(expected: Any, found: torch.Tensor, precision: str) -> str:
    if expected is None or not isinstance(expected, (dict, np.ndarray, float, int)):
        return ""
    values = list(expected.values()) if isinstance(expected, dict) else expected
    one, other = np.asarray(values, dtype=np.float64).ravel(), found.to(torch.float64).numpy().ravel()
    if one.shape != other.shape:
        return f"{one.size} values, the program gives {other.size}"
    finite = np.isfinite(one) & np.isfinite(other)
    if not np.array_equal(one[~finite], other[~finite], equal_nan=True):
        return "another value that is not finite"
    scale = max(float(np.abs(one[finite]).max(initial=0.0)), 1e-6)
    worst = float(np.abs(one[finite] - other[finite]).max(initial=0.0)) / scale
    return f"{worst:.2g} of the largest value" if worst > LIMITS[precision] else ""
