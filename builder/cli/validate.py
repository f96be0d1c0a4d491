"""`python -m builder validate FILE…`: checks recipe files without building, for pre-commit and editors."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from builder.cli.arguments import Parser, verbosity
from builder.errors import BuilderError, ConfigurationError, Diagnostic
from builder.util.text import visible

DESCRIPTION = """Compose and check recipe files, all problems at once; nothing is loaded or built, and torch is not
imported. A file of ./conf, or none at all, stands for every recipe in ./recipes. The exit code is 2 where something
is wrong.

  python -m builder validate recipes/mine.yaml
  python -m builder validate
"""

_HINT = "name files, such as recipes/mine.yaml; `python -m builder init` writes one"


def parser() -> Parser:
    """Return the parser of this verb."""
    made = Parser("validate", DESCRIPTION, usage="validate [FILE …]")
    made.add_argument("files", nargs="*", metavar="FILE", help="recipes, or options in conf/")
    return made


def run(arguments: Sequence[str]) -> int:
    """Check and print what is wrong; returns the exit code."""
    given = parser().read(arguments)
    recipes = _recipes([Path(file) for file in given.files])
    found = [diagnostic for file in recipes for diagnostic in _problems(file)]
    if found:
        from builder.diagnostics.render import DiagnosticsError

        raise DiagnosticsError(found)
    if verbosity(given) >= 0:
        print(f"{len(recipes)} recipe{'s are' if len(recipes) != 1 else ' is'} valid", file=sys.stderr)
    return 0


def _recipes(files: Sequence[Path]) -> list[Path]:
    """The recipes to check: those that are given, and all where an option may have changed."""
    for file in files:
        if not file.is_file() or file.suffix != ".yaml":
            raise ConfigurationError(visible(f"{file} is not a .yaml file"), code="B0226", hint=_HINT)
    options = Path("conf").absolute()
    recipes = [file for file in files if not file.absolute().is_relative_to(options)]
    if len(recipes) < len(files) or not files:
        recipes += sorted(Path("recipes").glob("*.yaml"))
    if not recipes:
        raise ConfigurationError("there is no recipe in ./recipes", code="B0226", hint=_HINT)
    return list(dict.fromkeys(recipes))


def _problems(file: Path) -> Iterable[Diagnostic]:
    """Everything that is wrong with one recipe."""
    from builder.config.compose import compose
    from builder.config.folders import open_library

    known = {folder.resolve() for folder in open_library().recipes}
    if file.parent.resolve() not in known:
        others = [part for part in os.environ.get("BUILDER_RECIPES", "").split(os.pathsep) if part]
        os.environ["BUILDER_RECIPES"] = os.pathsep.join([*others, str(file.parent.absolute())])
    try:
        compose([f"recipe={file.stem}"])
    except BuilderError as error:
        return error.diagnostics
    return ()
