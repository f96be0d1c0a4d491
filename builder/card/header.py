"""The card's YAML header: what the Hub reads and searches by. Only what is known is in it.

The keys are those of https://huggingface.co/docs/hub/model-cards.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import yaml

from builder.artifacts.checks import CheckReport
from builder.artifacts.record import BuildRecord
from builder.reports.plain import plain
from builder.reports.verdict import made_on, worst_values
from builder.spec.inputs import ImageInput
from builder.spec.target import BACKENDS

if TYPE_CHECKING:
    from builder.util.reading import JsonObject

LIBRARIES = {"coreml": "coreml", "coreai": "coreai"}
"""What the Hub calls the format's library, by backend."""
_LICENSES = frozenset(
    {
        *("apache-2.0", "mit", "bsd", "bsd-2-clause", "bsd-3-clause", "cc-by-4.0", "cc-by-sa-4.0", "cc-by-nc-4.0"),
        *("cc0-1.0", "gpl-2.0", "gpl-3.0", "agpl-3.0", "lgpl-3.0", "mpl-2.0", "isc", "unlicense", "openrail", "wtfpl"),
    }
)
"""Names of licences that the Hub knows; any other is `other`, with its name."""
_MEASURES = ("snr_db", "agreement", "accuracy", "top1_agreement", "top5_accuracy", "boxes_matched")
"""What of a check is in the results that the Hub lists."""


def header(record: BuildRecord, name: str) -> str:
    """The header with its lines of dashes."""
    values = {key: value for key, value in _values(record, name) if value}
    text = yaml.safe_dump(plain(values), sort_keys=False, allow_unicode=True, width=100)
    return f"---\n{text}---\n"


def _values(record: BuildRecord, name: str) -> Iterator[tuple[str, Any]]:
    spec = record.spec
    yield from license_of(spec.metadata.license).items()
    yield "library_name", LIBRARIES[BACKENDS[record.artifact.format]]
    task = task_of(record)
    yield "pipeline_tag", task
    yield "base_model", base_model(record)
    precision = () if spec.precision.kind == "auto" else (spec.precision.kind,)
    yield "tags", [LIBRARIES[BACKENDS[record.artifact.format]], record.artifact.format, spec.system.name, *precision]
    results = [] if record.seeded else list(_results(record, task))
    yield "model-index", [{"name": name, "results": results}] if results else []


def license_of(text: str) -> dict[str, str]:
    """A licence as the Hub writes it; nothing where the recipe says none."""
    written = text.strip()
    if not written:
        return {}
    known = re.sub(r"[\s_]+", "-", written.lower())
    return {"license": known} if known in _LICENSES else {"license": "other", "license_name": written}


def task_of(record: BuildRecord) -> str:
    """The Hub's name of the task, where the recipe leaves no doubt; else empty."""
    spec = record.spec
    pictures = any(isinstance(given, ImageInput) for given in spec.artifact_inputs.values())
    if spec.detection is not None:
        return "object-detection"
    if spec.classifier is not None and pictures:
        return "image-classification"
    if pictures and any(output["kind"] == "image" for output in record.outputs):
        return "image-to-image"
    return ""


def base_model(record: BuildRecord) -> str:
    """The model of the Hub that this one was made of; empty where it came from elsewhere."""
    source = record.source
    name = str(source.get("name") or "")
    of_hub = source.get("kind") in ("huggingface", "timm") and re.fullmatch(r"[\w.-]+/[\w.-]+", name)
    return name if of_hub else ""


def _results(record: BuildRecord, task: str) -> Iterator[Mapping[str, object]]:
    """One result for each check that executed the artifact on data."""
    for check in record.checks:
        metrics = list(_metrics(check))
        if check.engine == "none" or not check.data or not metrics:
            continue
        yield {
            "task": {"type": task or "other"},
            "dataset": {"type": str(check.data["kind"]), "name": made_on(check)},
            "metrics": metrics,
        }


def _metrics(check: CheckReport) -> Iterator[JsonObject]:
    for name, value in worst_values(check).items():
        if name in _MEASURES and value == value and abs(value) != float("inf"):
            yield {"type": name, "value": value, "name": f"{check.name}: {name} ({check.engine}, {check.verdict})"}
