"""The tools that made an artifact, and which of them are others here."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from builder.release.digests import file_sha256
from builder.store.digests import digest_of

if TYPE_CHECKING:
    from builder.util.reading import JsonObject

_PACKAGE = Path(__file__).resolve().parents[1]


def toolchain(entry: JsonObject) -> dict[str, str]:
    """The locked versions, the processor, the system, and the digest of builder's own code."""
    return {
        **entry["tools"],
        "processor": platform.machine(),
        "system": platform.system(),
        "builder's code": builder_code(),
    }


def builder_code() -> str:
    """`sha256:` over builder's own source files: a checkout may change without its version."""
    files = sorted(_PACKAGE.rglob("*.py"))
    return digest_of({file.relative_to(_PACKAGE).as_posix(): file_sha256(file) for file in files})


def toolchain_differences(then: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """One line for each tool that differs: then and here."""
    return [
        f"{name}: {then.get(name, 'none')} then, {now.get(name, 'none')} here"
        for name in sorted(then.keys() | now.keys())
        if then.get(name) != now.get(name)
    ]
