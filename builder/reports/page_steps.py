"""The compression steps in one list, in PyTorch and in the program: what each changed, and what it costs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from builder.artifacts.effects import worst_change
from builder.artifacts.record import BuildRecord
from builder.artifacts.stages import CompressionEffect, MeasuredOutputs
from builder.reports.markup import Content, Markup, code, details, element, section, table
from builder.reports.plain import number

_ENGINES = {"pytorch": "PyTorch", "runtime": "runtime"}
_HEAD = (
    "step",
    "what it changed",
    "SNR, alone",
    "SNR so far",
    "accuracy so far",
    "largest change, alone",
    "measured by",
)


def compression(record: BuildRecord) -> Markup | None:
    """Every step, with the conversion where it stands among them."""
    if not record.compression:
        return None
    in_pytorch = [_step(effect) for effect in record.compression if effect.stage == "prepare"]
    in_program = [_step(effect) for effect in record.compression if effect.stage != "prepare"]
    head, rows = _without_empty(_HEAD.index("accuracy so far"), [*in_pytorch, *_conversion(record), *in_program])
    return section("Compression", table(head, rows), *_notes(record), *_measures(record))


def _without_empty(
    column: int, rows: Sequence[tuple[Content, ...]]
) -> tuple[Sequence[str], Sequence[tuple[Content, ...]]]:
    """Head and rows, without a column that says nothing in any row: without labelled data there is no accuracy."""
    if any(row[column] != "-" for row in rows):
        return _HEAD, rows
    return _HEAD[:column] + _HEAD[column + 1 :], [row[:column] + row[column + 1 :] for row in rows]


def _step(effect: CompressionEffect) -> tuple[Content, ...]:
    what = "layer" if effect.stage == "prepare" else "operator" if "activations" in effect.kind else "weight"
    count = f"{len(effect.changed)} {what}{'s' if len(effect.changed) != 1 else ''}"
    named = effect.name if effect.name == effect.kind else f"{effect.name} ({effect.kind})"
    return (
        named,
        details(count, element("p", ", ".join(effect.changed), class_="quiet")),
        _decibels(effect.snr_db),
        _decibels(worst_change(effect.so_far)[1]),
        _accuracy(effect.so_far),
        "-" if effect.max_abs is None else number(effect.max_abs),
        f"{_ENGINES[effect.engine]}, {effect.samples} samples" if effect.engine else "not measured",
    )


def _conversion(record: BuildRecord) -> Iterator[tuple[Content, ...]]:
    if record.conversion is not None:
        _, snr_db = worst_change(record.conversion.outputs)
        accuracy = _accuracy(record.conversion.outputs)
        by = f"runtime, {record.conversion.samples} samples"
        yield (
            "conversion",
            f"{record.spec.precision.kind}, before these steps",
            "-",
            _decibels(snr_db),
            accuracy,
            "-",
            by,
        )


def _decibels(snr_db: float | None) -> str:
    return "-" if snr_db is None else f"{number(snr_db)}\N{NO-BREAK SPACE}dB"


def _accuracy(outputs: MeasuredOutputs) -> str:
    """Of the scores, where there is labelled data."""
    found = (measured["accuracy"] for measured in outputs.values() if "accuracy" in measured)
    return next((number(share) for share in found), "-")


def _notes(record: BuildRecord) -> Iterator[Markup]:
    message = "Alone: against the model before the step. So far: against the original, before any compression."
    if record.conversion is None and any(effect.stage != "prepare" for effect in record.compression):
        message += " Steps on the program are measured on the samples of a parity check, and this recipe has none."
    yield element("p", message, class_="quiet")


def _measures(record: BuildRecord) -> Iterator[Markup]:
    """Every measure of every output, on demand."""
    found: list[tuple[str, str, MeasuredOutputs]] = []
    if record.conversion is not None:
        found.append(("conversion", "so far", record.conversion.outputs))
    for effect in record.compression:
        found += [(effect.name, "alone", effect.alone), (effect.name, "so far", effect.so_far)]
    names = list(dict.fromkeys(name for _, _, outputs in found for one in outputs.values() for name in one))
    rows: list[tuple[Content, ...]] = [
        (step, against, code(output), *(number(one.get(name)) for name in names))
        for step, against, outputs in found
        for output, one in outputs.items()
    ]
    if rows:
        yield details("every measure of every output", table(("step", "against", "output", *names), rows))
