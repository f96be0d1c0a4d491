"""What a trace records as constants is reported: on the terminal, in the record, in the report."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from builder.__main__ import main
from builder.backends.coreml.preflight.raised import Sites, trace_constants, watch_trace_constants
from coreml_runtime import load

NET = """\
import torch


class Gate(torch.nn.Module):
    def forward(self, x):
        if x.sum() > -1000:
            return x * 2
        return x - 1


def gate():
    return Gate()
"""
RECIPE = """\
schema: 1
defaults: [{source: python}, {input: null}, {precision: fp32}, {target: ios16}, {tracking: none}]
source: {factory: "gates:gate"}
input: {x: {kind: tensor, shape: [1, 4]}}
"""


def test_a_branch_that_every_example_takes_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    # given a branch that no example shows to be one, so that all checks pass
    monkeypatch.chdir(tmp_path)
    (tmp_path / "recipes").mkdir()
    (tmp_path / "recipes/gate.yaml").write_text(RECIPE)
    (tmp_path / "gates.py").write_text(NET)
    where = "a branch on a tensor's value in gates.py:6, `if x.sum() > -1000:`"
    # when it is built, also from the store
    for _ in range(2):
        assert main(["recipe=gate", f"--outputs={tmp_path / 'outputs'}"]) == 0
        assert f"the trace records as a constant, for every input, {where}" in capsys.readouterr().err
        document = json.loads((tmp_path / "outputs/gate/default/build.json").read_text())
        assert document["capture"]["frozen"] == [where]
        assert (
            "recorded as constants what the first example held"
            in (tmp_path / "outputs/gate/default/report.html").read_text()
        )
        (tmp_path / "outputs/gate/default/build.json").unlink()


def test_script_keeps_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "recipes").mkdir()
    (tmp_path / "recipes/numbers.yaml").write_text(RECIPE.replace("gates:", "numbered_gates:"))
    (tmp_path / "numbered_gates.py").write_text(NET.replace("x.sum() >", "float(x.sum()) >"))
    # when the warning is heeded
    assert main(["recipe=numbers", "capture.method=script", "--outputs=outputs"]) == 0
    model = load(tmp_path / "outputs/numbers/capture.method=script/numbers.mlpackage")
    # then both ways are in the artifact
    for value, expected in ((5.0, 10.0), (-500.0, -501.0)):
        (result,) = model.predict({"x": np.full((1, 4), value, np.float32)}).values()
        assert np.all(result == expected)


@pytest.mark.filterwarnings("ignore")
def test_sizes_are_no_values() -> None:
    class Sized(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.reshape(int(x.shape[0]), -1) if x.shape[1] > 1 else x

    module, found = Sized(), []
    with watch_trace_constants(Sites(module), found), torch.no_grad():
        torch.jit.trace(module, torch.zeros(2, 3))
    assert trace_constants(found) == ()
