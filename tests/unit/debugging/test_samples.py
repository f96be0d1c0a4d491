"""What is ranked is measured where the check failed: on its samples, or on the input beside them."""

from __future__ import annotations

import io

import numpy as np
import torch

from builder.analysis.numerics.samples import Missed, missed_by, samples_to_compare
from builder.artifacts.checks import CheckReport
from builder.checks.samples import check_samples
from tests.unit.stages.small_builds import capture_module, make_spec


class Halves(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x / 2


def report(name: str, *, passed: bool, **more: object) -> CheckReport:
    return CheckReport(name=name, kind="parity", engine="runtime", values={}, limits={}, passed=passed, **more)  # type: ignore[arg-type]


def prepared_for_parity() -> tuple[object, ...]:
    parity = {"kind": "parity", "samples": 6}
    spec = make_spec(input={"x": {"kind": "tensor", "shape": [1, 4]}}, checks={"parity": parity})
    prepared, captured, _, spec = capture_module(Halves(), spec)
    return spec, prepared, captured


def test_the_samples_that_missed_a_limit_are_taken_the_worst_of_each_output_first() -> None:
    spec, prepared, captured = prepared_for_parity()
    failed_on = {"a": (4, 1, 0), "b": (2, 4)}
    missed = missed_by([report("other", passed=True), report("parity", passed=False, failed_on=failed_on)])
    assert missed.outputs == ("a", "b")
    found = samples_to_compare(spec, prepared, missed, 3)  # type: ignore[arg-type]
    # then they are the check's own, by their numbers 4, 2, 1
    from builder.analysis.numerics.samples import _subject

    everything = check_samples("parity", spec.checks["parity"], _subject(spec, prepared))  # type: ignore[attr-defined,arg-type]
    for sample, number in zip(found, (4, 2, 1), strict=True):
        np.testing.assert_array_equal(sample.given["x"], everything[number].given["x"])
    assert captured is not None


def test_an_input_beside_the_samples_is_taken_as_it_is() -> None:
    spec, prepared, _ = prepared_for_parity()
    buffer = io.BytesIO()
    np.savez(buffer, x=np.array([[[1e4, 0.0, -3.0, 7.0]]], dtype=np.float32))
    missed = missed_by([report("parity", passed=False, worst_input=buffer.getvalue())])
    (sample,) = samples_to_compare(spec, prepared, missed, 3)  # type: ignore[arg-type]
    assert np.asarray(sample.given["x"]).ravel().tolist() == [1e4, 0.0, -3.0, 7.0]


def test_where_nothing_failed_nothing_is_missed() -> None:
    assert missed_by([report("parity", passed=True)]) == Missed()
