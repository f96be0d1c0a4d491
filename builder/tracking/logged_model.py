"""Sends the artifact of an entry as an MLflow 3 model, which MLflow loads, serves and evaluates by our runtime."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from builder.tracking.outbox import ARTIFACT, EXAMPLE, Entry, file_name
from builder.util.redact import redacted

if TYPE_CHECKING:
    from mlflow import MlflowClient

_TAGS = (
    "recipe", "variant", "status", "checks", "target", "precision", "format", "key", "seeded",
    "artifact.digest", "artifact.semantic_digest", "source.digest", "git.commit",
)  # fmt: skip
"""Of the run, repeated at the model."""
_SHOWN = ("mlflow.user", "mlflow.note.content", "mlflow.source.name", "mlflow.source.git.commit")
"""What MLflow's page of a model shows, likewise."""
RECORD_TAG = "builder.record_id"


@dataclass(frozen=True, kw_only=True)
class Logged:
    """The model of an entry; where there is none, perhaps a note that says why."""

    model_id: str | None = None
    note: str = ""


def log_model(client: MlflowClient, entry: Entry, folder: Path, experiment: str, run_id: str) -> Logged:
    """Make the artifact in `folder` a logged model of the run, once, and return its id.

    An artifact that cannot be loaded is not a model that MLflow could serve, and older servers have no models: the note
    says so.
    """
    from mlflow.entities import LoggedModelStatus
    from mlflow.exceptions import MlflowException

    from coreml_runtime.errors import RuntimeFailure
    from coreml_runtime.model import load

    artifacts = sorted((folder / ARTIFACT).iterdir()) if (folder / ARTIFACT).is_dir() else []
    if not artifacts:
        return Logged()
    try:
        model = load(artifacts[0])
    except RuntimeFailure as error:
        return Logged(note=redacted(f"not logged as a model: {error}")[:500])
    try:
        logged = _find(client, experiment, entry) or _create(client, experiment, entry, run_id)
    except MlflowException as error:
        if error.error_code != "ENDPOINT_NOT_FOUND":
            raise
        return Logged(note="not logged as a model: the server is older than MLflow 3 and has none")
    if logged.status != LoggedModelStatus.READY:
        _upload(client, logged, model, entry, folder, run_id)
    return Logged(model_id=str(logged.model_id))


def model_name(recipe: str) -> str:
    """A name as MLflow takes it for a model: without `/`, `:`, `.`, `%` and quotes."""
    return re.sub(r"""[/:.%"']""", "_", recipe) or "model"


def _find(client: MlflowClient, experiment: str, entry: Entry) -> Any | None:
    found = client.search_logged_models([experiment], f"tags.`{RECORD_TAG}` = '{entry.identifier}'", max_results=1)
    return found[0] if found else None


def _create(client: MlflowClient, experiment: str, entry: Entry, run_id: str) -> Any:
    tags = {name: entry.run.tags[name] for name in (*_TAGS, *_SHOWN) if name in entry.run.tags}
    return client.create_logged_model(
        experiment,
        name=model_name(entry.run.tags.get("recipe", entry.run.name)),
        source_run_id=run_id,
        tags={**tags, RECORD_TAG: entry.identifier},
        params=dict(entry.run.params),
        model_type=entry.run.tags.get("format"),
    )


def _upload(client: MlflowClient, logged: Any, model: Any, entry: Entry, folder: Path, run_id: str) -> None:
    """Write the model's files, send them, and only then call it ready."""
    from mlflow.entities import LoggedModelOutput
    from mlflow.models import Model

    from coreml_runtime.signature import save_model

    with tempfile.TemporaryDirectory(prefix="builder-model-") as name:
        described = Model(
            artifact_path=logged.artifact_location, run_id=run_id, model_uuid=logged.model_id, model_id=logged.model_id
        )
        metadata = {name: entry.run.tags[name] for name in _TAGS if name in entry.run.tags}
        save_model(model, Path(name) / "model", given=_given(model, folder), mlflow_model=described, metadata=metadata)
        client.log_model_artifacts(logged.model_id, str(Path(name) / "model"))
    client.log_outputs(run_id, [LoggedModelOutput(logged.model_id, step=0)])
    client.finalize_logged_model(logged.model_id, "READY")


def _given(model: Any, folder: Path) -> Mapping[str, object]:
    """The example values that the build left for the model's inputs."""
    import numpy as np

    found: dict[str, object] = {}
    for name in model.inputs:
        base = folder / EXAMPLE / file_name(name)
        if base.with_suffix(".png").is_file():
            found[name] = base.with_suffix(".png").read_bytes()
        elif base.with_suffix(".npy").is_file():
            found[name] = np.load(base.with_suffix(".npy"), allow_pickle=False)
    return found
