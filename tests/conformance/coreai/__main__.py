"""Runs Apple's tests of coreai-torch on our runtime and on Apple's: python -m tests.conformance.coreai CHECKOUT.

CHECKOUT is a clone of github.com/apple/coreai-torch: the source distribution has no tests of operators. Each test
exports, converts and runs a module; its outputs have to agree with torch's as the test says, and ours with those of
Apple's interpreter. `--every 5` runs a fifth of the tests; `--results FILE` keeps what came of each, and goes on there.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections import Counter, defaultdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

_HERE = Path(__file__).parent
_ROOT = _HERE.parents[2]
_PAGE = _ROOT / "docs" / "conformance_coreai.md"
_FAILED = "failed"
_TESTS = (
    "tests/ops/test_ops.py",
    "tests/test_stateful.py",
    "tests/compression",
    "tests/composite_ops",
    "tests/subgraph",
)


def run(checkout: Path, results: Path, every: int, chosen: list[str]) -> list[dict[str, Any]]:
    """Run the tests of a checkout; what they are is copied away from the package of the same name beside them."""
    with tempfile.TemporaryDirectory() as name:
        shutil.copytree(checkout / "tests", Path(name) / "tests")
        environment = os.environ | {"PYTHONPATH": f"{_HERE}{os.pathsep}{_ROOT}", "OMP_NUM_THREADS": "1"}
        options = [f"--coreai-out={results}", f"--coreai-every={every}"]
        if results.exists():
            options.append(f"--coreai-done={results}")
        ini = ["-c", str(_HERE / "upstream.ini"), f"--rootdir={name}"]
        command = [sys.executable, "-m", "pytest", *ini, *options, *chosen]
        done = subprocess.run(command, cwd=name, env=environment, capture_output=True, text=True, check=False)
    if done.returncode not in (0, 1, 5):
        sys.exit(f"{done.stdout[-2000:]}\n{done.stderr[-1000:]}\npytest broke off")
    return read(results)


def read(results: Path) -> list[dict[str, Any]]:
    """The results of all tests, one JSON line each."""
    return [json.loads(line) for line in results.read_text(encoding="utf-8").splitlines()]


def markdown(found: list[dict[str, Any]], share: str) -> str:
    """The page docs/conformance_coreai.md; `share` says which tests ran."""
    versions = ", ".join(f"{name} {version(name)}" for name in ("coreai-core", "coreai-torch", "torch"))
    by_file: dict[str, Counter[str]] = defaultdict(Counter)
    for each in found:
        by_file[each["test"].partition("::")[0]][each["kind"]] += 1
    kinds = sorted({each["kind"] for each in found}, key=lambda kind: (kind != "passed", kind))
    operators = sorted(
        {name for each in found if each["kind"] == "passed" for name in each["operators"]} - {"identity"}
    )
    lines = [
        "# Conformance of Core AI",
        "",
        "The last run of Apple's own tests of coreai-torch on our runtime and on Apple's interpreter, written by",
        "`python -m tests.conformance.coreai CHECKOUT`; do not edit.",
        f"{share}. Python {platform.python_version()} on {platform.machine()}, {versions}.",
        "",
        "A test passes if our outputs satisfy it and are within 2e-4 of the range (2e-2 in half precision) of those of",
        f"Apple's interpreter. The largest difference of a test that passed is {worst(found):.1e} of the range.",
        "",
        "| tests | " + " | ".join(kinds) + " |",
        "|---|" + "---|" * len(kinds),
        *(
            f"| {name} | " + " | ".join(str(counts[kind]) for kind in kinds) + " |"
            for name, counts in sorted(by_file.items())
        ),
        "",
        f"{len(operators)} operators ran: " + ", ".join(f"`{name}`" for name in operators) + ".",
    ]
    reasons = Counter((each["kind"], each["detail"].splitlines()[0][:160]) for each in found if each["detail"])
    if reasons:
        lines += ["", "| count | what came of it | what it says |", "|---|---|---|"]
        lines += [
            f"| {count} | {kind} | {text.replace('|', chr(92) + '|').replace('<', '&lt;')} |"
            for (kind, text), count in sorted(reasons.items(), key=lambda item: (-item[1], item[0]))
        ]
    return "\n".join(lines) + "\n"


def worst(found: list[dict[str, Any]]) -> float:
    """The largest difference from Apple's interpreter, of the output's range."""
    return max((each["worst"] for each in found if each["kind"] == "passed"), default=0.0)


def main() -> None:
    """Run, write the page, and fail if a test fails on ours alone."""
    parser = argparse.ArgumentParser(prog="python -m tests.conformance.coreai", description=__doc__)
    parser.add_argument("checkout", type=Path)
    parser.add_argument("tests", nargs="*", default=list(_TESTS))
    parser.add_argument("--every", type=int, default=1)
    parser.add_argument("--results", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        results = options.results.resolve() if options.results else Path(name) / "results.jsonl"
        found = run(options.checkout, results, options.every, options.tests)
    share = "All tests" if options.every == 1 else f"Every {options.every}th test"
    _PAGE.write_text(markdown(found, share), encoding="utf-8")
    print(json.dumps(Counter(each["kind"] for each in found)))
    missed = [each["test"] for each in found if each["kind"] == _FAILED]
    if missed:
        sys.exit("failed on ours alone:\n" + "\n".join(missed))


if __name__ == "__main__":
    main()
