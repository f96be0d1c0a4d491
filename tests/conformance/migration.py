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
from importlib.metadata import version
from pathlib import Path
from typing import Any

from tests.conformance.__main__ import environment, pytest_command
from tests.conformance.suites import SUITES, Suite

_ROOT = Path(__file__).parents[2]
_JSON, _PAGE = _ROOT / "docs" / "migration.json", _ROOT / "docs" / "migration.md"
CHOSEN = ("operators", "layers")


def draw(suite: Suite, count: int, seed: int) -> list[str]:
    """Ids of `count` tests of the suite, or all where it has no more."""
    command = pytest_command(suite.modules, Path("/dev/null"), "--collect-only")
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            command, cwd=_ROOT, env=environment(Path(folder)), capture_output=True, text=True, check=True
        )
    ids = sorted(line for line in done.stdout.splitlines() if "::" in line)
    return ids if len(ids) <= count else sorted(random.Random(seed).sample(ids, count))


def run(suite: Suite, ids: list[str]) -> list[dict[str, Any]]:
    """What became of every prediction of these tests."""
    with tempfile.TemporaryDirectory() as folder:
        chosen, out = Path(folder) / "ids", Path(folder) / "out.jsonl"
        chosen.write_text("\n".join(ids), encoding="utf-8")
        options = (f"--conformance-list={chosen}", f"--conformance-export={out}")
        command = pytest_command(suite.modules, Path(folder) / "results.jsonl", *options)
        subprocess.run(command, cwd=_ROOT, env=environment(Path(folder)), stdout=sys.stderr, check=False)
        return [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]


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
        "within 1e-5 of the largest value in float32, 2**-7 in float16.",
        "`python -m tests.conformance.migration` writes this page.",
        "",
        f"Seed {data['seed']}, coremltools {data['versions']['coremltools']}, torch {data['versions']['torch']}.",
        "",
        "| suite | tests drawn | that predict | same values | refused by name | different | broken |",
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
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.conformance.migration", description=__doc__)
    parser.add_argument("--count", type=int, default=1500)
    parser.add_argument("--seed", type=int, default=17)
    given = parser.parse_args()
    suites = {}
    for suite in SUITES:
        if suite.name in CHOSEN:
            ids = draw(suite, given.count, given.seed)
            suites[suite.name] = totals(run(suite, ids), len(ids))
    versions = {name: version(name) for name in ("coremltools", "torch", "numpy")}
    data = {"seed": given.seed, "suites": suites, "versions": versions}
    _JSON.write_text(json.dumps(data, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    _PAGE.write_text(page(data), encoding="utf-8")


if __name__ == "__main__":
    main()
