"""The names of the ways to capture a model, in the order in which they are tried."""

from __future__ import annotations

from builder.spec import BuildSpec
from builder.spec.source_kinds import is_passed_on, kind_of
from builder.spec.target import FORMATS

METHODS = ("trace", "export", "script")
"""What `auto` tries: onnx is a way round, for those who ask for it."""


def methods_to_try(spec: BuildSpec) -> tuple[str, ...]:
    """The methods that the recipe's source and `capture.method` allow, in order."""
    kind = kind_of(spec.source)
    program = kind.program
    if kind.is_finished and not is_passed_on(spec.source, spec.format):
        return ("export",)  # the operators of the file, as torch has them
    if program is not None:
        return (program,)
    taken = FORMATS[spec.format].capture_methods
    if taken is not None and spec.capture.method == "auto":
        return taken if kind.exports else tuple(method for method in taken if method != "export")
    if spec.module_compression and spec.capture.method == "auto":
        return ("trace",)  # coremltools reads what torch compressed from traced programs
    return METHODS if spec.capture.method == "auto" else (spec.capture.method,)
