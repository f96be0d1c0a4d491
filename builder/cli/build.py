"""`python -m builder recipe=…`: builds one recipe, or with -m every job of a sweep."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from builder.cli.arguments import Parser, outputs_folder, verbosity
from builder.cli.run_build import build_and_report
from builder.errors import CheckError
from builder.progress import WATCHED_VARIABLE
from builder.util.child import print_artifact
from builder.util.locations import shown

DESCRIPTION = """Build a recipe: compose it, convert the model, check the artifact, record the run.

The path of the artifact is the last line on stdout; everything else goes to stderr.

  python -m builder recipe=mobilenet_v2_fp16
  python -m builder recipe=mobilenet_v2_fp16 precision=fp32 target=ios16
  python -m builder -m 'recipe=glob(mobilenet*)' compression=none,int8
"""


def parser() -> Parser:
    """Return the parser of this verb."""
    made = Parser("", DESCRIPTION, usage="recipe=NAME [group=option …] [key.of.recipe=value …] [-m] [options]")
    made.add_argument("overrides", nargs="*", metavar="key=value", help="the recipe, and what to change in it")
    made.add_argument("-m", "--multirun", action="store_true", help="build every combination of the values given")
    made.add_argument("--paranoid", action="store_true", help="compare contents where a file's stat would do")
    made.add_argument("--locked", action="store_true", help="refuse what differs from builder.lock")
    made.add_argument("--outputs", default="outputs", metavar="FOLDER", help="where artifacts go (default: outputs)")
    return made


def run(arguments: Sequence[str]) -> int:
    """Build what the command line says; returns the exit code."""
    given = parser().read(arguments)
    outputs = outputs_folder(given)
    if given.locked:
        from builder.cli.locked import run_locked

        return run_locked(given.overrides, multirun=given.multirun, outputs=outputs, verbosity=verbosity(given))
    if given.multirun:
        from builder.cli.sweep import run_sweep

        return run_sweep(given.overrides, outputs=outputs, verbosity=verbosity(given), paranoid=given.paranoid)
    return _run_one(arguments, given.overrides, outputs=outputs, verbosity=verbosity(given))


def _run_one(arguments: Sequence[str], overrides: Sequence[str], *, outputs: Path, verbosity: int) -> int:
    """Build one recipe, or say that its artifact is up to date, and leave behind how to know that quickly."""
    started = time.time_ns()
    from builder.cli.composed import compose_once
    from builder.engine.plan import current_artifact

    if any("sweep" in override or "search" in override for override in overrides):
        from builder.cli.sweep_settings import refuse_settings

        refuse_settings(overrides)
    request = compose_once(overrides, started=started)
    watched = os.environ.get(WATCHED_VARIABLE)
    if watched:
        from builder.cli.watch import report_inputs

        report_inputs(request, overrides, Path(watched))
    found = current_artifact(request, outputs=outputs)
    if found is None:
        try:
            record = build_and_report(request, outputs=outputs, verbosity=verbosity)
        except CheckError as error:
            if verbosity >= 0:
                from builder.cli.cause import report_cause

                report_cause(error.record, overrides)
            raise
        artifact, fallback, seeded = record.artifact.path, record.fallback, record.seeded
    else:
        artifact, fallback, seeded = found.artifact, found.fallback, found.fallback is not None
    untrained = ", with UNTRAINED weights, since the published ones could not be had" if seeded else ""
    message = f"up to date: {request.recipe} ({artifact.parent.name}){untrained}"
    if found is not None and verbosity >= 0:
        print(message, file=sys.stderr)
    from builder.cli.remember import remember

    remember(arguments, request, artifact, started=started, fallback=fallback, summary=message)
    if watched:
        from builder.cli.watch import report_modules

        report_modules(Path(watched))
    print_artifact(shown(artifact))
    return 0
