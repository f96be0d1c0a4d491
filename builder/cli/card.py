"""`python -m builder card recipe=…`: the model card of a build, as the Hugging Face Hub has them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from builder.cli.arguments import Parser, outputs_folder, verbosity
from builder.util.locations import shown

DESCRIPTION = """Write the model card of a recipe's build: README.md with the header that the Hugging Face Hub reads,
and measured facts: inputs and outputs, use from Swift and Python, sizes and costs, checks, devices, limits, provenance.

  python -m builder card recipe=mobilenet_v2_fp16

The recipe is built unless that is up to date. The path of the card is the last line on stdout.
"""


def parser() -> Parser:
    """Return the parser of this verb."""
    made = Parser("card", DESCRIPTION, usage="card recipe=NAME [key=value …] [-o FILE]")
    made.add_argument("overrides", nargs="+", metavar="key=value", help="the recipe, and what to change in it")
    made.add_argument(
        "-o", "--output", metavar="FILE", help="the card (default: outputs/cards/RECIPE/VARIANT/README.md)"
    )
    made.add_argument("--outputs", default="outputs", metavar="FOLDER", help="where builds go (default: outputs)")
    return made


def run(arguments: Sequence[str]) -> int:
    """Write the card; returns the exit code."""
    given = parser().read(arguments)
    from builder.card.render import FILE_NAME, render_card
    from builder.card.subject import record_of, release_of
    from builder.cli.device import up_to_date
    from builder.util.paths import write_atomically, writing

    outputs = outputs_folder(given)
    request, artifact = up_to_date(given.overrides, outputs=outputs, verbosity=verbosity(given))
    record = record_of(request, artifact, outputs)
    release = "release" if release_of(record, outputs) is not None else ""
    place = outputs / "cards" / request.recipe / record.variant / FILE_NAME
    file = Path(given.output) if given.output else place
    with writing(file.parent):
        file.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(file, render_card(record, release=release))
    print(shown(file))
    return 0
