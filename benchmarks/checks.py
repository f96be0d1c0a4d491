"""What default checks cost compared with those on samples alone, in turn, in one process.

    python benchmarks/checks.py [--rounds 5] [--recipes digits_mobilenet vit_small text_encoder]

Each recipe is built once; then all checks of its artifact run again and again: as they are by default, and with
`checks.parity.stress=false checks.parity.search=0`, which leaves the samples. Medians of processor time, so that other
work on the machine counts little. Goal: at most 1.5 times as long.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path

from builder.artifacts.stages import OriginalProgram
from builder.config.compose import compose
from builder.engine.pipeline import seal_only
from builder.engine.run import Run
from builder.engine.table import CAPTURE, PREPARE, SEAL
from builder.progress import Silent
from builder.spec import BuildSpec
from builder.spec.functions import specs_by_function
from builder.stages.verify import verify

GOAL = 1.5
RECIPES = ("digits_mobilenet", "vit_small", "text_encoder", "source_huggingface", "whisper_encoder", "resnet18")
SAMPLES_ALONE = ("checks.parity.stress=false", "checks.parity.search=0")


def main() -> None:
    """Print a table, and end with 1 where the goal is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--recipes", nargs="+", default=list(RECIPES))
    given = parser.parse_args()
    missed = False
    print("| recipe | samples alone | default | |\n|---|---|---|---|")
    for recipe in given.recipes:
        with tempfile.TemporaryDirectory(prefix="builder-checks-") as folder:
            request = compose([f"recipe={recipe}", "tracking=none"])
            run = seal_only(request, folder=Path(folder), progress=Silent())
            plain = compose([f"recipe={recipe}", "tracking=none", *SAMPLES_ALONE]).spec
            verify_seconds(run, request.spec)
            both = [(verify_seconds(run, plain), verify_seconds(run, request.spec)) for _ in range(given.rounds)]
        before, now = (statistics.median(times) for times in zip(*both, strict=True))
        missed |= now > GOAL * before
        print(f"| {recipe} | {before:.2f} s | {now:.2f} s | {now / before:.2f} |", flush=True)
    sys.exit(missed)


def verify_seconds(run: Run, spec: BuildSpec) -> float:
    """How long the checks of `spec` take on what was built."""
    specs = specs_by_function(spec)
    programs = {
        name: OriginalProgram(spec=specs[name], prepared=function[PREPARE].value(), captured=function[CAPTURE].value())
        for name, function in run.functions.items()
    }
    began = time.process_time()
    reports = verify(programs, run[SEAL].value(), Silent())
    seconds = time.process_time() - began
    assert all(report.passed is not False for report in reports), [report.reason for report in reports]
    return seconds


if __name__ == "__main__":
    main()
