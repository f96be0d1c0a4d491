"""`python -m builder doctor [recipe=…]`: what prevents a conversion, or of any work on this machine."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from builder.cli.arguments import Parser, outputs_folder, verbosity
from builder.errors import ConversionError, UnfitEnvironmentError
from builder.util.locations import shown
from builder.util.text import visible

if TYPE_CHECKING:  # it brings torch
    from builder.backends.coreml.preflight.obstacles import Diagnosis
    from builder.cli.answers import DoctorAnswer

DESCRIPTION = """Look at a recipe's model before it is converted: every operator without a lowering, tensors that
Core ML lacks, writes in place that would be lost, values that a trace would freeze; each with its module, its line and
a remedy, most important first. Exit code 0: nothing is in the way; 4: something is.

Without a recipe, look at this installation: versions, native libraries, cache, disk, tracking server, remote store, and
the known wrong results of the installed coremltools. Exit code 7: something is unfit.

  python -m builder doctor recipe=mobilenet_v2_fp16
  python -m builder doctor
"""


def parser() -> Parser:
    """Return the parser of this verb."""
    made = Parser("doctor", DESCRIPTION, usage="doctor [recipe=NAME [key=value …]] [-v]")
    made.add_argument("overrides", nargs="*", metavar="key=value", help="the recipe, and what to change in it")
    made.add_argument("--outputs", default="outputs", metavar="FOLDER", help="where artifacts go (default: outputs)")
    made.offer_json()
    return made


def run(arguments: Sequence[str]) -> int:
    """Print what was found; returns the exit code."""
    given = parser().read(arguments)
    if given.overrides:
        return _look_at_recipe(given.overrides, verbosity=verbosity(given), as_json=given.json)
    return _look_at_installation(outputs_folder(given), as_json=given.json)


def _look_at_recipe(overrides: Sequence[str], *, verbosity: int, as_json: bool) -> int:
    from builder.analysis.preflight.screen import format_diagnosis
    from builder.cli.answers import render
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
    if as_json:
        print(render(recipe_answer(found)))
    else:
        print(visible("\n".join(format_diagnosis(found, everything=verbosity > 0))))
    return ConversionError.exit_code if found.best.in_the_way else 0


def _look_at_installation(outputs: Path, *, as_json: bool) -> int:
    from builder.analysis.installation import examine_installation, told_installation

    found = examine_installation(outputs)
    is_fit = all(finding.fit for finding in found)
    if as_json:
        from builder.cli.answers import DoctorAnswer, InstallationFinding, render

        findings = tuple(
            InstallationFinding(about=f.about, text=f.summary, is_fit=f.fit, is_notable=f.notable, hint=f.hint)
            for f in found
        )
        print(render(DoctorAnswer(is_fit=is_fit, installation=findings)))
    else:
        print("\n".join(told_installation(found)))
    return 0 if is_fit else UnfitEnvironmentError.exit_code


def recipe_answer(found: Diagnosis) -> DoctorAnswer:
    """The document for what was found in a recipe's model."""
    from builder.cli.answers import DoctorAnswer, ObstacleAnswer, ObstaclePlace, RecipeDiagnosis

    best = found.best
    obstacles = tuple(
        ObstacleAnswer(
            rule=each.rule,
            what=each.what,
            operator=each.operator,
            severity=each.severity,
            count=each.count,
            places=tuple(
                ObstaclePlace(
                    module=site.module,
                    file=None if site.place is None else shown(Path(site.place.file)),
                    line=None if site.place is None else site.place.line,
                )
                for site in each.sites
            ),
            remedy=None if each.remedy is None else each.remedy.summary,
            paste=None if each.remedy is None else each.remedy.paste,
        )
        for each in best.obstacles
    )
    diagnosis = RecipeDiagnosis(method=best.method, converts=not best.in_the_way, obstacles=obstacles)
    return DoctorAnswer(is_fit=diagnosis.converts, recipe=diagnosis)
