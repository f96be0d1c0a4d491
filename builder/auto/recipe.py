"""What was chosen as an ordinary recipe, which builds the same artifact without choosing anything."""

from __future__ import annotations

from pathlib import Path

from builder.artifacts.record import AutoResult, BuildRecord
from builder.artifacts.stages import BuildRequest
from builder.config.derived import decided_recipe
from builder.config.folders import open_library
from builder.errors import ConfigurationError
from builder.progress import Progress
from builder.util.paths import write_atomically

MARK = "Chosen by `auto` for"
"""By this a recipe tells that it is ours to write again."""


def recipe_name(request: BuildRequest) -> str:
    """The recipe's name, unless another one is given."""
    return f"{request.recipe}_chosen"


def chosen_recipe(request: BuildRequest, chosen: AutoResult, name: str) -> str:
    """Its text. Raises DiagnosticsError where a recipe cannot say what the command line does."""
    head = f"""{request.recipe} with what was found by measuring: {chosen.summary}.
{MARK} {" ".join(request.overrides)}

    python -m builder recipe={name}"""
    return decided_recipe(request.overrides, decided_sections(chosen), head, open_library())


def write_beside(record: BuildRecord, chosen: AutoResult, folder: Path, progress: Progress) -> None:
    """Write it beside the artifact, where a recipe can say the rest of the command line."""
    name = recipe_name(record.request)
    try:
        text = chosen_recipe(record.request, chosen, name)
    except ConfigurationError as error:
        wording = f"what was chosen is in build.json, and not written as a recipe: {error.message}"
        progress.warn(wording, code="B0010")
    else:
        write_atomically(folder / f"{name}.yaml", text)


def decided_sections(chosen: AutoResult) -> dict[str, object]:
    """The sections that were open, as they are now."""
    sections = {"precision": chosen.precision, "compression": chosen.compression}
    return {section: dict(settings) for section, settings in sections.items() if settings is not None}
