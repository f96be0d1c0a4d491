"""The head of the page: what is known of the artifact, by which checks, and on which pictures."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator

from builder.artifacts import BuildRecord, CheckedPicture, CheckReport
from builder.reports.markup import Content, Markup, bars, details, element, facts, join, section, table
from builder.reports.plain import bounds, duration, leaves, plain, size, value_text
from builder.reports.verdict import engine, failed, headline, measurements, outcome, seeded_notice, verdict
from builder.spec.compression import Palettize

_CLASSES = {"passed": "good", "failed": "bad", "not proven": "unknown"}
_CLAIMS = {
    "parity": "It computes what the original computes",
    "accuracy": "It classifies labelled data as well as its limits demand",
}
"""What a passed check of each kind proves, the strongest first."""
_EXECUTED = {"coreml": "Apple's Core ML", "runtime": "builder's own Core ML runtime"}


def header(record: BuildRecord) -> Markup:
    """The verdict in words, notices that nobody may overlook, and the figures people ask for first."""
    word, tone, sentence = _verdict(record)
    return element(
        "header",
        element("p", record.request.recipe, element("span", record.variant, class_="variant"), class_="name"),
        element("h1", element("span", word, class_=f"badge {tone}"), " ", sentence),
        *(element("p", notice, class_="notice") for notice in _notices(record)),
        facts(_figures(record), class_="figures"),
    )


def checks(record: BuildRecord) -> Markup:
    """Every check with what executed the artifact, its values and its limits."""
    if not record.checks:
        return section("checks", "Checks", element("p", "No check was asked for.", class_="notice"))
    return section("checks", "Checks", *(_check(check) for check in record.checks))


def pictures(record: BuildRecord) -> Markup | None:
    """The pictures that were checked, with what both models said."""
    shown = [_picture(picture) for check in record.checks for picture in check.pictures]
    if not shown:
        return None
    return section("pictures", "Seen by both models", element("div", *shown, class_="pictures"))


def _verdict(record: BuildRecord) -> tuple[str, str, str]:
    missed = failed(record)
    if missed:
        names = ", ".join(check.name for check in missed)
        return "Broken", "bad", f"{names} missed the limit. Do not ship this artifact."
    executed = [check for check in record.checks if check.engine in _EXECUTED and check.values]
    proved = [check for check in executed if check.passed]
    for kind, claim in _CLAIMS.items():
        found = [check for check in proved if check.kind == kind]
        if found:
            samples = max(check.samples or 0 for check in found)
            on = f" on {samples} sample{'s' if samples != 1 else ''}" if samples else ""
            by = " and ".join(dict.fromkeys(_EXECUTED[check.engine] for check in found))
            return "Built", "good", f"{claim}, executed{on} by {by}."
    if executed:
        return "Built", "unknown", "It was executed, but what it computes is not proven: see the checks."
    return "Built", "unknown", "Nothing executed this artifact: what it computes is not proven."


def _notices(record: BuildRecord) -> Iterator[str]:
    notice = seeded_notice(record)
    if notice:
        yield notice
    if any(isinstance(step, Palettize) and step.nbits == 4 for step in record.request.spec.compression.values()):
        yield (
            "4-bit palettised models are reported to be wrong or to crash on some Neural Engines "
            "(apple/coremltools#2716, open): try this one on the devices that you support."
        )
    if record.request.spec.target.name.startswith("visionos"):
        made_for = record.request.spec.target.coremltools_name
        yield f"coremltools has no visionOS target: the artifact was made for {made_for}, which has the same format."


def _figures(record: BuildRecord) -> Iterator[tuple[str, Content]]:
    spec, artifact = record.request.spec, record.artifact
    yield "Size", size(artifact.size_bytes)
    if record.source_bytes:
        share = 100 * artifact.size_bytes / record.source_bytes
        yield "Against the source", f"{share:.0f} % of {size(record.source_bytes)}"
    yield "Precision", spec.precision.kind
    yield "Compression", ", ".join(spec.compression) or "none"
    yield "Oldest system", spec.target.name
    yield "Format", artifact.format
    yield "Checks", outcome(record).partition(": ")[2] or "none"
    yield "Built in", duration(record.seconds)


def _check(check: CheckReport) -> Markup:
    said = verdict(check)
    rows = [
        (m.name, element("span", m.text, class_="number"), _signs(m.limit) or "no limit") for m in measurements(check)
    ]
    return element(
        "article",
        element(
            "h3",
            element("span", said, class_=f"badge {_CLASSES[said]}"),
            " ",
            check.name,
            element("span", engine(check) + (f", {check.samples} samples" if check.samples else ""), class_="engine"),
        ),
        *([element("p", headline(check))] if check.reason else []),
        *([table(("measure", "measured", "limit"), rows, class_="measures")] if rows else []),
        *_by_output(check),
        class_="check",
    )


def _by_output(check: CheckReport) -> Iterator[Markup]:
    values = list(leaves(plain(check.values)))
    if any(isinstance(value, dict) for value in check.values.values()):
        rows = [(name, element("span", _any(name, value), class_="number")) for name, value in values]
        yield details("each output", table(("value", "measured"), rows, class_="measures"))
    missing = [name for name in check.limits if not any(path.rpartition(".")[2] == name for path, _ in values)]
    if missing:
        limits = ", ".join(f"{name} {bounds(check.limits[name], name=name)}" for name in missing)
        yield element("p", f"Not measured, though limited: {limits}", class_="quiet")


def _signs(limit: str) -> str:
    return limit.replace(">=", "≥").replace("<=", "≤")


def _any(name: str, value: object) -> str:
    return json.dumps(value, ensure_ascii=False) if isinstance(value, (list, dict)) else value_text(name, value)


def _picture(picture: CheckedPicture) -> Markup:
    data = base64.b64encode(picture.png).decode("ascii")
    said = f"The picture given to {picture.input}"
    image = Markup(html=f'<img src="data:image/png;base64,{data}" alt="">')
    caption = [said] if picture.label is None else [said, ", labelled ", element("b", picture.label)]
    return element(
        "figure",
        image,
        element("figcaption", *caption),
        _answers("The original", picture.reference_top),
        _answers(f"The artifact ({picture.engine})", picture.artifact_top),
    )


def _answers(who: str, top: tuple[tuple[str, float], ...]) -> Markup:
    if not top:
        return join(element("h4", who), element("p", "was not executed", class_="quiet"))
    probable = all(0 <= score <= 1 for _, score in top)
    rows = [(name, max(score, 0.0), f"{100 * score:.1f} %" if probable else f"{score:.3g}") for name, score in top]
    return join(element("h4", who), bars(rows, label=who, most=1.0 if probable else None))
