"""Each operator of Core AI's dialect against Apple's interpreter, on edge values and several types."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from coreml_runtime import load
from coreml_runtime.coreai.ops import operators
from tests.runtime.coreai.cases import CASES
from tests.runtime.coreai.comparing import assert_close
from tests.runtime.coreai.operands import Case


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_an_operator_computes_what_apples_interpreter_computes(case: Case, computed: Path) -> None:
    failures = json.loads((computed / "failures.json").read_text())
    assert failures.get(case.name) is None, failures[case.name]
    inputs = {f"x{place}": each.array for place, each in enumerate(case.operands) if not each.constant}

    outputs = load(computed / f"{case.name}.aimodel", precision="half").predict(inputs)

    expected = np.load(computed / f"{case.name}.npz")
    assert sorted(f"0.{name}" for name in outputs) == sorted(expected.files)
    for name in outputs:
        assert_close(outputs[name], expected[f"0.{name}"], ulps=case.ulps, context=f"{case.name} {name}")


def test_every_operator_that_computes_has_a_case() -> None:
    tried = {case.operator.removeprefix("decomposable.").removeprefix("broadcasting_") for case in CASES}
    elsewhere = {
        "if", "while", "read_handle", "write_handle", "scatter_nd", "identity", "real_part",
        "imaginary_part", "build_sparse_with_bitmask", "lut_to_sparse_with_bitmask", "sparse_with_bitmask_to_dense",
    }  # fmt: skip  # they need blocks, states, or another operator before them: test_programs.py
    assert set(operators()) - tried - elsewhere == set()
