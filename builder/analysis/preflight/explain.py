"""A conversion that failed, explained by a diagnosis instead of one line from coremltools."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from builder.errors import ConversionError
from builder.progress import Progress

if TYPE_CHECKING:  # a cached build must not import torch
    from builder.backends.coreml.preflight.obstacles import Diagnosis, Remedy


def explained(
    error: ConversionError, failures: Mapping[str, str], diagnose: Callable[[], Diagnosis], progress: Progress
) -> ConversionError:
    """Return the error with the diagnosis as its message, and the first remedy as its hint.

    `failures` says what each method met. Where the diagnosis finds nothing, or fails itself, they are the message.
    """
    text = error.message if len(failures) == 1 else "; ".join(f"{m}: {f}" for m, f in failures.items())
    plain = ConversionError(text, code=error.code, hint=error.hint, key=error.key)
    try:
        found = diagnose()
    except Exception as trouble:  # the conversion's own failure must not be lost behind ours
        progress.detail(f"no diagnosis: {type(trouble).__name__}: {trouble}")
        return plain
    if not found.best.in_the_way:
        return plain
    from builder.analysis.preflight.screen import format_diagnosis

    message = "\n".join([f"the model does not convert: {format_diagnosis(found)[0]}", *format_diagnosis(found)[1:]])
    hint = _hint(found.best.in_the_way[0].remedy) or error.hint
    return ConversionError(message, code=error.code, hint=hint, key=error.key)


def _hint(remedy: Remedy | None) -> str | None:
    if remedy is None or remedy.kind == "none":
        return None
    return remedy.summary if remedy.paste is None else f"{remedy.summary}: the lines below it go into the recipe"
