"""`compression: auto` compared with a sweep of twelve variants of the same model, 3 precisions by 4 compressions.

    python -m benchmarks.auto [digits] [resnet18] [vit]

Both sides check what they build alike, on the same samples, and both start with nothing stored. The choice must keep an
SNR of at least 30 dB; the sweep has no such limit, since it only looks. One build at a time, one thread each,
for one model after the other; what counts is processor time, which a loaded machine changes least. Weights are seeded
where they cannot be downloaded, but for the digits.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from benchmarks.sweep import COMPRESSIONS, PRECISIONS, ROOT, Taken, clock

GOAL = 3.0
"""The automatic choice, as a share of the sweep's processor time."""
LIMIT = "checks.parity.snr_db.min=30"

MODELS: Mapping[str, Sequence[str]] = {
    "digits": (
        "recipe=digits_mobilenet", "checks.accuracy.samples=60", "checks.accuracy.accuracy.min=0.9",
        "checks.accuracy.drop.max=0.1",
    ),
    "resnet18": ("recipe=resnet18", "input.image.shape=[1,3,64,64]"),
    "vit": ("recipe=vit_small",),
}  # fmt: skip
"""By name, the command line; a few more wrong digits of 60 are not a reason to end the sweep with a missed limit."""


class AutoResult(NamedTuple):
    """What the automatic choice found."""

    summary: str
    tried: int
    bytes: int
    uniform: int
    """The bytes of the smallest artifact with one method for all layers that meets the same limits."""


def main() -> int:
    """Measure both sides of every model, print the ratios, and return 0 if all meet the goal."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", default=[*MODELS], help="which models (default: all)")
    missed = [name for name in parser.parse_args().models if not _measured(name)]
    print(
        f"\ngoal at most {GOAL:g} times the sweep's processor time, and no larger than the best uniform method:", end=""
    )
    print(f" {'MISSED by ' + ', '.join(missed) if missed else 'met'}")
    return int(bool(missed))


def _measured(name: str) -> bool:
    """Measure one model and print its line; whether it meets the goal."""
    with tempfile.TemporaryDirectory(prefix="builder-auto-") as folder:
        sweep = _run(Path(folder) / "sweep", [*MODELS[name], *_VARIANTS])
        auto = _run(Path(folder) / "auto", [*MODELS[name], "compression=auto", LIMIT])
        found = _chosen(Path(folder) / "auto")
    ratio = auto.cpu / sweep.cpu
    print(
        f"{name:<10} sweep {sweep.cpu:7.1f} s, auto {auto.cpu:7.1f} s of processor time: {ratio:.2f}; "
        f"{found.tried} artifacts built, {found.bytes} bytes where the best uniform method has {found.uniform}: "
        f"{found.summary}",
        flush=True,
    )
    return ratio <= GOAL and found.bytes <= found.uniform


_VARIANTS = ("-m", f"precision={','.join(PRECISIONS)}", f"compression={','.join(COMPRESSIONS)}", "sweep.jobs=1")


def _run(folder: Path, command: Sequence[str]) -> Taken:
    """Run a build or a sweep in a folder of its own, with nothing stored."""
    folder.mkdir()
    environment = {**os.environ, "BUILDER_CACHE": str(folder / "cache"), "PYTHONPATH": str(ROOT), "TMPDIR": str(folder)}
    taken = clock()
    subprocess.run(
        [sys.executable, "-m", "builder", *command, "target=ios18", "tracking=none", "-q"],
        cwd=folder,
        env={**environment, "OMP_NUM_THREADS": "1"},
        check=True,
        stdout=subprocess.DEVNULL,
    )
    return taken()


def _chosen(folder: Path) -> AutoResult:
    (path,) = folder.glob("outputs/*/*/build.json")
    record = json.loads(path.read_text(encoding="utf-8"))
    tried = record["chosen"]["tried"]
    uniform = [entry["bytes"] for entry in tried if entry["passed"] and not entry["what"].startswith("mixture")]
    return AutoResult(record["chosen"]["said"], len(tried), record["artifact"]["bytes"], min(uniform))


if __name__ == "__main__":
    sys.exit(main())
