"""What `auto` was found to stand for: the operators in float32, the layers' methods, and everything that was tried."""

from __future__ import annotations

from collections.abc import Iterator

from builder.artifacts.record import AutoResult, BuildRecord, TriedArtifact
from builder.reports.markup import Content, Markup, code, details, element, section, table
from builder.reports.plain import number, size


def chosen(record: BuildRecord) -> Markup | None:
    """The choice, with its evidence."""
    if record.chosen is None:
        return None
    return section("Chosen by measuring", *_parts(record.chosen))


def _parts(found: AutoResult) -> Iterator[Content]:
    yield element("p", f"{found.summary}. It stands beside the artifact as a recipe that chooses nothing.")
    for note in found.notes:
        yield element("p", note, class_="quiet")
    if found.kept:
        rows: list[tuple[Content, ...]] = [
            (code(kept.name), kept.operator, kept.module or "not known", kept.reason) for kept in found.kept
        ]
        yield element("h3", f"In float32 ({len(rows)})")
        yield table(("operator", "type", "module", "why"), rows)
    for name, step in (found.compression or {}).items():
        names = step.get("names") or ["all weights"]
        message = ", ".join(f"{key} {value}" for key, value in step.items() if key != "names")
        yield details(f"{name}: {message}, for {len(names)}", element("p", ", ".join(names), class_="quiet"))
    yield element("h3", f"TriedArtifact ({len(found.tried)})")
    yield table(("what", "size", "checks", "measured"), [_tried(entry) for entry in found.tried])


def _tried(entry: TriedArtifact) -> tuple[Content, ...]:
    values = ", ".join(f"{name} {number(value)}" for name, value in entry.values.items())
    return entry.what, size(entry.bytes), "passed" if entry.passed else "not passed", values
