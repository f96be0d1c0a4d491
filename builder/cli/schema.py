"""`python -m builder schema`: the JSON schema with which editors complete and check recipes."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from builder.cli.arguments import Parser
from builder.errors import ConfigurationError
from builder.util.suggest import did_you_mean

DESCRIPTION = """Print the JSON schema of a recipe file, or write it with --output.

In an editor with a YAML language server, the first line of a recipe can name it:

  # yaml-language-server: $schema=recipe.schema.json

With --of, it is the schema of what a verb prints with --json.
"""


def parser() -> Parser:
    """Return the parser of this verb."""
    made = Parser("schema", DESCRIPTION, usage="schema [--of VERB] [--output FILE]")
    made.add_argument(
        "--of", metavar="VERB", help="of what that verb prints with --json (ci: --report), or `error` where it fails"
    )
    made.add_argument("--output", metavar="FILE", help="write it there instead of printing it")
    return made


def run(arguments: Sequence[str]) -> int:
    """Print or write the schema; returns the exit code."""
    given = parser().read(arguments)
    text = json.dumps(_schema(given.of), indent=2, ensure_ascii=False)
    if given.output is None:
        print(text)
        return 0
    _write(Path(given.output), f"{text}\n")
    print(given.output)
    return 0


def _schema(verb: str | None) -> dict[str, Any]:
    """The schema of recipe files, or of what a verb prints."""
    if verb is None:
        from builder.config.editor_schema import recipe_schema
        from builder.config.folders import open_library

        return recipe_schema(open_library())
    from builder.cli.answers import ANSWERS, answer_schema

    if verb not in ANSWERS:
        hint = did_you_mean(verb, ANSWERS) or f"possible: {', '.join(ANSWERS)}"
        raise ConfigurationError(f"{verb} prints no JSON", code="B0225", hint=hint)
    return answer_schema(verb)


def _write(file: Path, text: str) -> None:
    temporary = file.with_name(f"{file.name}.{os.getpid()}.tmp")
    try:
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(file)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise ConfigurationError(f"--output {file} cannot be written: {error.strerror}", code="B0227") from error
