"""`report.html`: one self-contained page about one build, verdict first; it loads nothing from anywhere."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

from builder.artifacts.record import BuildRecord
from builder.reports import (
    page_chosen,
    page_costs,
    page_devices,
    page_facts,
    page_headroom,
    page_interface,
    page_steps,
    page_verdict,
)
from builder.reports.markup import Markup, element, join, render, section_id
from builder.util.paths import write_atomically

FILE_NAME = "report.html"
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
"""What a browser may load for the page: nothing but what is in it."""


def write_html(record: BuildRecord, folder: Path) -> Path:
    """Write the page into `folder` and return its path."""
    path = folder / FILE_NAME
    write_atomically(path, render_html(record))
    return path


def render_html(record: BuildRecord) -> str:
    """The whole page."""
    title = f"{record.request.recipe} · {record.variant}"
    made = {name: make(record) for name, make in _SECTIONS.items()}
    sections = {name: part for name, part in made.items() if part is not None}
    named = [name for name in sections if name != "Devices" or record.devices]
    links = [element("a", name, href=f"#{section_id(name)}") for name in named]
    style = files("builder.reports").joinpath("report.css").read_text(encoding="utf-8")
    head = join(
        Markup(html='<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'),
        Markup(html='<meta name="color-scheme" content="light dark">'),
        Markup(html=f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'),
        Markup(html='<link rel="icon" href="data:,">'),
        element("title", title),
        element("style", Markup(html=style)),
    )
    body = join(
        page_verdict.header(record),
        element("nav", *links, aria_label="Parts of this page"),
        element("main", *sections.values()),
        _footer(record),
    )
    return f'<!doctype html>\n<html lang="en">\n<head>{render(head)}</head>\n<body>{render(body)}</body>\n</html>\n'


def _footer(record: BuildRecord) -> Markup:
    return element("footer", f"A build of {record.started}. What this page says is in build.json too, for tools.")


_SECTIONS = {
    "Checks": page_verdict.checks,
    "Seen by both models": page_verdict.pictures,
    "Inputs and outputs": page_interface.interface,
    "Call it from Swift": page_interface.swift,
    "Bytes": page_facts.weight,
    "Operators": page_facts.operators,
    "Costs": page_costs.costs,
    "Devices": lambda record: page_devices.place(record.devices),
    "Headroom": page_headroom.headroom,
    "Neural Engine": page_facts.neural_engine,
    "Substitutions": page_facts.substitutions,
    "Compression": page_steps.compression,
    "Chosen by measuring": page_chosen.chosen,
    "Lowerings of the builder's own": page_facts.lowerings,
    "Stages": page_facts.stages,
    "Recipe as composed": page_facts.recipe,
    "Provenance": page_facts.provenance,
}
"""By title, in the order of the page; one that has nothing to say is left out."""
