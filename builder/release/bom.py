"""A CycloneDX 1.6 bill of materials: the model with its card, the data that judged it, the tools that made it.

https://cyclonedx.org/docs/1.6/json/
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from builder.release.provenance import Facts, purl

if TYPE_CHECKING:
    from builder.util.reading import JsonObject

FILE_NAME = "bom.cdx.json"
_MODEL = "model"
_SOURCE = "source"


def bill_of_materials(facts: Facts) -> dict[str, object]:
    """The document; its serial number follows from the artifact, so that one artifact has one bill."""
    digest = facts.entry["artifact"]["digest"]
    data = list(_data(facts))
    tools = list(_tools(facts))
    return {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, digest)}",
        "version": 1,
        "metadata": {
            "timestamp": facts.finished.replace("+00:00", "Z"),
            "tools": {"components": tools},
            "component": _model(facts),
        },
        "components": [_source(facts), *data],
        "dependencies": [
            {"ref": _MODEL, "dependsOn": [_SOURCE, *(entry["bom-ref"] for entry in data)]},
            {"ref": _SOURCE},
            *({"ref": entry["bom-ref"]} for entry in data),
        ],
    }


def _model(facts: Facts) -> dict[str, Any]:
    metadata = facts.build["config"].get("metadata") or {}
    model = {
        "type": "machine-learning-model",
        "bom-ref": _MODEL,
        "name": facts.artifact,
        "version": str(metadata.get("version") or facts.commit[:12]),
        "hashes": [_hash(facts.entry["artifact"]["digest"])],
        "modelCard": _card(facts),
        "properties": [
            {"name": "coreml-builder:recipe", "value": facts.recipe},
            {"name": "coreml-builder:variant", "value": facts.variant},
            {"name": "coreml-builder:semantic_digest", "value": facts.entry["artifact"]["semantic_digest"]},
        ],
    }
    if metadata.get("description"):
        model["description"] = str(metadata["description"])
    if metadata.get("author"):
        model["authors"] = [{"name": str(metadata["author"])}]
    if metadata.get("license"):
        model["licenses"] = [{"license": {"name": str(metadata["license"])}}]
    return model


def _card(facts: Facts) -> dict[str, object]:
    """What is known of the model: its architecture, what goes in and out, and every number that a check measured."""
    source = facts.build["source"]
    parameters: dict[str, object] = {
        "modelArchitecture": str(source.get("name") or source.get("factory") or source["kind"]),
        "datasets": [{"ref": entry["bom-ref"]} for entry in _data(facts) if entry["data"][0]["type"] == "dataset"],
        "inputs": [{"format": _format(feature)} for feature in facts.build["inputs"]],
        "outputs": [{"format": _format(feature)} for feature in facts.build["outputs"]],
    }
    limits = [
        f"{check['name']} is {check.get('verdict', 'inconclusive')}: {check['reason']}"
        for check in facts.build["checks"]
        if check["passed"] is None
    ]
    card: dict[str, object] = {
        "modelParameters": parameters,
        "quantitativeAnalysis": {"performanceMetrics": list(_metrics(facts.build["checks"]))},
    }
    if limits:
        card["considerations"] = {"technicalLimitations": limits}
    return card


def _format(feature: Mapping[str, object]) -> str:
    details = ", ".join(f"{key}={value}" for key, value in feature.items() if key not in ("name", "kind"))
    return f"{feature.get('name')}: {feature.get('kind')}{f' ({details})' if details else ''}"


def _metrics(checks: list[JsonObject]) -> Iterator[dict[str, str]]:
    for check in checks:
        for name, value in _numbers(check["values"], check["name"]):
            yield {"type": name, "value": str(value), "slice": f"engine {check['engine']}"}


def _numbers(values: object, prefix: str) -> Iterator[tuple[str, object]]:
    if isinstance(values, Mapping):
        for name, value in values.items():
            yield from _numbers(value, f"{prefix}.{name}")
    elif isinstance(values, int | float | str) and not isinstance(values, bool):
        yield prefix, values


def _source(facts: Facts) -> dict[str, object]:
    """The model that was converted: its address, and the digest of its weights."""
    source = facts.entry["source"]
    component: dict[str, object] = {
        "type": "machine-learning-model",
        "bom-ref": _SOURCE,
        "name": source["address"],
        "properties": [{"name": f"coreml-builder:{key}", "value": str(value)} for key, value in source.items()],
    }
    digest = source.get("file_sha256") or source.get("weights_digest")
    if digest:
        component["hashes"] = [_hash(digest)]
    if source["address"].startswith("http"):
        component["externalReferences"] = [{"type": "distribution", "url": source["address"]}]
    return component


def _data(facts: Facts) -> Iterator[dict[str, Any]]:
    """The files that the build read, and the data of its checks."""
    for section, kind in (("files", "other"), ("data", "dataset")):
        for name, file in facts.entry[section].items():
            yield {
                "type": "data",
                "bom-ref": f"{section}:{name}",
                "name": name,
                "hashes": [_hash(file["sha256"])],
                "data": [{"type": kind, "name": name}],
            }


def _tools(facts: Facts) -> Iterator[dict[str, object]]:
    for name, version in facts.entry["tools"].items():
        address = purl(name, version)
        kind = "application" if name in ("python", "builder") else "library"
        yield {"type": kind, "bom-ref": address, "name": name, "version": version, "purl": address}


def _hash(digest: str) -> dict[str, str]:
    return {"alg": "SHA-256", "content": digest.removeprefix("sha256:")}
