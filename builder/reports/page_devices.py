"""Measurements on devices, on the page: each unit's times, memory, placement and how far its outputs are off.

A measurement comes after the build: the page has a place for it, which `fill` fills in a page that is there already.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from builder.artifacts.devices import UNITS, DeviceMeasurement, UnitMeasurement
from builder.reports.markup import Content, Markup, element, render, section, table
from builder.reports.plain import duration, number, size

_BEGIN, _END = "<!--devices-->", "<!--/devices-->"
_HEAD = ("units", "prediction", "95 in 100 below", "load", "again", "memory", "operators on", "against the runtime")


def place(devices: Sequence[DeviceMeasurement]) -> Markup:
    """The section between marks; nothing between them where no device measured."""
    return Markup(html=f"{_BEGIN}{_section(devices)}{_END}")


def fill(page: str, devices: Sequence[DeviceMeasurement]) -> str:
    """A page with this section in its place. ValueError where the page has none: another version wrote it."""
    if _BEGIN not in page or _END not in page:
        raise ValueError("the page has no place for measurements")
    return re.sub(f"{_BEGIN}.*?{_END}", lambda _: render(place(devices)), page, count=1, flags=re.S)


def _section(devices: Sequence[DeviceMeasurement]) -> str:
    parts = [part for device in devices for part in _device(device)]
    return render(section("Devices", *parts)) if parts else ""


def _device(device: DeviceMeasurement) -> Iterator[Markup]:
    yield element("h3", f"{device.model} ({device.chip}, {device.system})")
    if device.stand_in:
        said = "A stand-in answered, builder's own runtime: nothing of this is Core ML's, or a device's."
        yield element("p", said, class_="notice")
    yield table(_HEAD, [_row(name, measured) for name, measured in device.units.items()])
    for unit, reason in device.failed.items():
        yield _quiet(f"{UNITS[unit]} could not be measured: {reason}")
    for unit, measured in device.units.items():
        if measured.placement is None:
            yield _quiet(f"Where operators run on {UNITS[unit]} is not known: {measured.placement_reason or 'no plan'}")
            break
    rounds = min((measured.rounds for measured in device.units.values()), default=0)
    tools = ", ".join(f"{name} {version}" for name, version in sorted(device.tools.items()))
    yield _quiet(
        f"Measured {device.started}, {tools}: the median of {rounds} predictions; memory is that of the whole process. "
        f"Outputs were compared on {device.samples} inputs with what builder's runtime computes of this artifact."
    )


def _row(name: str, found: UnitMeasurement) -> tuple[Content, ...]:
    worst = min((each["snr_db"] for each in found.differences.values() if "snr_db" in each), default=None)
    placed = ", ".join(f"{unit} {count}" for unit, count in (found.placement or {}).items() if count)
    return (
        UNITS[name],
        _number(milliseconds(found.latency_ms)),
        _number(milliseconds(found.latency_p95_ms)),
        _number(milliseconds(found.load_cold_ms)),
        _number(milliseconds(found.load_warm_ms)),
        _number(size(found.peak_bytes)),
        placed or "not known",
        _number("the same" if worst is None or worst == float("inf") else f"{number(worst)} dB"),
    )


def milliseconds(value: float) -> str:
    """A time as people read it."""
    return f"{value:.3g} ms" if value < 1000 else duration(value / 1000)


def _number(text: str) -> Markup:
    return element("span", text, class_="number")


def _quiet(text: str) -> Markup:
    return element("p", text, class_="quiet")
