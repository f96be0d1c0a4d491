"""One build in a process of its own, which a JSON file describes: `python -m builder.release.job JOB.json`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from builder.release.isolation import cut_network
from builder.release.watching import Watch, foreign_code, project_files

if TYPE_CHECKING:
    from collections.abc import Mapping

    from builder.artifacts.record import BuildRecord


def run_job(job: dict[str, Any]) -> dict[str, object]:
    """Build what `job` says and return what the parent needs to know; failures are values here."""
    watch = Watch()
    network = "allowed" if job["network"] else cut_network()
    from builder.errors import BuilderError

    try:
        record = _build(job)
    except BuilderError as error:
        text = {
            "message": error.message,
            "hint": _lasting(error.hint, job["outputs"]),
            "key": error.key,
            "code": error.code,
        }
        return {"error": text, "network": network}
    root, read = Path(job["root"]), watch.files()
    besides = [Path(folder).resolve() for folder in job["besides"]]
    return {
        "network": network,
        "folder": str(record.artifact.path.parent),
        "artifact": {
            "name": record.artifact.path.name,
            "digest": record.artifact.digest,
            "semantic_digest": record.artifact.semantic_digest,
            "bytes": record.artifact.size_bytes,
            "format": record.artifact.format,
        },
        "source": _source(record, read),
        "labels": None if record.labels is None else list(record.labels),
        "seeded": record.seeded,
        "status": record.status,
        "project_files": [str(file) for file in project_files(read, root, besides=besides)],
        "foreign_code": [str(file) for file in foreign_code(read, root)],
        "data": {_data_name(file): str(file) for file in read if _is_shipped_data(file)},
    }


def _lasting(hint: str | None, outputs: str) -> str | None:
    """The parts of a hint that do not lead into `outputs`, which is removed after the job."""
    parts = [] if hint is None else [part for part in hint.split("; ") if outputs not in part]
    return "; ".join(parts) or None


def _build(job: dict[str, Any]) -> BuildRecord:
    from builder.artifacts.stages import BuildRequest
    from builder.engine.failure import require_built
    from builder.engine.pipeline import build
    from builder.progress import Silent
    from builder.reports.terminal import Terminal
    from builder.spec import BuildSpec

    request = BuildRequest(
        recipe=job["recipe"],
        variant=job["variant"],
        spec=BuildSpec.model_validate(job["spec"]),
        overrides=tuple(job["overrides"]),
        config=job.get("config", job["spec"]),
        origins=job.get("origins", {}),
    )
    outputs = Path(job["outputs"])
    if job["quiet"]:
        return require_built(build(request, outputs=outputs, progress=Silent()), outputs, stays=False)
    with Terminal(verbosity=0, stream=sys.stderr) as terminal:
        return require_built(build(request, outputs=outputs, progress=terminal), outputs, stays=False)


def _source(record: BuildRecord, read: list[Path]) -> dict[str, object]:
    """Where the weights come from, their digests, and the file that they were read from, if it was one."""
    from builder.release.digests import file_sha256
    from builder.release.origins import address_of

    origin: Mapping[str, object] = record.source
    found: dict[str, object] = {"kind": origin["kind"], "address": address_of(record.request.spec)}
    for name in ("weights_digest", "file_sha256", "revision", "seeded"):
        if origin.get(name):
            found[name] = origin[name]
    if "file_sha256" in found:
        likely = [file for file in read if file.suffix in (".pth", ".pt", ".safetensors", ".bin", ".ckpt")]
        file = next((file for file in likely if file_sha256(file) == found["file_sha256"]), None)
        if file is not None:
            found |= {"bytes": file.stat().st_size, "path": str(file)}
    return found


def _is_shipped_data(file: Path) -> bool:
    return "sklearn" in file.parts and "datasets" in file.parts and not file.suffix.startswith(".py")


def _data_name(file: Path) -> str:
    """How the lock calls a data file that came with an installed package: `sklearn/datasets/images/china.jpg`."""
    return "/".join(file.parts[file.parts.index("sklearn") :])


if __name__ == "__main__":
    given = Path(sys.argv[1])
    result = run_job(json.loads(given.read_text(encoding="utf-8")))
    given.with_suffix(".result").write_text(json.dumps(result), encoding="utf-8")
