"""Whether Core AI's packages are here, and where Apple has wheels of them at all."""

from __future__ import annotations

import importlib.util
import platform
import sys

from builder.errors import UnfitEnvironmentError
from builder.store.versions import installed_version

PINS = {"coreai-core": "1.0.0b3", "coreai-torch": "0.4.3"}
"""The versions that `adapter.py` is written for: the bindings are private and change with every beta."""

COMMAND = "pip install 'coreml-builder[coreai]' -c constraints.txt"


def why_no_wheel() -> str | None:
    """Why this machine cannot have Core AI, or None where Apple has a wheel for it."""
    if sys.platform == "darwin":
        return None if platform.machine() == "arm64" else "coreai-core has no wheel for Macs with Intel processors"
    if sys.platform != "linux":
        return "coreai-core has no wheel for this system, only for Linux x86-64 and macOS"
    if platform.machine() != "x86_64":
        return f"coreai-core has no wheel for Linux {platform.machine()}, only for x86-64"
    if platform.libc_ver()[0] != "glibc":
        return "coreai-core has no wheel for musl, only for glibc 2.34 and later"
    return None


def is_installed() -> bool:
    """Whether Core AI can be used here."""
    try:
        check_installed()
    except UnfitEnvironmentError:
        return False
    return True


def check_installed() -> None:
    """Raise UnfitEnvironmentError where Core AI is missing or another version than ours."""
    reason = why_no_wheel()
    if reason is not None:
        raise UnfitEnvironmentError(
            f"format aimodel needs Core AI: {reason}",
            code="B0704",
            hint="build it on Linux x86-64, or `format: mlpackage`",
        )
    if importlib.util.find_spec("coreai") is None or importlib.util.find_spec("coreai_torch") is None:
        raise UnfitEnvironmentError(
            "format aimodel needs coreai-core and coreai-torch, which are not installed", code="B0704", hint=COMMAND
        )
    for name, version in PINS.items():
        if (found := installed_version(name)) != version:
            raise UnfitEnvironmentError(
                f"format aimodel needs {name} {version}, whose bindings are private, and {found} is installed",
                code="B0704",
                hint=COMMAND,
            )
