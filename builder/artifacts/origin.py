"""Where a model came from, as `build.json` has it under `source` and the store holds it."""

from __future__ import annotations

from typing import Required

from pydantic import ConfigDict, with_config
from typing_extensions import TypedDict

_Class = TypedDict("_Class", {"class": str}, total=False)


@with_config(ConfigDict(extra="allow"))
class SourceOrigin(_Class, total=False):
    """The kind of the source, and what that kind knows: names, digests, versions; `class` is transformers' own."""

    factory: str | None
    file: str | None
    """The file's name alone, or that of the folder."""
    file_sha256: str
    format: str
    kind: Required[str]
    missing: list[str]
    """Parameters and buffers that a checkpoint does not have."""
    name: str | None
    onnxruntime: str
    opset: int
    part: str
    revision: str | None
    seed: int
    seeded: bool
    timm: str
    transformers: str
    unknown: list[str]
    """Entries of a checkpoint that the model has no place for."""
    weights: str | None
    weights_digest: str
    weights_url: str
