"""The head of the page: what is known of the artifact, by which checks, and on which pictures."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from html import escape

from builder.artifacts.checks import CheckedOutput, CheckedPicture, CheckReport
from builder.artifacts.record import BuildRecord
from builder.backends import backend_of
from builder.reports.markup import Content, Markup, bars, code, details, element, facts, join, section, table
from builder.reports.plain import bounds, duration, leaves, plain, size, system_name, value_text
from builder.reports.verdict import (
    engine,
    failed,
    headline,
    made_on,
    measurements,
    outcome,
    seeded_notice,
    synthetic_notice,
)
from builder.spec.check_kinds import CHECKS
from builder.spec.compression import Palettize
from builder.util.text import visible

_CLASSES = {"passed": "good", "failed": "bad", "inconclusive": "unknown", "skipped": "unknown"}
_MEANINGS = {
    "snr_db": "signal over error, in dB",
    "max_abs": "largest difference",
    "relative_error": "largest difference over the largest value",
    "psnr_db": "largest value over error, in dB",
    "cosine": "similarity of directions",
    "nan_count": "values that are not a number",
    "overflow_count": "values that half precision does not hold",
    "top1_agreement": "share of the same best class",
    "top5_agreement": "share with the original's best class among the best five",
    "agreement": "share of equal integers",
    "sure_snr_db": "signal over the error beyond the original's own uncertainty, in dB",
    "own_snr_db": "the original against itself with other rounding, in dB",
    "sure_agreement": "share of equal integers, of those that the original is sure of",
    "own_agreement": "share of integers that the original is sure of",
    "lost_count": "infinite values where the original has numbers",
    "accuracy": "share of right answers",
    "original_accuracy": "share of right answers of the original",
    "drop": "accuracy that was lost",
    "top5_accuracy": "share with the right answer among the best five",
    "original_top5_accuracy": "the same of the original",
    "top5_drop": "top-5 accuracy that was lost",
    "bytes": "size of the artifact",
    "operators": "without constants",
}
"""What the measures mean, as people read them; their names are those of recipes."""
_EXECUTED = {
    "coreml": "Apple's Core ML",
    "runtime": "builder's own runtime",
    "coreai/cpu-interpreter": "Apple's Core AI interpreter (which says nothing of the GPU or the Neural Engine)",
}


def header(record: BuildRecord) -> Markup:
    """The verdict in words, notices that nobody may overlook, and the figures people ask for first."""
    word, tone, sentence = _verdict(record)
    return element(
        "header",
        element("p", record.request.recipe, element("span", record.variant, class_="variant"), class_="name"),
        element("h1", element("span", word, class_=f"badge {tone}"), " ", sentence),
        *(element("p", f"{c.name} ({engine(c)}): {c.reason}", class_="notice bad") for c in failed(record) if c.reason),
        *(element("p", notice, class_="notice") for notice in _notices(record)),
        facts(_figures(record), class_="figures"),
    )


def checks(record: BuildRecord) -> Markup:
    """Every check with what executed the artifact, its values and its limits."""
    if not record.checks:
        return section("Checks", element("p", "No check was asked for.", class_="notice"))
    return section("Checks", *(_check(check) for check in record.checks))


def pictures(record: BuildRecord) -> Markup | None:
    """The pictures that were checked, with what both models said."""
    shown = [_picture(picture) for check in record.checks for picture in check.pictures]
    if not shown:
        return None
    return section("Seen by both models", element("div", *shown, class_="pictures"))


def _verdict(record: BuildRecord) -> tuple[str, str, str]:
    missed = failed(record)
    if missed:
        names = " and ".join(check.name for check in missed)
        return "Broken", "bad", f"{names} missed the limit. Do not ship this artifact."
    executed = [check for check in record.checks if check.engine in _EXECUTED and check.values]
    proved = [check for check in executed if check.passed]
    for kind in CHECKS:
        found = [check for check in proved if kind.claim and check.kind == kind.name]
        if found:
            on = "; ".join(dict.fromkeys(filter(None, map(made_on, found))))
            on = f" on {on}" if on else ""
            by = " and ".join(dict.fromkeys(_EXECUTED[check.engine] for check in found))
            return "Built", "good", f"{kind.claim}, executed by {by}{on}."
    if executed:
        return "Built", "unknown", "It was executed, but what it computes is not proven: see the checks."
    return "Built", "unknown", "Nothing executed this artifact: what it computes is not proven."


def _notices(record: BuildRecord) -> Iterator[str]:
    notice = seeded_notice(record)
    if notice:
        yield notice
    synthetic = synthetic_notice(record)
    if synthetic:
        yield f"The artifact was {synthetic}."
    if any(isinstance(step, Palettize) and step.nbits == 4 for step in record.spec.compression.values()):
        yield (
            "4-bit palettised models are reported to be wrong or to crash on some Neural Engines "
            "(apple/coremltools#2716, open): try this one on the devices that you support."
        )
    backend = backend_of(record.artifact.format)
    if backend.notice is not None:
        yield backend.notice
    elif record.request.spec.system.name.startswith("visionos"):
        made_for = record.request.spec.target.coremltools_name
        yield f"coremltools has no visionOS target: the artifact was made for {made_for}, which has the same format."


def _figures(record: BuildRecord) -> Iterator[tuple[str, Content]]:
    spec, artifact = record.spec, record.artifact
    yield "Size", size(artifact.size_bytes)
    if record.source_bytes:
        share = 100 * artifact.size_bytes / record.source_bytes
        yield "Against the source", f"{share:.0f} % of {size(record.source_bytes)}"
    yield "Precision", spec.precision.kind
    yield "Compression", ", ".join(spec.compression) or "none"
    yield "Oldest system", system_name(spec.system.name)
    yield "Format", artifact.format
    yield "Checks", outcome(record).partition(": ")[2] or "none"
    yield "Built in", duration(record.seconds)


def _check(check: CheckReport) -> Markup:
    verdict = check.verdict
    rows = [
        (
            join(code(m.name), element("span", _MEANINGS.get(m.name, ""), class_="meaning")),
            element("span", m.text.replace("inf", "∞"), class_="number"),
            _signs(m.limit) or element("span", "no limit", class_="quiet"),
        )
        for m in measurements(check)
    ]
    return element(
        "article",
        element(
            "h3",
            element("span", verdict, class_=f"badge {_CLASSES[verdict]}"),
            " ",
            check.name,
            element("span", engine(check) + (f", {on}" if (on := made_on(check)) else ""), class_="engine"),
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
        limits = ", ".join(f"{name} {_signs(bounds(check.limits[name], name=name))}" for name in missing)
        why = "For other kinds of outputs than this model has" if check.values else "Not measured"
        yield element("p", f"{why}: {limits}", class_="quiet")


def _signs(limit: str) -> str:
    return limit.replace(">=", "≥").replace("<=", "≤")


def _any(name: str, value: object) -> str:
    return json.dumps(value, ensure_ascii=False) if isinstance(value, (list, dict)) else value_text(name, value)


def _picture(picture: CheckedPicture) -> Markup:
    message = f"The picture given to {picture.input}"
    image = _image(picture.png, message)
    caption = [message] if picture.label is None else [message, ", labelled ", element("b", picture.label)]
    artifact = f"The artifact ({picture.engine})"
    answers = [_answers("The original", picture.reference_top), _answers(artifact, picture.artifact_top)]
    return element(
        "figure",
        image,
        element("figcaption", *caption),
        *(answers if picture.reference_top else []),
        *(_given(output, picture.engine) for output in picture.outputs),
    )


def _given(output: CheckedOutput, engine: str) -> Markup:
    """What both models gave as one output, side by side."""
    sides = (
        ("Original", output.reference, output.reference_png),
        (f"Artifact ({engine})", output.artifact, output.artifact_png),
    )
    shown = [
        element("div", element("h4", who), *([_image(png, who)] if png else []), element("p", message, class_="quiet"))
        for who, message, png in sides
    ]
    return join(element("h4", code(output.name)), element("div", *shown, class_="sides"))


def _image(png: bytes, description: str) -> Markup:
    data = base64.b64encode(png).decode("ascii")
    return Markup(html=f'<img src="data:image/png;base64,{data}" alt="{escape(visible(description))}">')


def _answers(who: str, top: tuple[tuple[str, float], ...]) -> Markup:
    probable = all(0 <= score <= 1 for _, score in top)
    rows = [(name, max(score, 0.0), f"{100 * score:.1f} %" if probable else f"{score:.3g}") for name, score in top]
    return join(element("h4", who), bars(rows, label=who, most=1.0 if probable else None))
