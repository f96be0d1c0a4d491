"""`python -m builder debug recipe=…`: which operators and rewrites add the error, and what would help."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from builder.cli.arguments import Parser, verbosity
from builder.util.text import visible

if TYPE_CHECKING:  # they bring torch
    from builder.analysis.numerics.samples import Missed
    from builder.artifacts.stages import BuildRequest

DESCRIPTION = """Build a recipe without its checks, and compare artifact and original operator by operator: what
adds the error, operators and substitutions, the worst first, with their modules, the values that half precision
cannot hold, and the change to the recipe that would help. Nothing is published. The exit code is 0.

  python -m builder debug recipe=mobilenet_v2_fp16
  python -m builder debug recipe=mobilenet_v2_fp16 compression=palettize_2 -v
"""


def parser() -> Parser:
    """Return the parser of this verb."""
    made = Parser("debug", DESCRIPTION, usage="debug recipe=NAME [key=value …] [--short] [-v]")
    made.add_argument("overrides", nargs="*", metavar="key=value", help="the recipe, and what to change in it")
    made.add_argument(
        "--short",
        action="store_true",
        help="say only what adds most of the error, and a change with which the checks pass",
    )
    made.add_argument("--seconds", type=float, default=600.0, help=argparse.SUPPRESS)
    made.add_argument("--missed", type=Path, help=argparse.SUPPRESS)  # what a build has just found
    return made


def run(arguments: Sequence[str]) -> int:
    """Print what was found; returns the exit code."""
    given = parser().read(arguments)
    from builder.config.compose import compose
    from builder.config.places import located

    request = compose(given.overrides)
    from builder.analysis.numerics.screen import format_report
    from builder.engine.debug import debug
    from builder.engine.remedy import found_missed
    from builder.reports.files import build_logged
    from builder.reports.terminal import Terminal

    out = sys.stdout  # what is printed below goes to the log
    with (
        Terminal(verbosity=verbosity(given), stream=sys.stderr) as terminal,
        tempfile.TemporaryDirectory() as folder,
        located(request),
        build_logged(Path(folder), terminal) as logged,  # what libraries say is not part of the answer
    ):
        missed = _missed(given.missed) if given.missed else found_missed(request)
        if given.short:
            _short(request, missed, given.seconds, out)
            return 0
        findings = debug(request, folder=Path(folder), progress=logged, missed=missed)
    print(visible("\n".join(format_report(findings, everything=verbosity(given) > 0))))
    return 0


def _missed(file: Path) -> Missed:
    from builder.analysis.numerics.samples import Missed

    worst = file.with_suffix(".npz")
    found = Missed(**json.loads(file.read_text(encoding="utf-8")))
    return replace(found, worst_input=worst.read_bytes()) if worst.exists() else found


def _short(request: BuildRequest, missed: Missed, seconds: float, out: TextIO) -> None:
    """Print what adds most of the error, and a change that was tried, as soon as each is known."""
    from builder.engine.remedy import find_remedy, remedy_lines

    shown: list[str] = []

    def say(line: str) -> None:
        shown.append(line)
        print(visible(line), file=out, flush=True)

    lines = remedy_lines(find_remedy(request, missed, seconds=seconds, say=say))
    for line in lines if lines[0] not in shown else ():
        say(line)
