"""`python -m builder export MODEL --to FORMAT`: a finished Core ML model as one file of another format, with proof."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from builder.cli.arguments import Parser, model_file, verbosity
from builder.errors import ConfigurationError
from builder.util.suggest import did_you_mean
from builder.util.text import size, visible

DESCRIPTION = """Write a finished Core ML model as one file of another format: no recipe, no training code.

The program is taken out of the file operator by operator, with the names, the types and the weights that it has
there. Original and result are then executed on the same inputs, stress inputs among them; where they differ nothing
is written, and the exit code is 5. The proof lies beside the file, as FILE.proof.json.

  python -m builder export model.mlpackage --to pt2
  python -m builder export model.mlmodel --to aimodel -o converted.aimodel
"""


def parser() -> Parser:
    """Return the parser of this verb."""
    made = Parser("export", DESCRIPTION, usage="export MODEL --to FORMAT [-o FILE] [--function NAME]")
    made.add_argument("model", metavar="MODEL", help="a .mlpackage or .mlmodel")
    made.add_argument("--to", metavar="FORMAT", help="pt2 (PyTorch), onnx or aimodel (Core AI)")
    made.add_argument("-o", "--output", metavar="FILE", help="where to write it (default: the model's name, here)")
    made.add_argument("--function", metavar="NAME", help="which function of a package that holds several")
    return made


def run(arguments: Sequence[str]) -> int:
    """Write the file and print its path; returns the exit code."""
    given = parser().read(arguments)
    path = Path(given.model)
    if path.exists() and path.suffix not in (".mlpackage", ".mlmodel"):
        raise ConfigurationError(
            f"{path} is not a Core ML model",
            code="B0226",
            hint="export takes a .mlpackage or a .mlmodel; other files need a recipe",
        )
    path = model_file(given.model)
    from builder.migrate.targets import TARGETS, target_named

    names = [target.name for target in TARGETS]
    if given.to not in names:
        what = "--to is missing" if given.to is None else f"--to {given.to} is not a format"
        raise ConfigurationError(
            what, code="B0228", hint=did_you_mean(given.to or "", names) or f"formats: {', '.join(names)}"
        )
    target = target_named(given.to)
    destination = _destination(given.output, path, target.suffix)
    from builder.migrate.migrate import migrate
    from builder.reports.working import working

    with working(f"exporting to {target.name}", path.absolute(), verbosity=verbosity(given)):
        done = migrate(path, target, destination, function=given.function)
    if verbosity(given) >= 0:
        sizes = f"{size(done.bytes_after)}, the original {size(done.bytes_before)}"
        _say([f"{done.operators} operators, {sizes}", *done.lines, f"proof: {done.proof}"])
    _say([f"warning: {warning}" for warning in done.warnings])
    print(done.path)
    return 0


def _say(lines: Sequence[str]) -> None:
    for line in lines:
        print(visible(line), file=sys.stderr)


def _destination(given: str | None, path: Path, suffix: str) -> Path:
    """Where the file goes; raises ConfigurationError where it cannot."""
    file = Path(path.stem + suffix) if given is None else Path(given)
    if file.suffix != suffix:
        raise ConfigurationError(
            f"-o {file} does not end with {suffix}", code="B0227", hint=f"write `-o {file.stem}{suffix}`"
        )
    if os.path.lexists(file):
        raise ConfigurationError(f"{file} is there already", code="B0227", hint="name another with -o, or remove it")
    if not file.parent.is_dir():
        raise ConfigurationError(f"-o {file}: there is no folder {file.parent}", code="B0227", hint="make it first")
    if not os.access(file.parent, os.W_OK):
        raise ConfigurationError(f"-o {file}: the folder {file.parent} cannot be written to", code="B0227")
    return file
