"""What a record says in words: the verdict of each check, of the build, and the notices nobody may overlook."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from builder.artifacts.checks import VERDICTS, CheckReport, Verdict
from builder.artifacts.record import BuildRecord
from builder.reports.plain import bounds, leaves, plain, value_text
from builder.spec.check_kinds import check_named
from builder.spec.coverage import uncovered_inputs

_ENGINES = {"coreml": "Core ML", "runtime": "runtime", "none": "not executed", "coreai/cpu-interpreter": "Core AI"}
_MORE_IS_BETTER = {
    "snr_db", "psnr_db", "cosine", "agreement", "top1_agreement", "top5_agreement", "accuracy", "original_accuracy",
    "top5_accuracy", "original_top5_accuracy", "sure_snr_db", "own_snr_db", "sure_agreement", "own_agreement",
}  # fmt: skip


def engine(check: CheckReport) -> str:
    """What executed the artifact for this check, or what was looked at instead."""
    looked_at = check_named(check.kind).looked_at if check.engine == "none" else ""
    return looked_at or _ENGINES[check.engine]


def headline(check: CheckReport) -> str:
    """The measured values that have limits, each with its limit; the reason where one was not met or proved."""
    if check.passed is None:
        measured = ", ".join(f"{m.name} {m.text}" for m in measurements(check)[:3])
        return (check.reason or "no reason was given") + (f" (measured: {measured})" if measured else "")
    if check.passed is False and check.reason:
        return check.reason
    parts = [f"{m.name} {m.text} ({m.limit})" for m in measurements(check) if m.limit]
    parts = parts or [f"{m.name} {m.text}" for m in measurements(check)[:3]]
    return ", ".join([*parts, *([check.reason] if check.reason else [])])


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """The worst value of one measure over all outputs, as text, with its limit as text (or empty)."""

    name: str
    text: str
    limit: str


def measurements(check: CheckReport) -> tuple[Measurement, ...]:
    """The numbers of a check, those with limits first; of a measure taken for each output, the worst one."""
    return tuple(
        Measurement(name=name, text=value_text(name, value), limit=bounds(check.limits.get(name, {}), name=name))
        for name, value in worst_values(check).items()
    )


def worst_values(check: CheckReport) -> dict[str, float]:
    """The worst value of each measure over all outputs, those with limits first."""
    found: dict[str, list[float]] = {}
    for name, value in _numbers(check):
        found.setdefault(name, []).append(value)
    order = [*(name for name in check.limits if name in found), *(name for name in found if name not in check.limits)]
    return {name: (min if _more_is_better(name, check) else max)(found[name]) for name in order}


def leading(check: CheckReport) -> tuple[str, float] | None:
    """The measure that says most where there is room for one: the first with a limit, but no count of NaN that is 0."""
    values = worst_values(check)
    message = {name: value for name, value in values.items() if name != "nan_count" or value}
    return next(iter((message or values).items()), None)


def _numbers(check: CheckReport) -> Iterator[tuple[str, float]]:
    """The numbers of a check by measure, without those of outputs that prove nothing."""
    for output, value in check.values.items():
        measured = value if isinstance(value, Mapping) else {output: value}
        if "not_meaningful" in measured:
            continue
        for name, number in leaves(plain(measured, finite=False)):
            if isinstance(number, (int, float)) and not isinstance(number, bool):
                yield name, number


def _more_is_better(name: str, check: CheckReport) -> bool:
    return "min" in check.limits.get(name, {}) or name in _MORE_IS_BETTER


def failed(record: BuildRecord) -> tuple[CheckReport, ...]:
    """The checks that missed a limit."""
    return tuple(check for check in record.checks if check.passed is False)


def outcome(record: BuildRecord) -> str:
    """One line on what is known of the artifact: how many checks passed, failed, or proved nothing."""
    if not record.checks:
        return "no check was asked for: nothing is known about what the artifact computes"
    counts: dict[Verdict, int] = dict.fromkeys(VERDICTS, 0)
    for check in record.checks:
        counts[check.verdict] += 1
    noun = "check" if len(record.checks) == 1 else "checks"
    parts = [f"{count} {word}" for word, count in counts.items() if count]
    return f"{len(record.checks)} {noun}: {', '.join(parts)}"


def made_on(check: CheckReport) -> str:
    """What a check was made on: `41 of your 1,000 samples, 32 stress inputs and a search of 820 inputs`; else empty."""
    data = check.data
    if data is None:
        return f"{check.samples} samples" if check.samples else ""
    samples = str(data.get("description") or f"{data['samples']} samples of {data['kind']}")
    if data.get("synthetic"):
        samples += f" (synthetic: {', '.join(data['synthetic'])})"
    parts = [samples]
    if count := data.get("stress"):
        left = data.get("stress_left", 0)
        plural = "s" if count + left != 1 else ""
        limited = f" of {count + left} stress input{plural} (no time for more)" if left else ""
        parts.append(f"{count}{limited or f' stress input{plural}'}")
    if search := data.get("search"):
        parts.append(f"a search of {search['tries']:,} input{'s' if search['tries'] != 1 else ''}")
    return " and ".join(filter(None, (", ".join(parts[:-1]), parts[-1])))


def synthetic_notice(record: BuildRecord) -> str | None:
    """What to say where no data is given for some array input: what the artifact makes of real ones is open."""
    names = uncovered_inputs(record.spec)
    if not names:
        return None
    return (
        f"checked on synthetic inputs only: {', '.join(names)}. Whether real ones come right is open: give some, "
        "`checks.parity.data: {kind: tensors, file: samples.npz}`, or data that comes along (`sounds`, `text_ids`, "
        "`tables`, `text_boxes`)"
    )


def seeded_notice(record: BuildRecord) -> str | None:
    """What to say loudly when the artifact has untrained weights."""
    if not record.seeded:
        return None
    return (
        "UNTRAINED WEIGHTS: the pretrained weights could not be had, so this artifact was built from seeded ones. "
        "It is good for trying the build, not for an app."
    )
