"""Write the table of docs/guide/compression.md from the table of the sweep that it shows.

    python -m builder -m recipe=digits_mobilenet target=ios18 sweep=digits
    python tools/digits_table.py outputs/sweeps/ID/sweep.csv

Every number is of an artifact that was built and executed: its size, the worst SNR of the parity check, the accuracy.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Iterable, Mapping
from pathlib import Path

from builder.reports.plain import size

GUIDE = Path(__file__).parents[1] / "docs" / "guide" / "compression.md"
HEAD = "| variant | size | SNR | accuracy | status |"


def main() -> None:
    """Replace the table in the guide."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("table", type=Path, help="sweep.csv of the sweep")
    given = parser.parse_args()
    with given.table.open(encoding="utf-8") as stream:
        table = rendered(csv.DictReader(stream))
    text = GUIDE.read_text(encoding="utf-8")
    GUIDE.write_text(text.replace("\n".join(lines_of(text)), table), encoding="utf-8")


def rendered(rows: Iterable[Mapping[str, str]]) -> str:
    """The rows of a `sweep.csv` as a table of Markdown."""
    lines = [HEAD, "|---|---|---|---|---|"]
    for row in rows:
        numbers = f"{float(row['parity.snr_db']):.1f} dB | {100 * float(row['accuracy.accuracy']):.1f} %"
        lines.append(f"| {row['name']} | {size(int(row['bytes']))} | {numbers} | {row['status']} |")
    return "\n".join(lines)


def lines_of(text: str) -> list[str]:
    """The lines of the table in the guide's text."""
    lines = text.splitlines()
    start = lines.index(HEAD)
    end = next(place for place in range(start, len(lines)) if not lines[place].startswith("|"))
    return lines[start:end]


if __name__ == "__main__":
    main()
