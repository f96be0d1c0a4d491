"""`python -m builder publish --to hf://org/name recipe=…`: artifact, card and release on the Hugging Face Hub."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from datetime import UTC, datetime

from builder.cli.arguments import Parser, outputs_folder, verbosity
from builder.errors import CheckError

DESCRIPTION = """Publish a recipe's build on the Hugging Face Hub: the artifact, its card (README.md), build.json, the
report, and the release of the same bytes where one was made. All of it is one commit: never half of it is there.

  python -m builder publish --to hf://org/name recipe=mobilenet_v2_fp16

The token is that of `hf auth login`, or HF_TOKEN; it is written nowhere. The revision is written into build.json,
and is the last line on stdout. A repository that is not there is made, with --private for its members alone.
"""


def parser() -> Parser:
    """Return the parser of this verb."""
    made = Parser("publish", DESCRIPTION, usage="publish --to hf://ORG/NAME recipe=NAME [key=value …]")
    made.add_argument("overrides", nargs="+", metavar="key=value", help="the recipe, and what to change in it")
    made.add_argument("--to", required=True, metavar="hf://ORG/NAME", help="the repository")
    made.add_argument("--private", action="store_true", help="where the repository is made")
    made.add_argument("--outputs", default="outputs", metavar="FOLDER", help="where builds go (default: outputs)")
    return made


def run(arguments: Sequence[str]) -> int:
    """Publish; returns the exit code."""
    given = parser().read(arguments)
    from builder.card.hub import publish, read_address
    from builder.card.render import render_card
    from builder.card.subject import files_of, note_publication, record_of, release_of
    from builder.cli.device import up_to_date

    repository, outputs = read_address(given.to), outputs_folder(given)
    request, artifact = up_to_date(given.overrides, outputs=outputs, verbosity=verbosity(given))
    record = record_of(request, artifact, outputs)
    if record.seeded:
        raise CheckError(
            f"{artifact.name} has untrained weights, which are not published", code="B0503",
            hint="build it where the weights can be had",
        )  # fmt: skip
    release = release_of(record, outputs)
    card = render_card(record, release="release" if release else "")
    files = files_of(record, card, release)
    message = f"{record.request.recipe} ({record.variant}), {record.artifact.digest[:19]}"
    done = publish(repository, files, message, private=given.private)
    publication = {
        "to": given.to,
        "revision": done.revision,
        "url": done.url,
        "files": len(files),
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    note_publication(record, outputs, publication)
    if verbosity(given) >= 0:
        print(f"published {len(files)} files as one commit: {done.url}", file=sys.stderr)
    print(done.revision)
    return 0
