"""What surely does not convert to Core ML, or converts to something else, found before the long work."""

from __future__ import annotations

from builder.artifacts.stages import CapturedProgram
from builder.backends.coreml.preflight.dry_run import missing_operators
from builder.backends.coreml.preflight.rules import lost
from builder.backends.coreml.preflight.torchscript import lost_writes
from builder.errors import ConversionError


def refuse_what_cannot_convert(captured: CapturedProgram) -> None:
    """Raise ConversionError for what surely does not convert, or converts to something else, before the long work.

    Another method of capture may do better; it would not be tried after a conversion that only seems to succeed.
    """
    missing = [f"`{name}`" for name in missing_operators(captured)]
    if missing:
        have = "has" if len(missing) == 1 else "have"
        raise ConversionError(f"{', '.join(missing)} {have} no lowering, neither coremltools' nor ours", code="B0401")
    if captured.method in ("trace", "script") and (writes := lost_writes(captured.program)):
        first, (obstacle, *_) = writes[0], lost(writes)
        place = "" if first.place is None else f" in {first.place.file}:{first.place.line}"
        raise ConversionError(f"`{first.name}`{place} {obstacle.what}", code="B0406")
