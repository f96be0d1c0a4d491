"""Whole programs against Apple's interpreter."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from coreml_runtime import load
from coreml_runtime.model import State
from tests.runtime.coreai.comparing import assert_close
from tests.runtime.coreai.programs import PROGRAMS, Program


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.name)
def test_a_program_computes_what_apples_interpreter_computes(program: Program, computed: Path) -> None:
    failures = json.loads((computed / "failures.json").read_text())
    assert failures.get(program.name) is None, failures[program.name]
    expected = np.load(computed / f"{program.name}.npz")
    state: State | None = None
    compared = set()

    for place, (function, inputs) in enumerate(program.calls):
        model = load(computed / f"{program.name}.aimodel", function=function)
        state = state or (model.make_state() if model.states else None)
        outputs = model.predict(inputs, state=state)

        found = {f"{place}.{name}": each for name, each in outputs.items()}
        found |= {f"{place}.state.{name}": state.read_state(name) for name in model.states if state}
        for name, each in found.items():
            assert_close(each, expected[name], ulps=4, context=f"{program.name} {name}")
        compared |= found.keys()
    assert compared == set(expected.files)
