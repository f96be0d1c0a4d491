"""The key of a stage: a digest over everything that can change its result, and nothing else."""

from __future__ import annotations

import platform
from collections.abc import Iterable, Mapping

from builder import __version__
from builder.store.digests import digest_of
from builder.store.versions import installed_version

TOOLS = ("torch", "torchvision", "coremltools", "numpy", "protobuf", "scikit-learn", "pillow")
"""Packages whose version every record names."""


def tool_versions(packages: Iterable[str] = ()) -> dict[str, str]:
    """Versions of Python, of ourselves, of every tool and of these packages, without importing any of them."""
    found = {"python": platform.python_version(), "builder": __version__, "platform": platform.platform()}
    return found | {name: installed_version(name) for name in (*TOOLS, *packages)}


def stage_key(stage: str, inputs: Mapping[str, object]) -> str:
    """`sha256:` over the stage and all its inputs, by label (see `builder.store.inputs`)."""
    return digest_of({"stage": stage, "inputs": dict(inputs)})
