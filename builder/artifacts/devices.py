"""What was measured of an artifact on a device; never an estimate."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from builder.util import paths
from builder.util.reading import read_json

if TYPE_CHECKING:  # the shell's completion imports the types, and reads none
    from pydantic import TypeAdapter

SCHEMA: Literal[1] = 1
MEASURES = ("latency_ms", "latency_p95_ms", "load_cold_ms", "load_warm_ms", "peak_bytes")
UNITS = {"cpu": "CPU", "gpu": "CPU and GPU", "ane": "CPU and Neural Engine", "all": "all"}
"""The compute units that Core ML was allowed, by their short name."""


@dataclass(frozen=True, kw_only=True)
class UnitMeasurement:
    """What one choice of compute units took."""

    latency_ms: float
    """The median of one prediction."""
    latency_p95_ms: float
    rounds: int
    """How many predictions were timed."""
    load_cold_ms: float
    """The first load in a new process."""
    load_warm_ms: float
    """The second one in the same process."""
    peak_bytes: int
    """Of the whole process, Python and coremltools included."""
    placement: Mapping[str, int] | None = None
    """How many operators Core ML's compute plan puts on each processor; None where that is not known."""
    placement_reason: str = ""
    """Why it is not."""
    differences: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    """By output, how far the device is from what the runtime computes: SNR, largest difference."""


@dataclass(frozen=True, kw_only=True)
class DeviceMeasurement:
    """What one device measured of one artifact."""

    artifact: str
    """The digest of the artifact."""
    model: str
    """Apple's identifier: `Mac15,9`, `iPhone16,2`."""
    chip: str
    system: str
    tools: Mapping[str, str]
    started: str
    """UTC, ISO 8601."""
    samples: int
    """How many golden inputs its outputs were compared on."""
    units: Mapping[str, UnitMeasurement]
    failed: Mapping[str, str] = field(default_factory=dict)
    """By unit, why it could not be measured."""
    stand_in: bool = False
    """Whether builder's own runtime answered in the place of a device: then nothing of this is a device's."""


def figures(device: DeviceMeasurement | Mapping[str, object]) -> dict[str, float]:
    """The numbers by name: `iPhone16,2.ane.latency_ms`; none of a stand-in."""
    found = device if isinstance(device, DeviceMeasurement) else _adapter().validate_python(device)
    if found.stand_in:
        return {}
    return {
        f"{found.model}.{unit}.{name}": float(getattr(measured, name))
        for unit, measured in found.units.items()
        for name in MEASURES
    }


@cache
def _adapter() -> TypeAdapter[DeviceMeasurement]:
    from pydantic import TypeAdapter

    return TypeAdapter(DeviceMeasurement)


def measurement_file(outputs: Path, artifact: str, model: str) -> Path:
    """Where the measurement of an artifact by a device is kept: by digest, so that a build of the same bytes has it."""
    name = "".join(each if each.isalnum() or each in ",-_" else "_" for each in model)
    return paths.devices_folder(outputs) / artifact.removeprefix("sha256:") / f"{name or '_'}.json"


def write_measurement(found: DeviceMeasurement, outputs: Path) -> Path:
    """Keep a measurement, in the place of an earlier one by the same model."""
    file = measurement_file(outputs, found.artifact, found.model)
    file.parent.mkdir(parents=True, exist_ok=True)
    document = {"schema": SCHEMA, **_adapter().dump_python(found, mode="json")}
    paths.write_atomically(file, json.dumps(document, indent=1, ensure_ascii=False) + "\n")
    return file


def read_measurements(outputs: Path, artifact: str) -> tuple[DeviceMeasurement, ...]:
    """What devices measured of the artifact of a digest. Raises ValueError, which names a file that is damaged."""
    folder = measurement_file(outputs, artifact, "").parent
    return tuple(_read(file) for file in sorted(folder.glob("*.json")))


def _read(file: Path) -> DeviceMeasurement:
    try:
        document = read_json(file)
        if not isinstance(document, dict) or document.pop("schema", None) != SCHEMA:
            raise ValueError("it is of another version")
        return _adapter().validate_python(document)
    except ValueError as error:  # pydantic's ValidationError is one
        raise ValueError(f"{file}: {str(error).splitlines()[0]}") from error
