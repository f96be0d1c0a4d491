"""`python -m builder list`: one recipe a line on stdout, name, tab, description (standard library only)."""

from __future__ import annotations

from collections.abc import Sequence

from builder.cli.arguments import Parser
from builder.config.folders import head_comment, open_library
from builder.util.text import visible


def parser() -> Parser:
    """Return the parser of this verb."""
    made = Parser("list", "Print every recipe that can be built, one a line: name, tab, description.", usage="list")
    made.offer_json()
    return made


def run(arguments: Sequence[str]) -> int:
    """Print all recipes; returns the exit code."""
    given = parser().read(arguments)
    if given.json:
        from builder.cli.answers import ListAnswer, Recipe, render

        library = open_library()
        recipes = (
            Recipe(name=name, description=text, file=str(library.recipe(name))) for name, text in described_recipes()
        )
        print(render(ListAnswer(recipes=tuple(recipes))))
        return 0
    for name, description in described_recipes():
        print(f"{name}\t{description}")
    return 0


def described_recipes() -> list[tuple[str, str]]:
    """Return name and description of every recipe, as they may be shown; raises where one name means two files."""
    library = open_library()
    files = [(name, library.recipe(name)) for name in library.recipe_names()]
    return [(visible(name), visible(head_comment(file))) for name, file in files if file]
