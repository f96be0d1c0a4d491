"""What one MLflow run says about a build: parameters, metrics and tags made from a BuildRecord."""

from __future__ import annotations

import getpass
import hashlib
import json
import math
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime

from builder.artifacts.checks import CheckReport
from builder.artifacts.costs import figures
from builder.artifacts.devices import figures as device_figures
from builder.artifacts.record import BuildRecord
from builder.reports.plain import leaves, plain, size
from builder.reports.verdict import engine, headline, made_on, outcome, seeded_notice, synthetic_notice

CONFIG_FILE = "config.yaml"
LONGEST_VALUE = 6000
"""MLflow cuts longer parameter values without a word (mlflow.utils.validation.MAX_PARAM_VAL_LENGTH)."""
LONGEST_TAG = 8000
LONGEST_KEY = 250
_LONGEST_DATASET, _DIGITS = 500, 36
"""Of a dataset's name and digest (mlflow.utils.validation)."""


@dataclass(frozen=True, kw_only=True)
class TrackedDataset:
    """Data that checks of a run were made on; metrics whose names begin with one of `checks` were measured on it."""

    name: str
    digest: str
    """The first 36 digits of our own, as many as MLflow takes; all of it is in `source`."""
    source: str
    """JSON: what the check says of its data."""
    checks: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class TrackedRun:
    """One run, ready to be sent as it is; everything is decided when the build ends."""

    name: str
    status: str
    """`FINISHED`, or `FAILED` where a check missed its limit."""
    started_ms: int
    ended_ms: int
    params: Mapping[str, str]
    metrics: Mapping[str, float]
    tags: Mapping[str, str]
    datasets: tuple[TrackedDataset, ...] = ()


def tracked_run(record: BuildRecord) -> TrackedRun:
    """The run for `record`; figures that are not finite become tags, since no chart can show them."""
    numbers = dict(_figures(record))
    started_ms = round(datetime.fromisoformat(record.started).timestamp() * 1000)
    return TrackedRun(
        name=f"{record.request.recipe}/{record.variant}",
        status="FINISHED" if record.status == "built" else "FAILED",
        started_ms=started_ms,
        ended_ms=started_ms + round(record.seconds * 1000),
        params=config_params(record.request.config),
        metrics={key: value for key, value in numbers.items() if math.isfinite(value)},
        tags={**_tags(record), **{key: str(value) for key, value in numbers.items() if not math.isfinite(value)}},
        datasets=tuple(_datasets(record)),
    )


def _datasets(record: BuildRecord) -> Iterator[TrackedDataset]:
    """What checks were made on, each once."""
    found: dict[str, list[tuple[str, Mapping[str, object]]]] = {}
    for name, check in _named(record):
        if check.data is not None and check.data.get("digest"):
            found.setdefault(str(check.data["digest"]), []).append((name, check.data))
    for digest, checks in found.items():
        data = {
            key: value for key, value in checks[0][1].items() if key in ("kind", "samples", "digest", "description")
        }
        yield TrackedDataset(
            name=str(data.get("description") or data.get("kind"))[:_LONGEST_DATASET],
            digest=digest.rpartition(":")[2][:_DIGITS],
            source=json.dumps(data, ensure_ascii=False),
            checks=tuple(name for name, _ in checks),
        )


def config_params(config: Mapping[str, object]) -> dict[str, str]:
    """The parameters of a run: each value of a composed recipe by its key, with a digest for what MLflow would cut."""
    params: dict[str, str] = {}
    for path, value in leaves(plain(config)):
        key = metric_key(path)
        if key in params:
            key = f"{key[: LONGEST_KEY - 9]}_{_digest(path)[:8]}"
        params[key] = _value(value)
    return params


def metric_key(path: str) -> str:
    """`path` with what MLflow refuses in names (such as `[`, `]` and `@`) as `_`, and not longer than it takes."""
    key = re.sub(r"[^\w.\- ]", "_", path, flags=re.ASCII).strip(" .") or "_"
    return key if len(key) <= LONGEST_KEY else f"{key[: LONGEST_KEY - 9]}_{_digest(path)[:8]}"


def _value(value: object) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= LONGEST_VALUE else f"sha256:{_digest(text)} (too long for MLflow: see {CONFIG_FILE})"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _figures(record: BuildRecord) -> Iterator[tuple[str, float]]:
    yield "bytes", float(record.artifact.size_bytes)
    if record.source_bytes:
        yield "bytes_share_of_source", record.artifact.size_bytes / record.source_bytes
    yield "seconds/total", record.seconds
    for stage in record.stages:
        yield f"seconds/{metric_key(stage.name)}", stage.seconds
    yield "ops/total", float(sum(record.op_counts.values()))
    for name, count in sorted(record.op_counts.items()):
        yield f"ops/{metric_key(name)}", float(count)
    for costs in record.costs:
        for name, value in figures(costs).items():
            yield "/".join(["costs", *(metric_key(part) for part in name.split("."))]), value
    for device in record.devices:
        for name, value in device_figures(device).items():
            yield "/".join(["device", *(metric_key(part) for part in name.split("."))]), value
    for name, check in _named(record):
        yield from _output_figures(name, check.values)
    if record.conversion is not None:
        yield from _output_figures("conversion", record.conversion.outputs)
    for step in record.compression:
        for against in ("alone", "so_far"):
            yield from _output_figures(f"compression/{metric_key(step.name)}/{against}", getattr(step, against))


def _named(record: BuildRecord) -> Iterator[tuple[str, CheckReport]]:
    """Each check with its name, and its engine too where one check ran on several."""
    names = [check.name for check in record.checks]
    for check in record.checks:
        yield metric_key(check.name if names.count(check.name) == 1 else f"{check.name}_{check.engine}"), check


def _output_figures(name: str, values: Mapping[str, object]) -> Iterator[tuple[str, float]]:
    """Each measured number as `name/measure`, and those of one output as `name/output/measure`."""
    for path, value in leaves(dict(values), separator="/"):
        number = value.item() if hasattr(value, "item") and getattr(value, "size", 1) == 1 else value
        if isinstance(number, (int, float)) and not isinstance(number, bool):
            yield "/".join([name, *(metric_key(part) for part in path.split("/"))]), float(number)


def _tags(record: BuildRecord) -> dict[str, str]:
    engines = sorted({check.engine for check in record.checks})
    tags = {
        "recipe": record.request.recipe,
        "variant": record.variant,
        "status": record.status,
        "checks": outcome(record),
        "key": record.key,
        "artifact.digest": record.artifact.digest,
        "artifact.semantic_digest": record.artifact.semantic_digest,
        "source.digest": str(record.source.get("digest", "")),
        "target": record.request.spec.system.name,
        "precision": record.spec.precision.kind,
        "format": record.artifact.format,
        "engine": ",".join(engines) or "none",
        "seeded": json.dumps(record.seeded),
        "git.commit": str(record.git.get("commit", "")),
        "git.dirty": json.dumps(record.git.get("dirty")),
        "sweep_id": os.environ.get("BUILDER_SWEEP_ID", ""),
        **{f"check.{name}": check.verdict for name, check in _named(record)},
        **{f"check.{name}.made_on": made_on(check) for name, check in _named(record)},
        **{f"version.{metric_key(tool)}": version for tool, version in record.versions.items()},
        "mlflow.user": user_name(),
        "mlflow.source.type": "LOCAL",
        "mlflow.source.name": f"builder recipe={record.request.recipe}",
        "mlflow.source.git.commit": str(record.git.get("commit", "")),
        "mlflow.note.content": _note(record),
    }
    return {key: value[:LONGEST_TAG] for key, value in sorted(tags.items()) if value and value != "null"}


def user_name() -> str:
    """Who builds, as MLflow shows it; empty where the system does not know."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return ""


def _note(record: BuildRecord) -> str:
    """The description at the head of the run's page, in Markdown."""
    spec = record.spec
    notice, synthetic = seeded_notice(record), synthetic_notice(record)
    facts = (size(record.artifact.size_bytes), spec.precision.kind, spec.system.name, record.artifact.format)
    rows = [
        f"| {check.name} | {engine(check)} | {check.verdict} | {headline(check)} | {made_on(check)} |"
        for check in record.checks
    ]
    return "\n".join(
        [
            f"**{record.status}**: {outcome(record)}",
            *([f"\n**{notice}**"] if notice else []),
            *([f"\n{synthetic}"] if synthetic else []),
            f"\n{', '.join(facts)}",
            *(
                ["\n| check | executed by | verdict | values | made on |", "|---|---|---|---|---|", *rows]
                if rows
                else []
            ),
        ]
    )
