"""The compress stage for `.aimodel`: the recipe's steps in their order, with what was left alone and why."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from builder.artifacts.stages import CompressedModel, CompressionEffect, ConvertedModel
from builder.backends.coreai.archive import Asset, Between
from builder.backends.coreai.compression.compress import compress as compress_asset
from builder.progress import Progress
from builder.spec import BuildSpec
from builder.spec.compression import WeightCompression


def compress(converted: ConvertedModel, spec: BuildSpec, progress: Progress) -> CompressedModel:
    """Apply the recipe's steps on the program in their order."""
    steps: dict[str, WeightCompression] = {
        name: step for name, step in spec.program_compression.items() if isinstance(step, WeightCompression)
    }
    if not steps:
        return CompressedModel(model=converted.model, summary="none")
    folder = Path(tempfile.mkdtemp(prefix="builder-coreai-"))
    results = compress_asset(converted.model.path, folder, steps)
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
            _said(name, len(result.changed), len(result.skipped)) for name, result in zip(steps, results, strict=True)
        ),
        between=tuple(between),
    )


def _said(name: str, changed: int, skipped: int) -> str:
    left = f" ({skipped} left as they were)" if skipped else ""
    return f"{name}: {changed} weight{'s' if changed != 1 else ''}{left}"
