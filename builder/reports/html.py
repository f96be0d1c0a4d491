"""`report.html`: one self-contained page about one build, verdict first; it loads nothing from anywhere."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

from builder.artifacts import BuildRecord
from builder.paths import write_atomically
from builder.reports import page_facts, page_verdict
from builder.reports.markup import Markup, element, join, render

FILE_NAME = "report.html"


def write_html(record: BuildRecord, folder: Path) -> Path:
    """Write the page into `folder` and return its path."""
    path = folder / FILE_NAME
    write_atomically(path, render_html(record))
    return path


def render_html(record: BuildRecord) -> str:
    """The whole page."""
    title = f"{record.request.recipe} · {record.variant}"
    sections = [part for part in (make(record) for make in _SECTIONS) if part is not None]
    style = files("builder.reports").joinpath("report.css").read_text(encoding="utf-8")
    head = join(
        Markup(html='<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'),
        Markup(html='<meta name="color-scheme" content="light dark">'),
        element("title", title),
        element("style", Markup(html=style)),
    )
    body = join(page_verdict.header(record), element("main", *sections), _footer(record))
    return f'<!doctype html>\n<html lang="en">\n<head>{render(head)}</head>\n<body>{render(body)}</body>\n</html>\n'


def _footer(record: BuildRecord) -> Markup:
    return element("footer", f"A build of {record.started}. What this page says is in build.json too, for tools.")


_SECTIONS = (
    page_verdict.checks,
    page_verdict.pictures,
    page_facts.interface,
    page_facts.swift,
    page_facts.weight,
    page_facts.operators,
    page_facts.substitutions,
    page_facts.lowerings,
    page_facts.stages,
    page_facts.recipe,
    page_facts.provenance,
)
