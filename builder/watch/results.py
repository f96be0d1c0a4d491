"""What came of a build, in one line: the verdict, and what is different from the build before."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from builder.jobs.jobs import Exit
from builder.jobs.watch import reason, was_up_to_date
from builder.util.paths import broken_folder, variant_folder
from builder.watch.inputs import Inputs

if TYPE_CHECKING:
    from builder.util.reading import JsonObject

BROKEN = 5
"""The exit code of a build whose check missed its limit."""


@dataclass(frozen=True, kw_only=True)
class Result:
    """A build that has ended."""

    verdict: str
    """`passed`, `failed` (a check missed its limit), `unjudged` (no check has judged it) or `error`."""
    summary: str
    error: str
    """What the build said, where it gave no artifact."""
    document: JsonObject | None
    """Its `build.json`; where it gave none, that of the last build that did."""
    report: Path | None


NOTHING = Result(verdict="", summary="", error="", document=None, report=None)


def result_of(ended: Exit, log: str, inputs: Inputs, outputs: Path, seconds: float, before: Result) -> Result:
    """Read what a build left, and compare it with the result before."""
    from builder.reports import html
    from builder.reports.build_json import read_build_json

    code = ended.code
    folder = _folder(inputs, outputs, broken=code == BROKEN) if code in (0, BROKEN) else None
    if folder is None:
        summary = f"{ended.summary or reason(log, code)} ({seconds:.1f} s)"
        return Result(verdict="error", summary=summary, error=log, document=before.document, report=before.report)
    document = read_build_json(folder)
    verdict = _verdict(document)
    did = ["nothing to build"] if was_up_to_date(log) else list(_stages(document))
    parts = [*did, *_differences(before.document, document), f"{seconds:.1f} s"]
    return Result(
        verdict=verdict, summary=", ".join(parts), error="", document=document, report=folder / html.FILE_NAME
    )


def _folder(inputs: Inputs, outputs: Path, *, broken: bool) -> Path | None:
    """Where the build lies that was written last: the variant's own, or that of its untrained weights."""
    from builder.reports.build_json import FILE_NAME

    place = broken_folder if broken else variant_folder
    seeded = "seeded" if inputs.variant == "default" else f"{inputs.variant},seeded"
    folders = [place(outputs, inputs.recipe, variant) for variant in (inputs.variant, seeded)] if inputs.recipe else []
    there = [folder for folder in folders if (folder / FILE_NAME).is_file()]
    return max(there, key=lambda folder: (folder / FILE_NAME).stat().st_mtime_ns, default=None)


def _verdict(document: JsonObject) -> str:
    verdicts = [check["verdict"] for check in document["checks"]]
    if "failed" in verdicts:
        return "failed"
    return "passed" if "passed" in verdicts else "unjudged"


def _stages(document: JsonObject) -> Iterator[str]:
    ran = [stage["name"] for stage in document["stages"] if not stage["cached"]]
    yield f"ran {' '.join(ran)}" if ran else "every stage from the store"


def _differences(before: JsonObject | None, now: JsonObject) -> Iterator[str]:
    """What is different of the artifact, and each number of a check that moved."""
    from builder.reports.plain import size

    if before is None:
        yield size(now["artifact"]["bytes"])
        return
    if before["artifact"]["digest"] == now["artifact"]["digest"]:
        yield "same artifact"
    elif before["artifact"]["bytes"] != now["artifact"]["bytes"]:
        yield f"{size(now['artifact']['bytes'])} (was {size(before['artifact']['bytes'])})"
    else:
        yield "another artifact of the same size"
    earlier = {_name(check): check for check in before["checks"]}
    for check in now["checks"]:
        old = earlier.get(_name(check))
        if old is None:
            yield f"{check['name']} {check['verdict']} (new)"
            continue
        if old["verdict"] != check["verdict"]:
            yield f"{check['name']} {check['verdict']} (was {old['verdict']})"
        yield from _moved(check["name"], _snr(old), _snr(check))


def _name(check: JsonObject) -> tuple[str, str]:
    return check["name"], check["engine"]


def _moved(name: str, old: float | None, new: float | None) -> Iterator[str]:
    if old is not None and new is not None and round(old, 1) != round(new, 1):
        yield f"{name} {new:.1f} dB (was {old:.1f})"


def _snr(check: JsonObject) -> float | None:
    """The least SNR of all outputs, in dB; None where there is none, or it is infinite."""
    found = [values.get("snr_db") for values in check["values"].values() if isinstance(values, Mapping)]
    numbers = [value for value in found if isinstance(value, int | float)]
    return min(numbers, default=None)
