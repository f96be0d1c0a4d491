"""How many of Apple's operator and layer tests travel to a torch program: python -m tests.conformance.migration.

Draws a sample of each suite by a seed, runs it with `--conformance-export`, and writes the totals to
docs/migration.json and docs/migration.md.
"""

import argparse
import json
import random
import subprocess
import sys
import tempfile
from collections import Counter
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import Any

from tests.conformance.__main__ import environment, pytest_command
from tests.conformance.artifacts import TOTALS
from tests.conformance.suites import SUITES, Suite

_ROOT = Path(__file__).parents[2]
_JSON, _PAGE = _ROOT / "docs" / "migration.json", _ROOT / "docs" / "migration.md"
_KEPT = _ROOT / "outputs" / "migration"
CHOSEN = ("operators", "layers")


def draw(suite: Suite, count: int, seed: int) -> list[str]:
    """Ids of `count` tests of the suite, or all where it has no more; a larger sample holds the smaller one."""
    command = pytest_command(suite.modules, Path("/dev/null"), "--collect-only")
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            command, cwd=_ROOT, env=environment(Path(folder)), capture_output=True, text=True, check=True
        )
    ids = sorted(line for line in done.stdout.splitlines() if "::" in line)
    random.Random(seed).shuffle(ids)
    return sorted(ids[:count])


def run(suite: Suite, ids: list[str], kept: Path, *, python: str = sys.executable) -> list[dict[str, Any]]:
    """What became of every prediction of these tests; those with a result in the folder `kept` do not run again."""
    kept.mkdir(parents=True, exist_ok=True)
    number = len(list(kept.glob("*.jsonl")))
    with tempfile.TemporaryDirectory() as folder:
        chosen = Path(folder) / "ids"
        chosen.write_text("\n".join(ids), encoding="utf-8")
        options = (
            f"--conformance-list={chosen}", f"--conformance-done={kept}",
            f"--conformance-export={kept / f'{number}.exported'}",
        )  # fmt: skip
        command = pytest_command(suite.modules, kept / f"{number}.jsonl", *options)
        subprocess.run([python, *command[1:]], cwd=_ROOT, env=environment(Path(folder)), stdout=sys.stderr, check=False)
    return chosen_rows(kept, set(ids))


def chosen_rows(kept: Path, ids: set[str]) -> list[dict[str, Any]]:
    """What was written of these tests by all runs; a line that a killed run cut off is left out."""
    lines = (line for file in sorted(kept.glob("*.exported")) for line in file.read_text("utf-8").split("\n"))
    return [row for line in lines if line.endswith("}") and (row := json.loads(line))["test"] in ids]


def forget(kept: Path, outcomes: set[str]) -> None:
    """Let the tests of these outcomes run again."""
    files = sorted(kept.glob("*.exported"))
    rows = {file: [json.loads(line) for line in file.read_text("utf-8").split("\n") if line.endswith("}")]
            for file in files}  # fmt: skip
    again = {row["test"] for found in rows.values() for row in found if row["outcome"] in outcomes}
    for file, found in rows.items():
        _write(file, [row for row in found if row["test"] not in again])
    for file in sorted(kept.glob("*.jsonl")):
        lines = [json.loads(line) for line in file.read_text("utf-8").split("\n") if line.endswith("}")]
        _write(file, [row for row in lines if row["test"] not in again])


def _write(file: Path, rows: list[dict[str, Any]]) -> None:
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def totals(rows: list[dict[str, Any]], sampled: int) -> dict[str, Any]:
    """By model that predicted, its worst outcome; and why models were refused."""
    order = ("same", "refused", "different", "broken")
    worst: dict[str, str] = {}
    for row in rows:
        worst[row["test"]] = max(worst.get(row["test"], "same"), row["outcome"], key=order.index)
    counts = Counter(worst.values())
    reasons = Counter(_kind(row["reason"]) for row in rows if row["outcome"] == "refused")
    return {
        "sampled": sampled,
        "predicting": len(worst),
        **{outcome: counts[outcome] for outcome in order},
        "share": round(counts["same"] / max(len(worst), 1), 4),
        "refused_because": dict(sorted(reasons.items())),
    }


def _kind(reason: str) -> str:
    """A reason without names of operators in a file and without numbers."""
    head, _, why = reason.partition(" cannot be exported: ")
    kind = " ".join(head.split()[:2])
    return f"{kind}: {why}" if why else reason[:100]


def page(data: dict[str, Any]) -> str:
    """The totals for people."""
    lines = [
        "# What travels out of a Core ML file",
        "",
        "Apple's own tests of coremltools, sampled by a seed: each model that a test predicts with is exported as a",
        "torch program (`coreml_runtime.export`), executed on the test's inputs, and compared with the runtime:",
        "within 1e-5 of the largest value in float32, 2**-7 in float16; of each test at most the first 40 predictions.",
        "Numbers that are drawn are compared too: both ends draw from torch's generator in the same state.",
        "`python -m tests.conformance.migration` writes this page.",
        "",
        f"Seed {data['seed']}, coremltools {data['versions']['coremltools']}, torch {data['versions']['torch']}.",
        "",
        "| suite | tests that ran | that predict | same values | refused by name | different | broken |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for name, suite in data["suites"].items():
        share = f"{suite['same']} ({100 * suite['share']:.1f} %)"
        cells = (
            name,
            suite["sampled"],
            suite["predicting"],
            share,
            suite["refused"],
            suite["different"],
            suite["broken"],
        )
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    lines += ["", "What is refused, with the number of predictions:", ""]
    for name, suite in data["suites"].items():
        lines += [f"- {name}: {reason} ({count})" for reason, count in suite["refused_because"].items()]
    return "\n".join(lines + _artifacts()) + "\n"


def _artifacts() -> list[str]:
    """What `python -m tests.conformance.artifacts` found, as a table."""
    if not TOTALS.exists():
        return []
    rows = json.loads(TOTALS.read_text(encoding="utf-8"))
    lines = [
        "",
        "## Artifacts of recipes",
        "",
        "Exported as `export` does it, proof included (`python -m tests.conformance.artifacts MODEL…`); the worst SNR",
        "of all outputs and engines.",
        "",
        "| artifact | format | outcome | SNR in dB | bytes | of the original |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for row in rows:
        made = row.get("made")
        share = f"{made / row['bytes']:.2f}" if made else ""
        cells = (row["artifact"], row["format"], row["outcome"], row.get("snr_db", ""), made or "", share)
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.conformance.migration", description=__doc__)
    parser.add_argument("suites", nargs="*", default=list(CHOSEN))
    parser.add_argument("--count", type=int, default=1500)
    parser.add_argument("--seed", type=int, default=17)
    parser.add_argument("--kept", type=Path, default=_KEPT, help="folder of the results of runs that broke off")
    parser.add_argument("--again", nargs="*", default=[], metavar="OUTCOME", help="run tests of these outcomes again")
    given = parser.parse_args()
    old = json.loads(_JSON.read_text(encoding="utf-8"))["suites"] if _JSON.exists() else {}
    for suite in SUITES:
        if suite.name in given.suites:
            kept = given.kept / suite.name
            forget(kept, set(given.again))
            ids = draw(suite, given.count, given.seed)
            old[suite.name] = totals(run(suite, ids, kept), len(ids)) | {"ran": date.today().isoformat()}
    versions = {name: version(name) for name in ("coremltools", "torch", "numpy")}
    data = {"seed": given.seed, "suites": old, "versions": versions}
    _JSON.write_text(json.dumps(data, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    _PAGE.write_text(page(data), encoding="utf-8")


if __name__ == "__main__":
    main()
