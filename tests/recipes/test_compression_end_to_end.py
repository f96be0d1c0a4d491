"""Compression from the command line to the record: options composed, joined, refused, and in both formats."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from builder.__main__ import main

FEW = ("tracking=none", "-q", "checks.accuracy.samples=40", "checks.parity.samples=2", "checks.accuracy.drop=null")


def _build(*arguments: str, capsys: Any) -> dict[str, Any]:
    code = main(["recipe=digits_mobilenet", *arguments, *FEW])
    out, err = capsys.readouterr()
    assert code == 0, err
    document: dict[str, Any] = json.loads((Path(out.strip()).parent / "build.json").read_text())
    return document


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_two_options_are_applied_one_upon_the_other(capsys: pytest.CaptureFixture[str]) -> None:
    # given pruning and a palette / when
    record = _build("compression=[prune_50,palettize_6]", "target=ios18", capsys=capsys)
    # then weights are stored as sparse indices
    assert record["op_counts"]["constexpr_lut_to_sparse"] == 26
    assert record["op_counts"]["constexpr_sparse_to_dense"] == 26
    # and whatever was left alone is listed for each step, with the reason
    assert {layer["step"] for layer in record["skipped_layers"]} == {"prune_50", "palettize_6"}
    assert all("weight_threshold is 2048" in layer["reason"] for layer in record["skipped_layers"])
    # and what no limit judges is not called passed
    parity = next(check for check in record["checks"] if check["name"] == "parity")
    assert parity["passed"] is None
    assert "no limit is known for this compression" in parity["reason"]


def test_a_neural_network_is_compressed_and_executed(capsys: pytest.CaptureFixture[str]) -> None:
    record = _build("target=ios14", "format=mlmodel", "precision=fp32", "compression=int8", capsys=capsys)
    assert record["artifact"]["bytes"] < 0.45 * record["source_bytes"]
    parity = next(check for check in record["checks"] if check["name"] == "parity")
    assert (parity["passed"], parity["engine"]) == (True, "runtime")


def test_steps_that_meet_are_refused_for_ios16_with_the_target_that_would_do(
    capsys: pytest.CaptureFixture[str],
) -> None:
    code = main(["recipe=digits_mobilenet", "compression=[prune_50,palettize_6]", "target=ios16", *FEW])
    out, err = capsys.readouterr()
    assert code == 2
    assert out == ""
    assert "compression palettize_6 upon what prune_50 compressed needs ios18 or later" in err
    assert not Path("outputs").exists()


def test_the_target_is_in_the_record_with_the_name_that_coremltools_knows(capsys: pytest.CaptureFixture[str]) -> None:
    record = _build("target=visionos1", capsys=capsys)
    assert record["target"] == {"name": "visionos1", "coremltools": "iOS17"}
