"""The key of a stage: a digest over everything that can change its result, and nothing else."""

from __future__ import annotations

import hashlib
import json
import platform
import sys
from collections.abc import Mapping, Sequence
from importlib import metadata
from typing import Any

from builder import __version__
from builder.spec import BuildSpec

TOOLS = ("torch", "torchvision", "coremltools", "numpy", "protobuf", "scikit-learn", "pillow")
"""Packages whose version can change an artifact."""

READS: Mapping[str, tuple[str, ...]] = {
    "load": ("source", "input", "seed"),
    "prepare": ("input", "output", "classifier", "substitutions", "seed"),
    "capture": ("capture",),
    "convert": ("input", "output", "classifier", "precision", "target", "format"),
    "compress": ("compression",),
    "seal": ("metadata", "format"),
    "verify": ("checks", "input", "seed"),
}
"""The part of the spec that each stage reads; tracking is in none."""

VERSIONS: Mapping[str, int] = dict.fromkeys(READS, 1)
"""The version of each stage's own code: raised when it gives another result for the same inputs."""


def tool_versions() -> dict[str, str]:
    """Versions of Python, of ourselves and of every tool, without importing any of them."""
    found = {"python": platform.python_version(), "builder": __version__, "platform": platform.platform()}
    for name in TOOLS:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "missing"
    return found


def stage_key(stage: str, spec: BuildSpec, inputs: Sequence[str]) -> str:
    """`sha256:` over the stage, its version, what it reads of the spec, its inputs' digests, tools and processor."""
    versions = {name: v for name, v in tool_versions().items() if name not in ("platform", "python")}
    read = spec.model_dump(mode="json", by_alias=True, include=set(READS[stage]))
    return digest_of(
        {
            "stage": stage,
            "version": VERSIONS[stage],
            "spec": read,
            "inputs": list(inputs),
            "tools": versions,
            "python": list(sys.version_info[:2]),
            "processor": platform.machine(),
        }
    )


def digest_of(value: Any) -> str:
    """`sha256:` over the canonical JSON of plain values."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"
