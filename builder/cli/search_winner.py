"""Writes the winner of a search as an ordinary recipe, and proves that it composes to what the trial built."""

from __future__ import annotations

from pathlib import Path

from builder.config.compose import compose
from builder.config.derived import derived_recipe
from builder.config.folders import open_library
from builder.config.hydra.overrides import why_unfit
from builder.errors import ConfigurationError
from builder.search.settings import Search
from builder.search.table import cells, headings
from builder.search.trials import Trial
from builder.util import paths
from builder.util.locations import shown

_FOUND_BY = "Found by `python -m builder search`, trial"


def winner_file(given: str | None, name: str, folder: Path) -> Path:
    """Return where the winner's recipe goes; `folder` is the study's, whose earlier recipe is replaced."""
    return recipe_file(given, name, _mark(folder))


def recipe_file(given: str | None, name: str, mark: str) -> Path:
    """Return where a recipe goes that a verb writes; one that holds `mark` is replaced.

    Raises ConfigurationError where that is not ours to write.
    """
    file = Path("recipes") / f"{name}.yaml" if given is None else Path(given)
    unfit = why_unfit(file.stem)
    if file.suffix != ".yaml" or unfit:
        raise ConfigurationError(
            f"--output {file} is not a name of a recipe", code="B0227", hint=unfit or "recipes are called NAME.yaml"
        )
    known = [Path("recipes").resolve(), *(place.resolve() for place in open_library().recipes)]
    if file.parent.resolve() not in known:
        hint = f"`BUILDER_RECIPES={file.parent}` makes it one"
        raise ConfigurationError(f"--output {file} is not in a recipe folder", code="B0227", hint=hint)
    if file.exists() and mark not in file.read_text(encoding="utf-8", errors="replace"):
        raise ConfigurationError(
            f"{file} is there already, and was not written by this command",
            code="B0227",
            hint="name another with --output, or remove it",
        )
    return file


def _mark(folder: Path) -> str:
    return f"the study in {shown(folder)}"


def write_winner(file: Path, trial: Trial, recipe: str, folder: Path, search: Search) -> None:
    """Write the recipe, and compose it: it must be what the trial built."""
    measured = ", ".join(f"{n} {text}" for n, text in zip(headings(search), cells(trial, search), strict=False))
    head = f"""{recipe} with the settings that a search found best: {measured}.
{_FOUND_BY} {trial.number} of {_mark(folder)}.

    python -m builder recipe={file.stem}"""
    text = derived_recipe(trial.arguments, head, open_library())
    with paths.writing(file.parent):
        file.parent.mkdir(parents=True, exist_ok=True)
    paths.write_atomically(file, text)
    if compose([f"recipe={file.stem}"]).spec != compose(trial.arguments).spec:
        file.unlink()
        raise RuntimeError(f"the recipe of trial {trial.number} composes to something else than the trial")
