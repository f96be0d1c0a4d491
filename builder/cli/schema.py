"""`python -m builder schema`: the JSON schema with which editors complete and check recipes."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path

from builder.cli.arguments import Parser
from builder.errors import ConfigurationError

DESCRIPTION = """Print the JSON schema of a recipe file, or write it with --output.

In an editor with a YAML language server, the first line of a recipe can name it:

  # yaml-language-server: $schema=recipe.schema.json
"""


def run(arguments: Sequence[str]) -> int:
    """Print or write the schema; returns the exit code."""
    parser = Parser("schema", DESCRIPTION, usage="schema [--output FILE]")
    parser.add_argument("--output", metavar="FILE", help="write it there instead of printing it")
    given = parser.read(arguments)
    from builder.config.editor_schema import recipe_schema
    from builder.config.folders import open_library

    text = json.dumps(recipe_schema(open_library()), indent=2, ensure_ascii=False)
    if given.output is None:
        print(text)
        return 0
    _write(Path(given.output), f"{text}\n")
    print(given.output)
    return 0


def _write(file: Path, text: str) -> None:
    temporary = file.with_name(f"{file.name}.{os.getpid()}.tmp")
    try:
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(file)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise ConfigurationError(f"--output {file} cannot be written: {error.strerror}", code="B0227") from error
