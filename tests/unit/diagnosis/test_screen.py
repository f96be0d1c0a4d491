"""How a diagnosis reads, and that a build which fails tells it."""

from __future__ import annotations

import json
import textwrap
from pathlib import Path

import pytest

from builder.__main__ import main

NET = '''
"""Nets of ours."""

import torch
from torch import nn


class Spectrum(nn.Module):
    def forward(self, x):
        values = torch.linalg.svd(x)[1]
        return values.double()


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.up = nn.Upsample(scale_factor=2, mode="nearest-exact")
        self.inner = nn.Sequential(nn.ReLU(), Spectrum())

    def forward(self, x):
        y = self.up(x).mean(1)
        torch.mul(y[:, 0], 2, out=y[:, 0])
        return self.inner(y)


class Fine(nn.Module):
    def forward(self, x):
        return x * 2


class Lost(nn.Module):
    def forward(self, x):
        y = x * 1
        torch.mul(y[:, 0], 2, out=y[:, 0])
        return y
'''
RECIPE = """
# A net.
defaults: [source: python, input: null, precision: fp32, target: ios16]
source: {factory: "FACTORY"}
input:
  x: {kind: tensor, shape: [1, 3, 8, 8]}
capture: {method: trace}
tracking: {kind: none}
"""


@pytest.fixture(autouse=True)
def _project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    module = f"nets_{tmp_path.name}"  # modules stay imported from test to test
    Path(f"{module}.py").write_text(NET)
    Path("recipes").mkdir()
    for name in ("Net", "Fine"):
        Path(f"recipes/{name.lower()}.yaml").write_text(RECIPE.replace("FACTORY", f"{module}:{name}"))


def test_a_recipe_with_nothing_in_the_way(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "recipe=fine"]) == 0
    assert capsys.readouterr().out == "nothing is in the way: capture by trace converts\n"


def test_the_screen_says_what_where_and_what_to_do(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "recipe=net"]) == 4
    screen = capsys.readouterr().out.replace(tmp_path.name, "x")
    # the upsampling is left out: whether it is an obstacle depends on the lowerings that there are
    for told in (
        """
        `linalg_svd` has no lowering, neither coremltools' nor ours
              inner.1  nets_x.py:10  values = torch.linalg.svd(x)[1]
           -> not convertible, because Core ML has no decompositions of matrices: compute it outside of the model, or
        """,
        """
        `mul` writes in place into a select of slice (given as `out=`), LOST
              (the model itself)  nets_x.py:22  torch.mul(y[:, 0], 2, out=y[:, 0])
           -> assign the result instead, `x[…] = value`, which builder keeps
        """,
        """
        worth a look:
        - `to` gives float64, which Core ML lacks: it is computed in float32
             inner.1  nets_x.py:11  return values.double()
        """,
    ):
        lost = "and the tensor behind it is read later: the change is lost"
        assert textwrap.dedent(told).strip().replace("LOST", lost) in screen


def test_a_build_that_fails_tells_the_same(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "recipe=net"]) == 4
    doctor = capsys.readouterr().out.splitlines()
    assert main(["recipe=net"]) == 4
    captured = capsys.readouterr()
    assert captured.out == ""
    assert f"the model does not convert: {doctor[0]}" in captured.err
    assert "\n".join(doctor[1:]) in captured.err
    assert "all that was said is in outputs/broken/net/default/build.log" in captured.err
    assert not Path("outputs/net").exists()


def test_a_mistake_in_the_recipe_is_told_as_always(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "recipe=nothing"]) == 2
    assert capsys.readouterr().out == ""


def test_auto_does_not_take_a_trace_that_would_lose_a_write(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    # given a net whose write in place a trace loses, and no check that could find it
    recipe = Path("recipes/fine.yaml").read_text().replace(":Fine", ":Lost").replace("method: trace", "method: auto")
    Path("recipes/lost.yaml").write_text(recipe)
    # when it is built with the methods in their order
    assert main(["recipe=lost"]) == 0
    # then the first that keeps the write was taken
    document = json.loads(Path("outputs/lost/default/build.json").read_text())
    assert document["capture"]["method"] == "export"
    assert "the change is lost" in document["capture"]["failures"]["trace"]
