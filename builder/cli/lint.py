"""`python -m builder lint MODEL`: what probably keeps a Core ML model off the Neural Engine, or slows it there."""

from __future__ import annotations

from collections.abc import Sequence

from builder.cli.arguments import Parser, model_file
from builder.util.text import visible

DESCRIPTION = """Say what probably keeps a .mlpackage or .mlmodel off the Neural Engine, or slows it there: warnings,
each with its confidence and its source (docs/reference/lint.md), the surest first. The exit code is 0.

  python -m builder lint outputs/mobilenet_v2_fp16/default/mobilenet_v2_fp16.mlpackage
"""


def run(arguments: Sequence[str]) -> int:
    """Print what was found; returns the exit code."""
    parser = Parser("lint", DESCRIPTION, usage="lint MODEL")
    parser.add_argument("model", metavar="MODEL", help="a .mlpackage, .mlmodel or .aimodel")
    path = model_file(parser.read(arguments).model)
    from builder.analysis.neural_engine.inspect import lint, told

    print(visible("\n".join(told(lint(path)))))
    return 0
