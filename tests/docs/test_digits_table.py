"""The guide's table of the digits has the variants of the sweep that makes it, and the numbers of one that is built."""

from __future__ import annotations

from pathlib import Path

import pytest

from builder.__main__ import main
from builder.config.folders import open_library
from builder.config.variants import read_variants
from builder.reports.build_json import read_build_json
from tools.digits_table import GUIDE, lines_of, rendered

BUILT = "palettize_4"
"""Whose row is measured anew: the other rows take minutes."""


def test_the_rows_are_the_sweeps_and_one_is_measured_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # given the table, and the sweep that it is made by
    monkeypatch.chdir(tmp_path)
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines_of(GUIDE.read_text())[2:]]
    variants = read_variants(["sweep=digits"], open_library())
    # then they have the same variants, in the same order
    assert [row[0] for row in rows] == list(variants)
    # and a variant that is built now has the size and the SNR of its row
    few = ("checks.accuracy.samples=12", "checks.accuracy.accuracy=null", "checks.accuracy.drop.max=0.5")
    assert main(["recipe=digits_mobilenet", "target=ios18", *variants[BUILT], *few, "tracking=none", "-q"]) == 0
    (folder,) = Path("outputs/digits_mobilenet").iterdir()
    document = read_build_json(folder)
    parity = next(check for check in document["checks"] if check["name"] == "parity")["values"]["probabilities"]
    told = {
        "name": BUILT, "bytes": str(document["artifact"]["bytes"]), "parity.snr_db": str(parity["snr_db"]),
        "accuracy.accuracy": "1", "status": "built",
    }  # fmt: skip
    measured = [cell.strip() for cell in rendered([told]).splitlines()[-1].strip("|").split("|")]
    row = next(row for row in rows if row[0] == BUILT)
    assert measured[:3] == row[:3]
    assert measured[4] == row[4]
