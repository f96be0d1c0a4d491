"""`python -m builder explain B0211`: what the code of an error means, with an example."""

from __future__ import annotations

import re
from collections.abc import Sequence

from builder.cli.arguments import Parser
from builder.errors import ConfigurationError
from builder.util.suggest import did_you_mean

DESCRIPTION = """Say what the code of an error means and what to do about it, with a small project that meets it.
Without a code, list all of them.

  python -m builder explain B0211
  python -m builder explain
"""


def parser() -> Parser:
    """Return the parser of this verb."""
    made = Parser("explain", DESCRIPTION, usage="explain [CODE]")
    made.add_argument("code", nargs="?", metavar="CODE", help="such as B0211, as the error says it")
    return made


def run(arguments: Sequence[str]) -> int:
    """Print a page, or the list; returns the exit code."""
    given = parser().read(arguments)
    from builder.diagnostics.pages import plain_page
    from builder.diagnostics.table import CODES

    if given.code is None:
        print("\n".join(f"{code.code}  {code.title}" for code in CODES.values()))
        return 0
    name = re.sub(r"^(?:error)?\[?(\w*)\]?:?$", r"\1", given.code).upper()
    if name not in CODES:
        hint = did_you_mean(name, CODES) or "`python -m builder explain` lists all codes"
        raise ConfigurationError(f"there is no code {given.code}", code="B0228", hint=hint)
    print(plain_page(CODES[name]))
    return 0
