"""`python -m builder choose recipe=…`: finds what `auto` stands for, and writes it as an ordinary recipe."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from builder.artifacts.record import AutoResult
from builder.artifacts.stages import BuildRequest
from builder.cli.arguments import Parser, verbosity
from builder.errors import ConfigurationError
from builder.util.text import visible

DESCRIPTION = """Find what `precision: auto` and `compression: auto` of a recipe stand for, by building and measuring,
and write it as a recipe that says so itself and builds the same artifact. What a build has found already is not
measured again. The recipe's path is the last line on stdout.

  python -m builder choose recipe=mobilenet_v2_fp16 precision=auto
  python -m builder choose recipe=digits_mobilenet compression=auto target=ios18 --output recipes/digits_small.yaml
"""


def parser() -> Parser:
    """Return the parser of this verb."""
    made = Parser("choose", DESCRIPTION, usage="choose recipe=NAME [key=value …] [--output FILE] [-v]")
    made.add_argument("overrides", nargs="*", metavar="key=value", help="the recipe, and what to change in it")
    made.add_argument("--output", metavar="FILE", help="where the recipe goes (default: recipes/NAME_chosen.yaml)")
    return made


def run(arguments: Sequence[str]) -> int:
    """Choose, and write the recipe; returns the exit code."""
    given = parser().read(arguments)
    from builder.auto.recipe import MARK, chosen_recipe, recipe_name
    from builder.cli.search_winner import recipe_file
    from builder.config.compose import compose
    from builder.util.locations import shown
    from builder.util.paths import write_atomically, writing

    request = compose(given.overrides)
    if not request.spec.is_open:
        raise ConfigurationError(
            f"{request.recipe} leaves nothing open", code="B0229", hint="say `precision=auto` or `compression=auto`"
        )
    file = recipe_file(given.output, recipe_name(request), f"{MARK} {' '.join(request.overrides)}")
    chosen = _choose(request, verbosity(given))
    text = chosen_recipe(request, chosen, file.stem)
    with writing(file.parent):
        file.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(file, text)
    _prove(file, request, chosen)
    print(visible(f"{chosen.summary}; {len(chosen.tried)} builds measured"), file=sys.stderr)
    for note in chosen.notes:
        print(visible(f"  {note}"), file=sys.stderr)
    print(shown(file))
    return 0


def _choose(request: BuildRequest, verbosity: int) -> AutoResult:
    from builder.config.places import located
    from builder.engine.pipeline import find_choice
    from builder.reports.files import build_logged
    from builder.reports.terminal import Terminal

    with (
        Terminal(verbosity=verbosity, stream=sys.stderr) as terminal,
        tempfile.TemporaryDirectory() as folder,
        located(request),
        build_logged(Path(folder), terminal) as logged,  # what libraries say is not part of the answer
    ):
        return find_choice(request, progress=logged)


def _prove(file: Path, request: BuildRequest, chosen: AutoResult) -> None:
    """Compose the recipe: it must be what was chosen."""
    from builder.auto.decided import resolve_auto
    from builder.auto.recipe import decided_sections
    from builder.config.compose import compose

    if compose([f"recipe={file.stem}"]).spec != resolve_auto(request.spec, decided_sections(chosen)):
        file.unlink()
        raise ConfigurationError(
            f"the recipe composes to something else than what was chosen for {request.recipe}",
            code="B0229",
            hint="choose `auto` in the defaults list (`- precision: auto`), not in a section below another option",
        )
