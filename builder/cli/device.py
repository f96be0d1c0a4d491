"""`python -m builder device`: an artifact measured on a Mac, and what that says attached to its build."""

from __future__ import annotations

import shutil
import sys
import tempfile
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from builder.cli.arguments import Parser, model_file, outputs_folder, verbosity
from builder.errors import ConfigurationError
from builder.util.locations import shown

if TYPE_CHECKING:
    from builder.artifacts.devices import DeviceMeasurement
    from builder.artifacts.stages import BuildRequest

DESCRIPTION = """Measure an artifact on a Mac: latency of each compute unit, loading, memory, placement, and outputs.

  python -m builder device pack recipe=mobilenet_v2_fp16       # a folder to copy to a Mac; run measure.py there
  python -m builder device take device/mobilenet_v2_fp16/device.json
  python -m builder device run ssh://user@mac.local recipe=mobilenet_v2_fp16

`take` checks digests, judges the outputs by the limits of the recipe's parity check, and attaches the numbers to the
build: report, build.json, MLflow, tables of sweeps and searches. `run` does all of it by ssh, which must ask nothing;
the Mac needs Python with coremltools. Where anything is not as it should be, nothing is attached.
"""
ACTIONS = {
    "pack": "write a folder to copy to a Mac",
    "take": "judge and attach what comes back",
    "run": "do all of it by ssh",
}
_SECONDS = 600.0


def parser() -> Parser:
    """Return the parser of this verb."""
    made = Parser("device", DESCRIPTION, usage="device {pack,take,run} …")
    made.add_argument("action", metavar="ACTION", help="pack, take or run")
    made.add_argument("subject", nargs="+", metavar="SUBJECT", help="a model, device.json, ssh://host, recipe=NAME …")
    made.add_argument("-o", "--output", metavar="FOLDER", help="of pack: the folder (default: device/RECIPE)")
    made.add_argument("--pack", metavar="FOLDER", help="of take: what was packed (default: beside it)")
    made.add_argument("--python", default="python3", metavar="PATH", help="of run: the interpreter there")
    made.add_argument("--rounds", type=int, default=50, metavar="N", help="of run: predictions that are timed")
    made.add_argument("--timeout", type=float, default=_SECONDS, metavar="SECONDS", help="of run: for each step")
    made.add_argument("--outputs", default="outputs", metavar="FOLDER", help="where builds go (default: outputs)")
    return made


def run(arguments: Sequence[str]) -> int:
    """Do what the action says; returns the exit code."""
    given = parser().read(arguments)
    if given.action not in ACTIONS:
        raise ConfigurationError(
            f"there is no action `{given.action}`", code="B0225", hint=f"actions: {', '.join(ACTIONS)}"
        )
    return {"pack": _pack, "take": _take, "run": _run}[given.action](given)


def _pack(given: Namespace) -> int:
    from builder.device.pack import pack, subject_of

    subject = subject_of(_document(given.subject, given))
    folder = Path(given.output) if given.output else Path("device") / subject.recipe
    pack(subject, folder)
    _say(given, f"copy {shown(folder)} to a Mac and run `python3 measure.py` in it; then `device take` its device.json")
    print(shown(folder))
    return 0


def _take(given: Namespace) -> int:
    if len(given.subject) != 1:
        raise ConfigurationError("take is for one device.json", code="B0225")
    file = Path(given.subject[0])
    file = file / "device.json" if file.is_dir() else file
    folder = Path(given.pack) if given.pack else file.parent
    return _taken(file, folder, given)


def _taken(file: Path, folder: Path, given: Namespace) -> int:
    """Judge and attach what lies in a folder."""
    from builder.device.attach import attach
    from builder.device.pack import subject_of
    from builder.device.take import measured, packed_build, read_returned
    from builder.reports.terminal import Terminal

    returned = read_returned(file)
    outputs = outputs_folder(given)
    document = packed_build(folder, outputs)
    subject = subject_of(document)
    found = measured(returned, file.parent, folder, subject)
    with Terminal(verbosity=verbosity(given), stream=sys.stderr) as terminal:
        kept = attach(found, subject, document, outputs, terminal)
    for line in _lines(found):
        _say(given, line)
    print(shown(kept))
    return 0


def _run(given: Namespace) -> int:
    """Pack, measure by ssh, and take."""
    from builder.device.pack import pack, subject_of
    from builder.device.remote import Session, read_host

    host = read_host(given.subject[0])
    if given.timeout <= 0 or given.rounds < 1:
        raise ConfigurationError("--timeout and --rounds are above 0", code="B0225")
    subject = subject_of(_document(given.subject[1:], given))
    folder = Path(tempfile.mkdtemp(prefix="builder-device-"))
    try:
        pack(subject, folder / "pack")
        session = Session(host=host, python=given.python, seconds=given.timeout, say=lambda line: _say(given, line))
        session.measure(folder / "pack", ["--rounds", str(given.rounds)])
        return _taken(folder / "pack" / "device.json", folder / "pack", given)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _document(subject: Sequence[str], given: Namespace) -> dict[str, object]:
    """The record of the build that is meant: of an artifact, or of a recipe, which is built unless it is up to date."""
    from builder.reports.build_json import read_build_json

    if not subject:
        raise ConfigurationError("say what is measured", code="B0225", hint="recipe=NAME, or the path of an artifact")
    if subject[0].startswith("recipe="):
        from builder.config.compose import compose
        from builder.device.pack import require_measurable

        require_measurable(compose(list(subject)).spec)
        _, artifact = up_to_date(subject, outputs=outputs_folder(given), verbosity=verbosity(given))
        return read_build_json(artifact.parent)
    if len(subject) > 1:
        raise ConfigurationError(f"`{subject[1]}` is one argument too many", code="B0225")
    path = model_file(subject[0])
    try:
        document = read_build_json(path.parent)
    except (FileNotFoundError, ValueError) as error:
        raise ConfigurationError(
            f"{shown(path)} has no build.json beside it: {error}", code="B0226", hint="measure what builder built"
        ) from error
    if Path(document["artifact"]["path"]).name != path.name:
        raise ConfigurationError(f"the build.json beside {shown(path)} is of another artifact", code="B0226")
    return document


def up_to_date(overrides: Sequence[str], *, outputs: Path, verbosity: int) -> tuple[BuildRequest, Path]:
    """A recipe as composed, and its published artifact, which is built unless it is what a build would give."""
    from builder.cli.run_build import build_and_report
    from builder.config.compose import compose
    from builder.engine.plan import current_artifact

    request = compose(list(overrides))
    current = current_artifact(request, outputs=outputs)
    if current is not None:
        return request, current.artifact
    return request, build_and_report(request, outputs=outputs, verbosity=verbosity).artifact.path


def _lines(found: DeviceMeasurement) -> list[str]:
    from builder.artifacts.devices import UNITS
    from builder.reports.page_devices import milliseconds

    lines = [f"{found.model} ({found.chip}, {found.system}), outputs within the limits of parity:"]
    if found.stand_in:
        lines.append("  a stand-in answered, builder's own runtime: these are no measurements of a device")
    for name, measured in found.units.items():
        lines.append(
            f"  {UNITS[name]}: {milliseconds(measured.latency_ms)} a prediction, "
            f"{milliseconds(measured.load_cold_ms)} to load"
        )
    lines += [f"  {UNITS[name]}: could not be measured: {reason}" for name, reason in found.failed.items()]
    return lines


def _say(given: Namespace, line: str) -> None:
    from builder.util.text import visible

    if verbosity(given) >= 0:
        print(visible(line), file=sys.stderr)
