"""The compress stage for `.aimodel`: the recipe's steps in their order, with what was left alone and why."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

from builder.artifacts.stages import CompressedModel, CompressionEffect, ConvertedModel, Preprocessing
from builder.backends.coreai.archive import Asset, Between
from builder.backends.coreai.compression.compress import Compressed
from builder.backends.coreai.compression.compress import compress as compress_asset
from builder.backends.coreai.feeds import feeds
from builder.data import draw_samples
from builder.progress import Progress
from builder.spec import BuildSpec
from builder.spec.compression import ProgramCompression, QuantizeActivations


def compress(
    converted: ConvertedModel, spec: BuildSpec, progress: Progress, *, published: Preprocessing | None = None
) -> CompressedModel:
    """Apply the steps on the program in order; `published` is how the weights say that pictures are prepared."""
    steps = spec.program_compression
    if not steps:
        return CompressedModel(model=converted.model, summary="none")
    folder = Path(tempfile.mkdtemp(prefix="builder-coreai-"))
    results = compress_asset(converted.model.path, folder, steps, _samples(spec, published))
    holder = Asset(results[-1].asset, folder, converted.model.known)
    for layer in (layer for result in results for layer in result.skipped):
        progress.detail(f"compression {layer.step} left {layer.name} as it was: {layer.reason}")
    between = []
    for result in results[:-1]:
        apart = Path(tempfile.mkdtemp(prefix="builder-coreai-"))
        moved = Path(shutil.move(result.asset, apart / "model.aimodel"))
        between.append(Between(Asset(moved, apart, converted.model.known)))
    return CompressedModel(
        model=holder,
        effects=tuple(
            CompressionEffect(name=name, kind=step.kind, stage="compress", changed=result.changed)
            for (name, step), result in zip(steps.items(), results, strict=True)
        ),
        skipped=tuple(layer for result in results for layer in result.skipped),
        summary=", ".join(
            _summary(name, step, result) for (name, step), result in zip(steps.items(), results, strict=True)
        ),
        between=tuple(between),
    )


def _samples(spec: BuildSpec, published: Preprocessing | None) -> dict[str, list[dict[str, Any]]]:
    """The calibration data of each step that has some, as the function takes it."""
    found = {}
    for name, step in spec.program_compression.items():
        if isinstance(step, QuantizeActivations):
            assert not isinstance(step.data, str), "named data stands in the places that refer to it"
            key = f"compression.{name}.data"
            drawn = draw_samples(step.data, spec.artifact_inputs, step.samples, spec.seed, published=published, key=key)
            found[name] = [feeds(sample, spec) for sample in drawn]
    return found


def _summary(name: str, step: ProgramCompression, result: Compressed) -> str:
    changed, skipped = len(result.changed), len(result.skipped)
    noun = "operator" if isinstance(step, QuantizeActivations) else "weight"
    left = f" ({skipped} left as they were)" if skipped else ""
    return f"{name}: {changed} {noun}{'s' if changed != 1 else ''}{left}"
