"""Check reports as the store keeps them: plain values, and pictures as objects."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from builder.artifacts import CheckedOutput, CheckedPicture, CheckReport
from builder.artifacts.headroom import headroom_of
from builder.engine.runner import Packed, Packing, Stage

_SIDES = ("reference_png", "artifact_png")


def pack_reports(reports: tuple[CheckReport, ...], packing: Packing) -> Packed:
    """Store the pictures, and return the rest as plain values."""
    objects: dict[str, str] = {}
    checks = []
    for number, report in enumerate(reports):
        pictures = []
        for index, picture in enumerate(report.pictures):
            name = f"picture {number}.{index}"
            objects[name] = packing.objects.put_bytes(picture.png)
            outputs = [_pack_output(output, f"{name} {output.name}", objects, packing) for output in picture.outputs]
            pictures.append({**asdict(picture), "png": name, "outputs": outputs})
        worst = None if report.worst_input is None else f"worst input {number}"
        if worst is not None and report.worst_input is not None:
            objects[worst] = packing.objects.put_bytes(report.worst_input)
        checks.append({**asdict(report), "pictures": pictures, "worst_input": worst})
    return Packed(output=packing.key, record={"checks": checks}, objects=objects)


def unpack_reports(stage: Stage[tuple[CheckReport, ...]]) -> tuple[CheckReport, ...]:
    """The reports as they were packed."""
    return tuple(_report(entry, stage) for entry in stage.record["checks"])


def _report(entry: Mapping[str, Any], stage: Stage[tuple[CheckReport, ...]]) -> CheckReport:
    pictures = tuple(_picture(picture, stage) for picture in entry["pictures"])
    named = entry["worst_input"]
    worst = None if named is None else stage.objects.read_bytes(stage.action.objects[named])
    headroom = None if entry["headroom"] is None else headroom_of(entry["headroom"])
    return CheckReport(**{**entry, "pictures": pictures, "worst_input": worst, "headroom": headroom})


def _pack_output(output: CheckedOutput, name: str, objects: dict[str, str], packing: Packing) -> dict[str, Any]:
    """An output as plain values; its pictures become objects, named in their place."""
    packed = asdict(output)
    for side in _SIDES:
        if packed[side] is not None:
            objects[f"{name} {side}"] = packing.objects.put_bytes(packed[side])
            packed[side] = f"{name} {side}"
    return packed


def _output(entry: Mapping[str, Any], stage: Stage[tuple[CheckReport, ...]]) -> CheckedOutput:
    named = {side: stage.stored(entry[side]) for side in _SIDES if entry[side] is not None}
    return CheckedOutput(**{**entry, **{side: stage.objects.read_bytes(digest) for side, digest in named.items()}})


def _picture(entry: Mapping[str, Any], stage: Stage[tuple[CheckReport, ...]]) -> CheckedPicture:
    tops = {name: tuple((label, value) for label, value in entry[name]) for name in ("reference_top", "artifact_top")}
    png = stage.objects.read_bytes(stage.stored(entry["png"]))
    outputs = tuple(_output(output, stage) for output in entry["outputs"])
    return CheckedPicture(**{**entry, **tops, "png": png, "outputs": outputs})
