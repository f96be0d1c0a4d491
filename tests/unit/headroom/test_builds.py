"""Headroom in a build: on the inputs of its parity check, with modules and lines, and as a reason of its failure."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from builder.__main__ import main
from tests import warm

NET = '''\
"""A block whose square half precision does not hold for large inputs."""

import torch
from torch import nn


class Power(nn.Module):
    def forward(self, x):
        return torch.square(x)


class Mean(nn.Module):
    def forward(self, x):
        return x.mean(-1, keepdim=True) / (x.sum(-1, keepdim=True) + 1)


def net():
    return nn.Sequential(Power(), Mean())


class Hashed(nn.Module):
    def forward(self, ids):
        return (ids.long() * 2654435761 % 1000).float()
'''


def write(high: float, **sections: Any) -> None:
    recipe = {
        "schema": 1,
        "defaults": [{"precision": "fp16"}, {"target": "ios16"}, {"checks": "default"}, {"tracking": "none"}],
        "source": {"kind": "python", "factory": "loudly:net"},
        "input": {"x": {"kind": "tensor", "shape": [1, 4, 16], "low": -high, "high": high}},
        "output": {"mean": None},
        **sections,
    }
    Path("recipes/loud.yaml").write_text(yaml.safe_dump(recipe, sort_keys=False))


def document(kind: str) -> dict[str, Any]:
    (file,) = Path("outputs").glob(f"{kind}/build.json")
    found: dict[str, Any] = json.loads(file.read_text())
    return found


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "loudly", raising=False)
    monkeypatch.setattr(sys, "executable", warm.python())
    Path("loudly.py").write_text(NET)
    Path("recipes").mkdir()


def test_a_check_that_fails_by_an_overflow_names_the_operator(capsys: pytest.CaptureFixture[str]) -> None:
    # given inputs whose squares pass 65504
    write(1000)
    # when it is built
    assert main(["recipe=loud"]) == 5
    # then the reason names the operator, its module and line, and by how much; the record and the page have it too
    found = document("broken/loud/default")
    (parity,) = [check for check in found["checks"] if check["name"] == "parity"]
    assert "passes what half precision holds: " in parity["reason"]
    assert "bits beyond 65504" in parity["reason"]
    assert "passes what half precision holds" in capsys.readouterr().err
    beyond = [row for row in found["headroom"][0]["operators"] if row["seen_high"] > 65504]
    assert (beyond[0]["module"], beyond[0]["line"]) == ("0", "loudly.py:9")
    (finding,) = [each for each in found["lint"] if each["rule"] == "half_overflow"]
    assert any(" of 0 (loudly.py:9) reaches 1e+06, 3.9 bits beyond 65504" in each for each in finding["examples"])
    (page,) = Path("outputs/broken/loud/default").glob("report.html")
    assert '<rect class="over"' in page.read_text()


def test_what_is_proven_is_recorded_and_the_lint_of_the_file_knows_it(capsys: pytest.CaptureFixture[str]) -> None:
    # given inputs whose squares half precision holds, and a divisor that is never zero
    write(10)
    assert main(["recipe=loud"]) == 0
    # then every operator is proven to stay finite, and nothing is found
    found = document("loud/default")
    (headroom,) = found["headroom"]
    assert all(row["proven"] for row in headroom["operators"])
    assert headroom["domain"] == ["x: -10 to 10"]
    assert "stress input" in headroom["seen_on"]
    assert found["lint"] == []
    assert {row["line"] for row in headroom["operators"] if row["operator"] == "real_div"} == {"loudly.py:14"}
    # and the lint of the file proves the same, from the record beside it
    capsys.readouterr()
    assert main(["lint", found["artifact"]["path"]]) == 0
    screen = capsys.readouterr().out
    assert "numbers, for inputs x: -10 to 10; seen on 4 draws of noise and" in screen
    assert "half_overflow: proven not to happen at " in screen
    assert "zero_division: proven not to happen at 1 operator" in screen
    assert "(loudly.py:9): " in screen


def test_an_exported_program_says_its_lines_itself() -> None:
    write(10, capture={"method": "export"}, checks={"parity": {"kind": "parity", "search": 0}})
    assert main(["recipe=loud"]) == 0
    (headroom,) = document("loud/default")["headroom"]
    lines = {row["operator"]: row["line"] for row in headroom["operators"] if row["operator"] != "cast"}
    assert lines["real_div"] == "loudly.py:14"
    assert "loudly.py:9" in lines.values()


def test_integers_beyond_32_bits_are_the_reason_where_a_check_fails(capsys: pytest.CaptureFixture[str]) -> None:
    ids = {"kind": "tensor", "shape": [1, 6], "dtype": "int32", "high": 50_000}
    write(1, source={"kind": "python", "factory": "loudly:Hashed"}, input={"ids": ids}, precision={"kind": "fp32"})
    assert main(["recipe=loud"]) == 5
    said = capsys.readouterr().err
    assert "the model computes integers of 64 bits, and the artifact of 32: `mul` gives " in said
    assert " (loudly.py:23), beyond 2147483647" in said
