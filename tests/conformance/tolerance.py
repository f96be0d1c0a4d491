"""Compares predictions strictly: 1e-4 of the output's range in fp32, 2e-3 in fp16, where upstream allows 0.5."""

from typing import Any

import numpy as np

from tests.conformance.exceptions import loosened
from tests.conformance.watch import Watcher

LIMITS = {"fp32": 1e-4, "fp16": 2e-3}
"""Single precision loses about 1e-6 in a short sum; half has steps of 1e-3 of a value."""

FLOORS = {"fp32": 1e-3, "fp16": 1e-1}
"""The smallest range that counts: below it the errors of intermediate values of size one decide."""


class StrictMismatch(Exception):  # noqa: N818 - the report shows the name
    """An output passes upstream's tolerance and misses ours. No AssertionError: compare_backend swallows those."""


def allowed(expected: Any, precision: str, test: str) -> float:
    """The largest error that this output may have."""
    expected = np.asarray(expected)
    finite = (
        np.abs(expected[np.isfinite(expected)].astype(np.float64)) if expected.dtype.kind in "biuf" else np.zeros(0)
    )
    size = max(float(finite.max()) if finite.size else 0.0, FLOORS[precision])
    return loosened(test, precision, LIMITS[precision]) * size


def check(actual: Any, expected: Any, precision: str, test: str) -> None:
    """Raise StrictMismatch where an element differs by more than the limit of the output's range."""
    actual, expected = np.asarray(actual), np.asarray(expected)
    if actual.dtype.kind not in "biuf" or expected.dtype.kind not in "biuf":
        return
    actual, expected = np.broadcast_arrays(actual.astype(np.float64), expected.astype(np.float64))
    differs = ~((actual == expected) | (np.isnan(actual) & np.isnan(expected)))
    if not differs.any():
        return
    limit = allowed(expected, precision, test)
    with np.errstate(invalid="ignore"):
        error = np.abs(actual - expected)[differs]
    worst = float(np.max(np.where(np.isfinite(error), error, np.inf)))
    if worst > limit:
        raise StrictMismatch(f"{precision}: largest error {worst:.3g} exceeds {limit:.3g}")


def tighten(watcher: Watcher, current: "list[str]") -> None:
    """Make numpy's comparison strict wherever one side is the output of a prediction; `current` holds the test's id."""
    original = np.testing.assert_allclose

    def assert_allclose(actual: Any, desired: Any, rtol: float = 1e-7, atol: float = 0.0, **keywords: Any) -> None:
        __tracebackhide__ = True
        first = watcher.seen.precision_of(actual)
        precision = first or watcher.seen.precision_of(desired)
        if precision is None:
            original(actual, desired, rtol, atol, **keywords)
            return
        # Parameters of type float16 mean that the expectation was computed from, or in, half values.
        precision = "fp16" if "float16" in current[0] else precision
        output, expected = (actual, desired) if first else (desired, actual)
        # Some tests hold half values and are run under the label "fp32", with a limit below half's resolution.
        limit = allowed(expected, precision, current[0]) if precision == "fp16" else 0.0
        original(actual, desired, rtol, max(atol, limit), **keywords)
        check(output, expected, precision, current[0])

    np.testing.assert_allclose = assert_allclose


def tighten_layer_tests(module: Any, current: "list[str]") -> None:
    """The hand-written layer tests compare by themselves, to one part in a hundred."""
    cls = module.CorrectnessTest
    original = cls._test_predictions

    def _test_predictions(self: Any, np_preds: Any, coreml_preds: Any, delta: float = 0.01, **keywords: Any) -> None:
        original(self, np_preds, coreml_preds, delta=delta, **keywords)
        if keywords.get("test_metric", "rel_error") == "rel_error":
            # A network computes in single precision; these tests round its weights to half.
            precision = "fp16" if "half_precision" in current[0] else "fp32"
            check(coreml_preds.flatten(), np_preds.flatten(), precision, current[0])

    cls._test_predictions = _test_predictions
