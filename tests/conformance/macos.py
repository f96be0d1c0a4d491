"""Tells coremltools that it runs on macOS 15, before its tests are imported, so that they predict."""

import sys
from typing import Any

VERSION = (15, 5)
"""Newer than every "fixed in macOS 15.x" of coremltools 9."""


def pretend() -> None:
    """Import coremltools and replace what its modules and tests ask for the system.

    `_deps._IS_MACOS` is imported by name into the tests' helpers, so it must change before those are imported.
    """
    import coremltools._deps
    import coremltools.models.model
    import coremltools.models.utils

    def is_macos() -> bool:
        return True

    def macos_version() -> tuple[int, ...]:
        return VERSION

    coremltools._deps._IS_MACOS = True
    owners: list[Any] = [
        coremltools.models.utils,
        coremltools.models.model,
        sys.modules["coremltools.models._compiled_model"],
    ]
    for owner in owners:
        if hasattr(owner, "_is_macos"):
            owner._is_macos = is_macos
        if hasattr(owner, "_macos_version"):
            owner._macos_version = macos_version
