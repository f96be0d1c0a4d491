"""Check reports as the store keeps them: plain values, and pictures as objects."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from builder.artifacts import CheckedPicture, CheckReport
from builder.stages.ledger import Packed, Packing, Stage


def pack_reports(reports: tuple[CheckReport, ...], packing: Packing) -> Packed:
    """Store the pictures, and return the rest as plain values."""
    objects: dict[str, str] = {}
    checks = []
    for number, report in enumerate(reports):
        pictures = []
        for index, picture in enumerate(report.pictures):
            name = f"picture {number}.{index}"
            objects[name] = packing.objects.put_bytes(picture.png)
            pictures.append({**asdict(picture), "png": name})
        checks.append({**asdict(report), "pictures": pictures})
    return Packed(output=packing.key, record={"checks": checks}, objects=objects)


def unpack_reports(stage: Stage[tuple[CheckReport, ...]]) -> tuple[CheckReport, ...]:
    """The reports as they were packed."""
    return tuple(
        CheckReport(**{**entry, "pictures": tuple(_picture(picture, stage) for picture in entry["pictures"])})
        for entry in stage.record["checks"]
    )


def _picture(entry: Mapping[str, Any], stage: Stage[tuple[CheckReport, ...]]) -> CheckedPicture:
    tops = {name: tuple((label, value) for label, value in entry[name]) for name in ("reference_top", "artifact_top")}
    png = stage.objects.read_bytes(stage.action.objects[entry["png"]])
    return CheckedPicture(**{**entry, **tops, "png": png})
