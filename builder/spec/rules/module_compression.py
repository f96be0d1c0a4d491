"""Which compression of the PyTorch model cannot work: with the target, the format, the source or the way to capture."""

from __future__ import annotations

from collections.abc import Iterator

from builder.errors import Diagnostic
from builder.spec import BuildSpec
from builder.spec.compression_kinds import compression_kind
from builder.spec.module_compression import (
    MagnitudePrune,
    ModuleCompression,
)
from builder.spec.problems import Path, needs
from builder.spec.source_kinds import kind_of
from builder.spec.target import FORMATS


def module_compression_problems(spec: BuildSpec) -> Iterator[Diagnostic]:
    """Yield what is wrong with the steps that change the PyTorch model, each with the change that would help."""
    for name, step in spec.module_compression.items():
        path = ("compression", name)
        yield from _settings(path, step)
        if not spec.format_kind.is_program:
            yield Diagnostic(
                code="B0242",
                path=path,
                message=f"{step.kind} is for ML programs, and the format is mlmodel",
                hint="write `format: mlpackage` with target ios16 or later",
            )
        else:
            yield from needs(spec.target, path, f"compression {name}", compression_kind(step).minimum_generation(step))
        if not kind_of(spec.source).has_modules:
            yield Diagnostic(
                code="B0253",
                path=path,
                message=f"{step.kind} compresses PyTorch modules, and a source of kind {spec.source.kind} has none",
                hint="compress the converted program instead: linear_quantize, palettize or prune",
            )
        elif spec.capture.method not in ("auto", *(FORMATS[spec.format].capture_methods or ("trace",))):
            yield Diagnostic(
                code="B0253",
                path=("capture", "method"),
                message=f"what {step.kind} makes is carried over by traced programs alone",
                hint="write `method: trace`, or leave it out",
            )


def _settings(path: Path, step: ModuleCompression) -> Iterator[Diagnostic]:
    pairs = {"block_size": ("granularity", "per_block"), "group_size": ("granularity", "per_grouped_channel")}
    for key, (setting, value) in pairs.items():
        if getattr(step, key, None) is not None and getattr(step, setting) != value:
            yield Diagnostic(code="B0253", path=(*path, key), message=f"{key} means nothing without {setting}: {value}")
    if isinstance(step, MagnitudePrune):
        if step.n_m_ratio is not None and step.n_m_ratio[0] >= step.n_m_ratio[1]:
            n, m = step.n_m_ratio
            yield Diagnostic(
                code="B0253", path=(*path, "n_m_ratio"), message=f"zeros are n of every m, and {n} is not less than {m}"
            )
        if step.training is None and step.update_steps != [0]:
            yield Diagnostic(
                code="B0253",
                path=(*path, "update_steps"),
                message="without training there are no steps",
                hint="name the function that trains: `training: package.module:function`",
            )
