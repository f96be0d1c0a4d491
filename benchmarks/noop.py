"""How long an unchanged build takes, compared with an empty Hydra application and an interpreter that does nothing.

    python -m benchmarks.noop [--recipe digits_mobilenet] [--rounds 15]

All four run in turn in fresh processes, so that a busy machine is as unkind to each; the medians are compared.
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
GOAL_NOOP = 0.25
"""An unchanged build, as a share of the empty Hydra application."""
GOAL_CACHED = 1.3
"""The long way with every stage in the store, likewise."""

HYDRA_APPLICATION = """\
import hydra


@hydra.main(version_base="1.3", config_path=None)
def main(config):
    pass


main()
"""


def main() -> int:
    """Measure, print the table, and return 0 if both goals are met."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipe", default="digits_mobilenet")
    parser.add_argument("--rounds", type=int, default=15)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="builder-noop-") as folder:
        return measure(Path(folder), given.recipe, given.rounds)


def measure(folder: Path, recipe: str, rounds: int) -> int:
    """Build once, then run every contestant `rounds` times in turn."""
    environment = {**os.environ, "BUILDER_CACHE": str(folder / "cache"), "PYTHONPATH": str(ROOT)}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)  # Hydra comes with its bytecode, so ours is to be kept as well
    build = [sys.executable, "-m", "builder", f"recipe={recipe}", "tracking=none", "-q"]
    (folder / "hydra_application.py").write_text(HYDRA_APPLICATION)
    hydra = [sys.executable, "hydra_application.py", "hydra.run.dir=.", "hydra.output_subdir=null"]
    contestants = {
        "python -c pass": [sys.executable, "-c", "pass"],
        "empty Hydra application": [*hydra, "hydra/job_logging=none", "hydra/hydra_logging=none"],
        "unchanged build": build,
        "cached build, the long way": build,
    }
    _run(build, folder, environment)
    _run(build, folder, environment)
    wall: dict[str, list[float]] = {name: [] for name in contestants}
    cpu: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(rounds):
        for name, command in contestants.items():
            if name.startswith("cached"):
                shutil.rmtree(folder / "outputs")  # so that every file is restored and every report written
            seconds, used = _run(command, folder, environment)
            wall[name].append(seconds)
            cpu[name].append(used)
        _run(build, folder, environment)
    return report(wall, cpu, recipe, rounds)


def _run(command: list[str], folder: Path, environment: dict[str, str]) -> tuple[float, float]:
    """Run a command; returns wall clock and processor seconds."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    start = time.perf_counter()
    subprocess.run(command, cwd=folder, env=environment, stdout=subprocess.DEVNULL, check=True)
    seconds = time.perf_counter() - start
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return seconds, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def report(wall: dict[str, list[float]], cpu: dict[str, list[float]], recipe: str, rounds: int) -> int:
    """Print medians and ratios."""
    base = statistics.median(wall["empty Hydra application"])
    base_cpu = statistics.median(cpu["empty Hydra application"])
    print(f"{recipe}, medians of {rounds} rounds\n")
    print(f"{'':<28}{'wall s':>9}{'cpu s':>9}{'of Hydra':>10}{'cpu':>7}  goal")
    goals = {"unchanged build": GOAL_NOOP, "cached build, the long way": GOAL_CACHED}
    missed = False
    for name, seconds in wall.items():
        median, used = statistics.median(seconds), statistics.median(cpu[name])
        goal = goals.get(name)
        said = "" if goal is None else f"at most {goal}: {'met' if median / base <= goal else 'MISSED'}"
        missed = missed or (goal is not None and median / base > goal)
        print(f"{name:<28}{median:>9.3f}{used:>9.3f}{median / base:>10.2f}{used / base_cpu:>7.2f}  {said}")
    return int(missed)


if __name__ == "__main__":
    sys.exit(main())
