"""`python -m builder doctor [recipe=…]`: what prevents a conversion, or of any work on this machine."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from builder.cli.arguments import Parser, outputs_folder, verbosity
from builder.errors import ConversionError, UnfitEnvironmentError
from builder.util.text import visible

DESCRIPTION = """Look at a recipe's model before it is converted: every operator without a lowering, tensors that
Core ML lacks, writes in place that would be lost, values that a trace would freeze; each with its module, its line and
a remedy, most important first. Exit code 0: nothing is in the way; 4: something is.

Without a recipe, look at this installation: versions, native libraries, cache, disk, tracking server, remote store, and
the known wrong results of the installed coremltools. Exit code 7: something is unfit.

  python -m builder doctor recipe=mobilenet_v2_fp16
  python -m builder doctor
"""


def run(arguments: Sequence[str]) -> int:
    """Print what was found; returns the exit code."""
    parser = Parser("doctor", DESCRIPTION, usage="doctor [recipe=NAME [key=value …]] [-v]")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="the recipe, and what to change in it")
    parser.add_argument("--outputs", default="outputs", metavar="FOLDER", help="where artifacts go (default: outputs)")
    given = parser.read(arguments)
    if given.overrides:
        return _look_at_recipe(given.overrides, verbosity=verbosity(given))
    return _look_at_installation(outputs_folder(given))


def _look_at_recipe(overrides: Sequence[str], *, verbosity: int) -> int:
    from builder.analysis.preflight.screen import format_diagnosis
    from builder.config.compose import compose
    from builder.config.places import located
    from builder.engine.pipeline import examine
    from builder.reports.files import build_logged
    from builder.reports.terminal import Terminal

    request = compose(overrides)
    with (
        Terminal(verbosity=verbosity, stream=sys.stderr) as terminal,
        tempfile.TemporaryDirectory() as folder,
        located(request),
        build_logged(Path(folder), terminal) as logged,  # what libraries say is not part of the answer
    ):
        found = examine(request, progress=logged)
    print(visible("\n".join(format_diagnosis(found, everything=verbosity > 0))))
    return ConversionError.exit_code if found.best.in_the_way else 0


def _look_at_installation(outputs: Path) -> int:
    from builder.analysis.installation import examine_installation, told_installation

    found = examine_installation(outputs)
    print("\n".join(told_installation(found)))
    return 0 if all(finding.fit for finding in found) else UnfitEnvironmentError.exit_code
