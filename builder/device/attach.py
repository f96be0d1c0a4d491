"""Attaches a measurement to its build: kept by the artifact's digest, and in `build.json`, the report and MLflow."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from builder.artifacts.devices import DeviceMeasurement, figures, read_measurements, write_measurement
from builder.device.pack import Subject
from builder.progress import Progress
from builder.reports import build_json, html
from builder.reports.page_devices import fill
from builder.reports.plain import plain
from builder.spec.tracking import MlflowTracking
from builder.tracking import track_run
from builder.tracking.run import TrackedRun, config_params, metric_key
from builder.util import paths
from builder.util.text import visible_json

if TYPE_CHECKING:
    from builder.util.reading import JsonObject


def attach(
    found: DeviceMeasurement, subject: Subject, document: Mapping[str, object], outputs: Path, progress: Progress
) -> Path:
    """Write it down everywhere, and return the file that keeps it; builds of the same bytes have it from now on."""
    folder = subject.artifact.parent
    with paths.held(outputs, subject.recipe, subject.variant):
        kept = write_measurement(found, outputs)
        devices = read_measurements(outputs, subject.digest)
        _rewrite(folder / build_json.FILE_NAME, devices)
        page = folder / html.FILE_NAME
        if page.is_file():
            paths.write_atomically(page, fill(page.read_text(encoding="utf-8"), devices))
    tracking = subject.spec.tracking
    if isinstance(tracking, MlflowTracking) and not found.stand_in:
        track_run(_run(found, subject, document), tracking, files=[kept], outputs=outputs, progress=progress)
    return kept


def _rewrite(file: Path, devices: Sequence[DeviceMeasurement]) -> None:
    document = json.loads(file.read_text(encoding="utf-8"))
    document["devices"] = plain(devices)
    text = visible_json(json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False))
    paths.write_atomically(file, text + "\n")


def _run(found: DeviceMeasurement, subject: Subject, document: JsonObject) -> TrackedRun:
    """A run of its own, found by the artifact's digest: the build's run ended when the build did."""
    now = round(time.time() * 1000)
    tags = {
        "recipe": subject.recipe,
        "variant": subject.variant,
        "artifact.digest": subject.digest,
        "key": str(document.get("key", "")),
        "device": found.model,
        "device.chip": found.chip,
        "device.system": found.system,
        "checks": "passed",
    }
    return TrackedRun(
        name=f"{subject.recipe}/{subject.variant} on {found.model}",
        status="FINISHED",
        started_ms=now,
        ended_ms=now,
        params=config_params(document["config"]),
        metrics={metric_name(name): value for name, value in figures(found).items()},
        tags={name: value for name, value in tags.items() if value},
    )


def metric_name(figure: str) -> str:
    """`iPhone16,2.ane.latency_ms` as MLflow takes it, which has no commas in names."""
    return "/".join(["device", *(metric_key(part) for part in figure.split("."))])
