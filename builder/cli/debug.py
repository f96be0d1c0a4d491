"""`python -m builder debug recipe=…`: which operators and rewrites add the error, and what would help."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from builder.cli.arguments import Parser, verbosity
from builder.errors import BuilderError

DESCRIPTION = """Build a recipe without its checks, and compare artifact and original operator by operator: what
adds the error, operators and substitutions, the worst first, with their modules, the values that half precision
cannot hold, and the change to the recipe that would help. Nothing is published. The exit code is 0.

  python -m builder debug recipe=mobilenet_v2_fp16
  python -m builder debug recipe=mobilenet_v2_fp16 compression=palettize_2 -v
"""


def run(arguments: Sequence[str]) -> int:
    """Print what was found; returns the exit code."""
    parser = Parser("debug", DESCRIPTION, usage="debug recipe=NAME [key=value …] [--short] [-v]")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="the recipe, and what to change in it")
    parser.add_argument("--short", action="store_true", help="say only what adds most of the error")
    given = parser.read(arguments)
    from builder.config.compose import compose
    from builder.config.places import place_of

    request = compose(given.overrides)
    from builder.analysis.numerics.screen import short, told
    from builder.engine.debug import debug
    from builder.reports.files import build_logged
    from builder.reports.terminal import Terminal

    with (
        Terminal(verbosity=verbosity(given), stream=sys.stderr) as terminal,
        tempfile.TemporaryDirectory() as folder,
    ):
        try:
            with build_logged(Path(folder), terminal) as logged:  # what libraries say is no part of the answer
                findings = debug(request, folder=Path(folder), progress=logged)
        except BuilderError as error:
            if error.key is not None and error.spot is None:
                error.spot = place_of(error.key, request)
            raise
    print("\n".join(short(findings) if given.short else told(findings, everything=verbosity(given) > 0)))
    return 0
