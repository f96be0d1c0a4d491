"""`python -m builder show recipe=…`: the composed recipe as YAML, each value with the place where it was written."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence

from builder.artifacts.stages import BuildRequest
from builder.cli.arguments import Parser
from builder.util.redact import redacted_values
from builder.util.text import visible

WIDEST = 72
"""Origins are aligned behind values up to this column."""

_PLAIN = re.compile(r"[A-Za-z_/.][A-Za-z0-9_./ ()+-]*")
_NOT_TEXT = ("null", "true", "false", "")


def parser() -> Parser:
    """Return the parser of this verb."""
    description = "Print a recipe as it is composed, with the file and line of each value."
    made = Parser("show", description, usage="show recipe=NAME [key=value …]")
    made.add_argument("overrides", nargs="*", metavar="key=value", help="the recipe, and what to change in it")
    made.offer_json()
    return made


def run(arguments: Sequence[str]) -> int:
    """Print a composed recipe; returns the exit code."""
    given = parser().read(arguments)
    from builder.config.compose import compose
    from builder.reports.plain import plain

    request = compose(given.overrides)
    if given.json:
        from builder.cli.answers import ShowAnswer, render

        config = plain(redacted_values(dict(request.config)))
        print(
            render(
                ShowAnswer(recipe=request.recipe, variant=request.variant, config=config, origins=dict(request.origins))
            )
        )
        return 0
    print(visible(composed_text(request)))
    return 0


def composed_text(request: BuildRequest) -> str:
    """Return the composed configuration as YAML, with origins as comments."""
    lines = list(_lines(redacted_values(dict(request.config)), "", 0, request.origins))
    width = min(WIDEST, max((len(text) for text, origin in lines if origin), default=0))
    body = [f"{text:<{width}}  # {origin}" if origin else text for text, origin in lines]
    return "\n".join([f"# recipe {request.recipe}, variant {request.variant}", *body])


def _lines(
    value: Mapping[str, object], prefix: str, depth: int, origins: Mapping[str, str]
) -> Iterator[tuple[str, str]]:
    for key, child in value.items():
        path, indent = f"{prefix}{key}", "  " * depth
        if isinstance(child, Mapping) and child:
            yield f"{indent}{key}:", ""
            yield from _lines(child, f"{path}.", depth + 1, origins)
        else:
            yield f"{indent}{key}: {_flow(child)}", _origin(path, origins)


def _origin(path: str, origins: Mapping[str, str]) -> str:
    while path:
        if path in origins:
            return origins[path]
        path = path.rpartition(".")[0]
    return ""


def _flow(value: object) -> str:
    """Return a value in YAML's flow style."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}: {_flow(child)}" for key, child in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(_flow(item) for item in value) + "]"
    if isinstance(value, str) and _PLAIN.fullmatch(value) and value.strip().lower() not in _NOT_TEXT:
        return value.strip() if value.strip() == value else json.dumps(value, ensure_ascii=False)
    return json.dumps(value, ensure_ascii=False)
