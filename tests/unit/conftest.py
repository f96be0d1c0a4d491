"""A build record that is complete enough for every report: what the unit tests of reports and tracking share."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from builder.artifacts.checks import CheckReport
from builder.artifacts.record import BuildRecord, LayerWeights, StageReport
from builder.artifacts.stages import (
    BuildRequest,
    CompressionEffect,
    Conversion,
    SealedPackage,
    SkippedLayer,
    SubstitutionEffect,
    UsedLowering,
)
from builder.spec import BuildSpec

CONFIG: dict[str, Any] = {
    "schema": 1,
    "source": {"kind": "torchvision", "name": "mobilenet_v2", "weights": "IMAGENET1K_V2", "offline": "seeded"},
    "input": {
        "image": {
            "kind": "image",
            "shape": [1, 3, 224, 224],
            "mean": [0.485, 0.456, 0.406],
            "std": [0.229, 0.224, 0.225],
        }
    },
    "output": {},
    "classifier": {"labels": ["tabby", "golden retriever", "espresso"]},
    "substitutions": {"relu6": {"kind": "relu6_to_relu"}},
    "precision": {"kind": "fp16"},
    "compression": {"palettize": {"kind": "palettize", "nbits": 6}},
    "target": {"name": "ios16"},
    "format": "mlpackage",
    "checks": {"parity": {"kind": "parity", "snr_db": {"min": 30.0}}},
    "tracking": {"kind": "mlflow"},
}

CHECKS = (
    CheckReport(
        name="structure", kind="structure", engine="none", values={"bytes": 6_912_345, "operators": 218},
        limits={"bytes": {"max": 8_000_000}}, passed=True,
    ),
    CheckReport(
        name="capture", kind="capture", engine="none",
        values={"probabilities": {"max_abs": 0.0, "snr_db": math.inf}},
        limits={"max_abs": {"max": 1e-4}}, passed=True, samples=3,
    ),
    CheckReport(
        name="parity", kind="parity", engine="runtime",
        values={"probabilities": {"snr_db": 48.31234, "max_abs": 0.00213, "cosine": 0.99999}},
        limits={"snr_db": {"min": 30.0}, "max_abs": {"max": 0.01}}, passed=True, samples=4,
        data={
            "kind": "photographs", "samples": 4, "digest": "sha256:5a", "description": "4 photographs", "synthetic": [],
            "stress": 7, "search": {"tries": 1234, "seconds": 10.0},
        },
    ),
    CheckReport(
        name="accuracy", kind="accuracy", engine="none", values={}, limits={"drop": {"max": 0.01}}, passed=None,
        reason="the data has no labels that the model knows",
    ),
)  # fmt: skip


def _record(outputs: Path) -> BuildRecord:
    request = BuildRequest(
        recipe="mobilenet_v2_fp16",
        variant="default",
        spec=BuildSpec.model_validate(CONFIG),
        overrides=(),
        config=CONFIG,
        origins={
            "source.name": "recipes/mobilenet_v2_fp16.yaml:12:9",
            "precision.kind": "conf/precision/fp16.yaml:2:7",
        },
    )
    folder = outputs / "mobilenet_v2_fp16" / "default"
    return BuildRecord(
        request=request,
        variant="default",
        status="built",
        key="1f" * 32,
        artifact=SealedPackage(
            path=folder / "mobilenet_v2_fp16.mlpackage",
            format="mlpackage",
            digest="sha256:" + "ab" * 32,
            size_bytes=6_912_345,
            semantic_digest="sha256:" + "cd" * 32,
        ),
        stages=(
            StageReport(name="load", key="a" * 64, cached=True, seconds=0.01, result="mobilenet_v2, 14.2 MB"),
            StageReport(
                name="convert", key="b" * 64, cached=False, seconds=6.4321, result="218 operators, iOS16, fp16"
            ),
        ),
        checks=CHECKS,
        inputs=({"name": "image", "kind": "image", "width": 224, "height": 224, "color_layout": "RGB"},),
        outputs=(
            {"name": "classLabel", "kind": "string"},
            {"name": "classLabel_probs", "kind": "dictionary"},
        ),
        functions={},
        source={"kind": "torchvision", "name": "mobilenet_v2", "weights": "IMAGENET1K_V2", "digest": "sha256:77"},
        substitutions=(
            SubstitutionEffect(
                name="relu6", kind="relu6_to_relu", exact=False, replaced=("features.0.2",), max_abs=0.021, snr_db=33.0
            ),
        ),
        lowerings=(UsedLowering(operator="diff", why="coremltools has none", times=2),),
        compression=(
            CompressionEffect(
                name="gptq",
                kind="gptq",
                stage="prepare",
                changed=("head",),
                max_abs=0.01,
                snr_db=24.0,
                alone={"probabilities": {"max_abs": 0.01, "snr_db": 24.0}},
                so_far={"probabilities": {"max_abs": 0.01, "snr_db": 24.0}},
                engine="pytorch",
                samples=3,
            ),
            CompressionEffect(
                name="palettize",
                kind="palettize",
                stage="compress",
                changed=("a", "b"),
                max_abs=0.02,
                snr_db=31.5,
                alone={"probabilities": {"max_abs": 0.02, "snr_db": 31.5}},
                so_far={"probabilities": {"max_abs": 0.03, "snr_db": 22.25}},
                engine="runtime",
                samples=4,
            ),
        ),
        conversion=Conversion(outputs={"probabilities": {"max_abs": 0.011, "snr_db": 23.9}}, samples=4),
        skipped_layers=(SkippedLayer(step="palettize", name="classifier.1.bias", reason="fewer than 2048 values"),),
        op_counts={"conv": 52, "clip": 35, "add": 10, "linear": 1},
        capture={"method": "trace", "failures": {}},
        versions={"torch": "2.13.0", "coremltools": "9.0"},
        git={"commit": "0" * 40, "dirty": False},
        started="2026-01-02T03:04:05Z",
        seconds=12.345,
        source_bytes=14_200_000,
        labels=("tabby", "golden retriever", "espresso"),
        weights=(LayerWeights(name="classifier.1.weight", bytes=960_000), LayerWeights(name="features.0.0", bytes=648)),
    )


@pytest.fixture
def make_record(tmp_path: Path) -> Callable[..., BuildRecord]:
    """A record under `tmp_path/outputs`; keyword arguments replace its fields."""

    def make(**changes: Any) -> BuildRecord:
        return dataclasses.replace(_record(tmp_path / "outputs"), **changes)

    return make


@pytest.fixture
def record(make_record: Callable[..., BuildRecord]) -> BuildRecord:
    """A passing build of a palettised classifier, with one check that could not run."""
    return make_record()
