"""The commands with which missing packages are installed, as they work where builder itself is installed."""

from __future__ import annotations

import shlex
from pathlib import Path

from builder.util.locations import shown

_PACKAGE = Path(__file__).resolve().parents[1]


def install_command(*requirements: str) -> str:
    """`pip install -c CONSTRAINTS REQUIREMENT …` with the pins that come with this builder.

    They are in a checkout's root, or inside the package that a wheel installs; `-c` is left out where there are none.
    """
    found = next((f for f in (_PACKAGE / "constraints.txt", _PACKAGE.parent / "constraints.txt") if f.is_file()), None)
    pins = [] if found is None else ["-c", shown(found)]
    return shlex.join(["pip", "install", *pins, *requirements])


def extra(name: str) -> str:
    """The command that installs one of builder's extras, such as `search`."""
    if (_PACKAGE.parent / "pyproject.toml").is_file():
        return install_command("-e", f"{shown(_PACKAGE.parent)}[{name}]")
    return install_command(f"coreml-builder[{name}]")
