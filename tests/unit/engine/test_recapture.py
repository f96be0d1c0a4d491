"""With `capture.method: auto`, a check that fails for a reason in the captured program lets another method capture."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import builder
from builder.backends.coreml.importing import import_coremltools

RECIPE = """\
# A branch on values.
schema: 1
defaults: [precision: fp32, target: ios16, tracking: none]
source: {kind: python, factory: "branching:net"}
input: {x: {kind: tensor, shape: [1, 4], low: -1.0, high: 1.0}}
checks: {parity: {kind: parity, samples: 2, accept_synthetic: true, search: 0}}
"""
NET = """
import torch
from torch import nn

class Net(nn.Module):
    def forward(self, x):
        if x.mean() > 0.9:
            return x * 2
        return x + 1

def net():
    return Net()
"""


@pytest.mark.filterwarnings("ignore::DeprecationWarning:torch", "ignore::torch.jit.TracerWarning")
def test_another_method_captures_where_a_trace_recorded_a_branch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import_coremltools()
    # given a model that takes one branch for every example, and the other for a stress input
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BUILDER_CACHE", str(tmp_path / "store"))
    Path("recipes").mkdir()
    Path("branching.py").write_text(NET)
    Path("recipes/branching.yaml").write_text(RECIPE)
    # when the recipe names a method
    record = builder.build("branching", "capture.method=trace", check=False)
    assert record.status == "broken"
    # when it does not
    record = builder.build("branching")
    assert record.status == "built"
    assert record.capture["method"] == "script"
    assert record.capture["failures"]["trace"] == "parity misses a limit"
    assert [stage.name for stage in record.stages].count("capture") == 1
    model = builder.load(record.artifact.path)
    for x in (np.full((1, 4), 0.95, np.float32), np.zeros((1, 4), np.float32)):
        (got,) = model.predict({"x": x}).values()
        np.testing.assert_allclose(got, x * 2 if x.mean() > 0.9 else x + 1, rtol=1e-6)
    # then the next build takes that method at once
    assert all(stage.cached for stage in builder.build("branching").stages)
