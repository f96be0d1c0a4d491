"""The reference page of commands, written from the parser of each verb.

`python -m builder.cli.verbs_page > docs/reference/verbs.md` writes it; a test fails when it drifts.
"""

from __future__ import annotations

import argparse
import importlib
import sys

from builder.cli.main import VERBS

_HEAD = """# Commands

`python -m builder VERB …`; the word `build` may be left out. `builder` is the same command. `-q` prints what is
wrong and the result alone, `-v` says more; exit codes and streams are a [contract](../design.md#contracts).
"""


def render_page() -> str:
    """Return the page as Markdown."""
    lines = [_HEAD]
    for verb, meaning in VERBS.items():
        parser = importlib.import_module(f"builder.cli.{verb}").parser()
        usage = parser.format_usage().removeprefix("usage: ").strip()
        lines += [f"## {verb}", "", f"{meaning[:1].upper()}{meaning[1:]}.", "", "```text", usage, "```", ""]
        lines += ["```text", parser.description.strip(), "```", ""]
        rows = [_row(action) for action in parser._actions if _is_shown(action)]
        lines += ["| argument | |", "|---|---|", *rows, ""] if rows else []
    return "\n".join(lines).rstrip() + "\n"


def _is_shown(action: argparse.Action) -> bool:
    return action.help != argparse.SUPPRESS and action.dest not in ("help", "quiet", "verbose")


def _row(action: argparse.Action) -> str:
    value = action.metavar or action.dest
    names = [f"{name} {value}" if action.nargs != 0 else name for name in action.option_strings] or [str(value)]
    return f"| `{', '.join(names)}` | {(action.help or '').replace('|', chr(92) + '|')} |"


if __name__ == "__main__":
    sys.stdout.write(render_page())
