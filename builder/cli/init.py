"""`python -m builder init SOURCE`: looks at a model and writes a commented recipe that builds it."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from builder.cli.arguments import Parser, verbosity
from builder.config.folders import MODELINE, open_library
from builder.config.recipe_keys import SCHEMA_FILE
from builder.errors import ConfigurationError
from builder.util.locations import shown
from builder.util.text import visible

DESCRIPTION = """Look at a model and write a commented recipe that builds it.

SOURCE is a file (.pth, .safetensors, .pt, .pt2, .jit, .onnx, .mlpackage, .mlmodel, .aimodel), a name
(torchvision:resnet50, timm:resnet18.a1_in1k), or a factory of your own (package.module:function).

  python -m builder init torchvision:resnet50
  python -m builder init model.onnx --output recipes/mine.yaml
"""


def parser() -> Parser:
    """Return the parser of this verb."""
    made = Parser("init", DESCRIPTION, usage="init SOURCE [--output recipes/NAME.yaml]")
    made.add_argument("source", metavar="SOURCE", help="the model to look at")
    made.add_argument("--output", metavar="FILE", help="where to write it (default: recipes/NAME.yaml)")
    return made


def run(arguments: Sequence[str]) -> int:
    """Write the recipe and print its path; returns the exit code."""
    given = parser().read(arguments)
    output = None if given.output is None else Path(given.output)
    if output is not None:
        _check_output(output)
        _check_name(output)
    from builder.analysis.init import inspect_source
    from builder.analysis.init.draft import recipe_text
    from builder.reports.working import working

    with working("looking at the model", given.source, verbosity=verbosity(given)):
        draft = inspect_source(given.source, Path("recipes") if output is None else output.parent)
    file = output or Path("recipes") / f"{_free_name(draft.name)}.yaml"
    _check_output(file)
    _write(file, _modeline(file) + recipe_text(replace(draft, name=file.stem)))
    for key, reason in draft.missing.items():
        print(visible(f"to be given: source.{key}: {reason}"), file=sys.stderr)
    if not draft.missing:
        print(f"next: {_where(file)}python -m builder recipe={file.stem}", file=sys.stderr)
    print(file)
    return 0


def _modeline(file: Path) -> str:
    """The line that names the schema to editors, where one lies beside the recipe (`schema --output` writes it)."""
    is_there = file.with_name(SCHEMA_FILE).is_file()
    return f"{MODELINE} $schema={SCHEMA_FILE}\n" if is_there else ""


def _free_name(wanted: str) -> str:
    """Return `wanted`, or with a number where a recipe of another folder is called so."""
    names = (wanted, *(f"{wanted}_{number}" for number in range(2, 1000)))
    name = next(name for name in names if _elsewhere(Path("recipes") / f"{name}.yaml") is None)
    if name != wanted:
        other = _elsewhere(Path("recipes") / f"{wanted}.yaml")
        print(f"called {name}, since a recipe {wanted} is there already: {other}", file=sys.stderr)
    return name


def _check_name(file: Path) -> None:
    other = _elsewhere(file)
    if other is not None:
        raise ConfigurationError(
            f"a recipe {file.stem} is there already: {other}",
            code="B0227",
            hint="a name means one recipe: name another file with --output",
        )


def _elsewhere(file: Path) -> str | None:
    """The recipe of another folder that has the name of `file`, or None."""
    folders = (folder for folder in open_library().recipes if folder.resolve() != file.parent.resolve())
    return next((shown(folder / file.name) for folder in folders if (folder / file.name).exists()), None)


def _where(file: Path) -> str:
    """What the command needs in front of it to find a recipe that lies in no folder that is searched."""
    folders = {folder.resolve() for folder in open_library().recipes}
    return "" if file.parent.resolve() in folders else f"BUILDER_RECIPES={shlex.quote(str(file.parent))} "


def _check_output(file: Path) -> None:
    if file.suffix != ".yaml":
        raise ConfigurationError(
            f"--output {file} is not a name of a recipe", code="B0227", hint="recipes are called NAME.yaml"
        )
    if file.exists():
        raise ConfigurationError(
            f"{file} is there already", code="B0227", hint="name another with --output, or remove it"
        )


def _write(file: Path, text: str) -> None:
    temporary = file.with_name(f".{file.name}.{os.getpid()}.tmp")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(text, encoding="utf-8")
        temporary.rename(file)
    except OSError as error:
        raise ConfigurationError(f"{file} cannot be written: {error.strerror}", code="B0227") from error
