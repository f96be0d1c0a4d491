"""What turns a captured program into an artifact, one package for each format of Apple's.

Everything above asks `backend_of` for the object of a format and speaks to that; it never compares formats.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from builder.spec.target import BACKENDS

if TYPE_CHECKING:
    from builder.backends.interface import Backend


def backend_of(artifact_format: str) -> Backend:
    """The backend that makes artifacts of this format."""
    if BACKENDS.get(artifact_format) == "coreai":
        from builder.backends.coreai.backend import CoreAI

        return CoreAI()
    from builder.backends.coreml.backend import CoreML

    return CoreML()


def backend_of_file(path: Path) -> Backend:
    """The backend that reads this artifact; what has another suffix is Core ML's to refuse."""
    suffix = path.suffix.removeprefix(".")
    return backend_of(suffix if suffix in BACKENDS else "mlpackage")
