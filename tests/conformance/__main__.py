"""Runs Apple's own tests on the runtime and writes the totals: python -m tests.conformance [--workers 2] [suite …].

Each result is kept in `outputs/conformance/` as soon as it is there, under a digest of the code that gave it: a run
that breaks off goes on where it was, and one of other code begins anew.
"""

import argparse
import hashlib
import json
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from tests.conformance.report import markdown, totals
from tests.conformance.results import read_results
from tests.conformance.suites import SUITES, Suite

_HERE = Path(__file__).parent
_ROOT = _HERE.parents[1]
_TOTALS = _ROOT / "docs" / "conformance.json"
_PAGE = _ROOT / "docs" / "conformance.md"
_KEPT = _ROOT / "outputs" / "conformance"


def pytest_command(modules: Iterable[str], out: Path, *options: str) -> list[str]:
    """One worker; ids of tests are relative to the folder that coremltools is installed in."""
    found = find_spec("coremltools")
    if found is None or not found.submodule_search_locations:
        raise SystemExit("coremltools is not installed")
    installed = Path(found.submodule_search_locations[0]).parent
    return [
        sys.executable, "-m", "pytest", "-c", str(_HERE / "upstream.ini"), f"--rootdir={installed}",
        f"--conformance-out={out}", *options, "--pyargs", *modules,
    ]  # fmt: skip


def environment(folder: Path) -> dict[str, str]:
    """Upstream's variants in single precision too; one thread a worker; temporaries in a folder of their own."""
    fixed = {"INCLUDE_MIL_FP32_UNIT_TESTS": "1", "OMP_NUM_THREADS": "1", "TMPDIR": str(folder)}
    return os.environ | fixed


def state() -> str:
    """A digest of what decides about the results: the runtime, these tests, and the packages."""
    code = hashlib.sha256(repr([version(name) for name in ("coremltools", "torch", "numpy")]).encode())
    for folder in (_ROOT / "runtime" / "coreml_runtime", _HERE):
        for file in sorted([*folder.rglob("*.py"), *folder.rglob("*.ini")]):
            code.update(file.relative_to(_ROOT).as_posix().encode() + file.read_bytes())
    return code.hexdigest()[:12]


def run_suite(suite: Suite, workers: int) -> list[dict[str, Any]]:
    """All tests of a suite that have no result yet, dealt out to the workers one by one; returns all results."""
    kept = _KEPT / state() / suite.name
    kept.mkdir(parents=True, exist_ok=True)
    run = len(list(kept.glob("*.jsonl")))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        running = []
        for index in range(workers):
            shard = ("--conformance-shard", f"{index}/{workers}", f"--conformance-done={kept}")
            command = pytest_command(suite.modules, kept / f"{run + index}.jsonl", *shard)
            log = (folder / f"{index}.log").open("w")
            running.append(subprocess.Popen(command, cwd=_ROOT, env=environment(folder), stdout=log, stderr=log))
        for index, process in enumerate(running):
            if process.wait() not in (0, 1, _NOTHING_LEFT):
                sys.exit((folder / f"{index}.log").read_text()[-4000:] + f"\n{suite.name}: pytest broke off")
    return read_results(kept)


_NOTHING_LEFT = 5
"""What pytest ends with where no test was selected."""


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.conformance", description=__doc__)
    parser.add_argument("suites", nargs="*", default=[suite.name for suite in SUITES])
    parser.add_argument("--workers", type=int, default=2)
    chosen = parser.parse_args()
    known = {suite.name: suite for suite in SUITES}
    unknown = [name for name in chosen.suites if name not in known]
    if unknown:
        parser.error(f"no suite {', '.join(unknown)}; there are {', '.join(known)}")
    kept = json.loads(_TOTALS.read_text(encoding="utf-8"))["suites"] if _TOTALS.exists() else {}
    for name in chosen.suites:
        print(f"{name} …", file=sys.stderr, flush=True)
        kept[name] = totals(known[name], run_suite(known[name], chosen.workers))
        print(json.dumps(kept[name]["counts"]), file=sys.stderr)
    ordered = {suite.name: kept[suite.name] for suite in SUITES if suite.name in kept}
    versions = {name: version(name) for name in ("coremltools", "torch", "numpy")}
    data = {"python": platform.python_version(), "machine": platform.machine(), "versions": versions, "suites": ordered}
    _TOTALS.parent.mkdir(exist_ok=True)
    _TOTALS.write_text(json.dumps(data, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    _PAGE.write_text(markdown(data), encoding="utf-8")
    missed = [name for name in chosen.suites if not ordered[name]["reached"]]
    if missed:
        sys.exit(f"below the goal: {', '.join(missed)}")


if __name__ == "__main__":
    main()
