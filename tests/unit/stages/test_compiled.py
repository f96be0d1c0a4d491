"""Modules that TorchScript compiled: unrolled by a trace, folded by script, and right when they are executed."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import coreml_runtime as runtime
from builder.artifacts.stages import LoadedModel
from builder.backends.coreml.convert import convert
from builder.data import make_examples
from builder.errors import ConversionError, SourceError
from builder.model.capture.archive import archived
from builder.model.capture.torchscript import has_control_flow
from builder.stages.capture import capture
from builder.stages.prepare import prepare
from tests.unit.stages.small_builds import make_spec

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:torch")  # torch.jit.script itself

PICTURE = [1, 3, 16, 16]


class Layers(nn.Module):
    """What every compiled network asks about itself: padding, training, a bias that is None, dimensions."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU6(), nn.Dropout(), nn.InstanceNorm2d(8)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return nn.functional.interpolate(self.body(x), scale_factor=2.0, mode="bilinear", align_corners=False)


class Recurrent(nn.Module):
    """An LSTM, which asks whether its input is a batch."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(8, 5, batch_first=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.lstm(x)[0]


class Branches(nn.Module):
    """A convolution, and a branch and a loop that values decide."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.body(x).mean((2, 3))
        if bool(x.sum() > 0):
            return y + 10.0
        while bool(y.abs().max() > 0.01):
            y = y * 0.5
        return y * 3.0


class Total(nn.Module):
    """Adds up in a buffer, which it reads again after it has changed it."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(3, 4, 3)
        self.register_buffer("total", torch.zeros(1, 4))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.total.add_(self.convolution(x).mean((2, 3)))
        return self.total * 2


def compiled(module: nn.Module) -> Any:
    """The module as an archive gives it back: compiled, with parameters that do not learn."""
    torch.manual_seed(0)
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.3)
    archive = io.BytesIO()
    torch.jit.save(torch.jit.script(module.eval()), archive)
    archive.seek(0)
    return torch.jit.load(archive)


def build(module: nn.Module, method: str, shape: Any, tmp_path: Path, **parts: Any) -> tuple[Any, runtime.Model]:
    """What was captured, and the artifact."""
    spec = make_spec(input={"x": {"kind": "tensor", "shape": shape}}, precision={"kind": "fp32"}, **parts)
    examples = make_examples(spec)
    prepared = prepare(LoadedModel(module=module.eval(), digest="0" * 64, origin={}), examples, spec)
    captured = capture(prepared, examples, method, {}, strict=True)
    found = archived(captured, tmp_path / "program")
    assert found is not None
    captured = found  # a build converts what it reads back
    convert(prepared, captured, examples, spec).model.save(str(tmp_path / "m.mlpackage"))
    return captured, runtime.load(tmp_path / "m.mlpackage")


@pytest.mark.parametrize(
    ("make", "shape"),
    [(Layers, PICTURE), (Recurrent, [1, 4, 8]), (lambda: nn.TransformerEncoderLayer(8, 2, 16), [3, 2, 8])],
)
def test_a_trace_of_a_compiled_module_has_no_branches_and_computes_the_same(make, shape, tmp_path):
    # given
    module = compiled(make())
    # when
    captured, artifact = build(module, "trace", shape, tmp_path)
    # then: fp32, another order of sums
    assert not has_control_flow(captured.program)
    x = torch.randn(shape)
    np.testing.assert_allclose(artifact.predict({"x": x.numpy()})["output"], module(x).detach(), rtol=1e-4, atol=1e-5)


def test_a_python_module_may_hold_a_compiled_one(tmp_path):
    # given
    whole = nn.Sequential(compiled(Layers()), nn.Conv2d(8, 2, 1))
    # when
    captured, artifact = build(whole, "trace", PICTURE, tmp_path)
    # then parameters keep their names, which recipes choose weights by
    assert "model.0.body.0.weight" in captured.program.state_dict()
    x = torch.randn(PICTURE)
    np.testing.assert_allclose(artifact.predict({"x": x.numpy()})["output"], whole(x).detach(), rtol=1e-4, atol=1e-5)


def test_script_keeps_what_values_decide_and_folds_the_rest(tmp_path):
    # given
    module = compiled(Branches())
    # when
    captured, artifact = build(module, "script", PICTURE, tmp_path)
    # then
    graph = str(captured.program.graph)
    assert (graph.count("prim::If"), graph.count("prim::Loop")) == (1, 1)
    assert "model.body.0.weight" in captured.program.state_dict()
    for sign in (1, -1):
        x = torch.rand(PICTURE) * sign
        got = artifact.predict({"x": x.numpy()})["output"]
        np.testing.assert_allclose(got, module(x).detach(), rtol=1e-4, atol=1e-5)


def test_script_leaves_a_size_open_that_the_app_chooses(tmp_path):
    module = compiled(Layers().body[:3])
    shape = [1, 3, {"min": 8, "max": 32, "default": 16}, 16]
    _, artifact = build(module, "script", shape, tmp_path)
    x = torch.randn(1, 3, 24, 16)
    np.testing.assert_allclose(artifact.predict({"x": x.numpy()})["output"], module(x).detach(), rtol=1e-4, atol=1e-5)


def test_a_branch_on_a_value_cannot_be_unrolled(tmp_path):
    with pytest.raises(ConversionError, match="trace failed"):
        build(compiled(Branches()), "trace", PICTURE, tmp_path)


@pytest.mark.parametrize("method", ["trace", "script"])
def test_a_state_that_is_read_after_it_was_changed(method, tmp_path):
    # given
    module = compiled(Total())
    # when
    parts = {"state": {"total": {"buffer": "total"}}, "target": {"name": "ios18"}}
    _, artifact = build(module, method, PICTURE, tmp_path, **parts)
    # then three steps are those of the module; the state is kept in half
    state = artifact.make_state()
    module.total.zero_()
    for _ in range(3):
        x = torch.randn(PICTURE)
        got = artifact.predict({"x": x.numpy()}, state=state)["output"]
        np.testing.assert_allclose(got, module(x).detach(), rtol=2e-3, atol=2e-3)


def test_an_archive_without_forward_is_told(tmp_path):
    from builder.model.sources.torchscript import load_torchscript

    torch.jit.script(nn.LSTM(8, 5)).save(str(tmp_path / "m.pt"))
    spec = make_spec(source={"kind": "torchscript", "file": str(tmp_path / "m.pt")})
    with pytest.raises(SourceError, match="has no forward method"):
        load_torchscript(spec.source, spec)
