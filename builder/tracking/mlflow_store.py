"""Sends one entry of the outbox to an MLflow store; the only file that imports mlflow, and only inside functions."""

from __future__ import annotations

import hashlib
import logging
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from builder.tracking.outbox import ARTIFACT, Entry
from builder.util import paths
from builder.util.locks import exclusive
from builder.util.redact import redacted

RECORD_TAG = "builder.record_id"
COMPLETE_TAG = "builder.complete"
"""Set last: a run without it was interrupted while it was sent."""
_TRAINING = {"mlflow.experimentKind": "custom_model_development"}
"""Makes MLflow's page open on runs, parameters and charts, not on its tools for language models."""
_PARAMS_AT_ONCE, _METRICS_AT_ONCE = 100, 500
_SETTINGS = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "60",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}
"""mlflow itself tries for minutes, while the outbox keeps the record anyway, and it prints to our stdout.

What the user set is respected.
"""


def store_uri(uri: str | None, outputs: Path) -> str:
    """The tracking URI for an entry: its own, or sqlite in `outputs` (absolute, so that it holds anywhere)."""
    return uri or f"sqlite:///{paths.tracking_database(outputs).absolute()}"


@contextmanager
def connected(uri: str) -> Iterator[Any]:
    """Yield an MlflowClient that has answered once.

    A sqlite store is held by one process at a time, across outputs folders too: several processes that create its
    tables at once crash each other.
    """
    with ExitStack() as stack:
        stack.enter_context(_quiet())
        if uri.startswith("sqlite:///"):
            database = Path(uri.removeprefix("sqlite:///")).absolute()
            stack.enter_context(exclusive(database.with_name(f".{database.name}.lock")))
        from mlflow import MlflowClient

        client = MlflowClient(tracking_uri=uri, registry_uri=uri)
        try:
            client.search_experiments(max_results=1)
        except Exception as error:
            raise ConnectionError(f"{redacted(uri)} does not answer: {redacted(cause_of(error))}") from error
        yield client


def cause_of(error: Exception) -> str:
    """The part of mlflow's and urllib3's nested messages that says what happened, in one line."""
    found = re.findall(r"\[Errno -?\d+\] ([^\"'()]+)", str(error))
    return str(found[-1]) if found else next(iter(str(error).splitlines()), type(error).__name__)[:200]


def send(client: Any, entry: Entry, folder: Path, outputs: Path, *, artifact_note: str | None) -> str:
    """Send `entry` with the files in `folder` and return the run's id; a second call for it changes nothing."""
    experiment = _experiment(client, entry.experiment, outputs)
    run = _find_run(client, experiment, entry.identifier)
    if run is not None and run.data.tags.get(COMPLETE_TAG) == "true":
        return str(run.info.run_id)
    run_id = run.info.run_id if run is not None else _create_run(client, experiment, entry)
    _log_values(client, run_id, entry)
    client.log_artifacts(run_id, str(folder))
    if artifact_note is not None:
        client.set_tag(run_id, "artifact.note", artifact_note)
    elif entry.register_as is not None:
        _register(client, run_id, entry.register_as, entry.alias)
    client.set_terminated(run_id, entry.run.status, end_time=entry.run.ended_ms)
    client.set_tag(run_id, COMPLETE_TAG, "true")
    return str(run_id)


def _experiment(client: Any, name: str, outputs: Path) -> str:
    """The experiment's id; a new one in a database keeps its files in `outputs`, absolute, a server decides itself."""
    from mlflow.exceptions import MlflowException

    found = client.get_experiment_by_name(name)
    if found is None:
        location = None
        if not urlsplit(client.tracking_uri).scheme.startswith("http"):
            location = (paths.tracking_artifacts(outputs).absolute() / folder_name(name)).as_uri()
        try:
            return str(client.create_experiment(name, artifact_location=location, tags=_TRAINING))
        except MlflowException:
            found = client.get_experiment_by_name(name)  # made by somebody else just now
            if found is None:
                raise
    if found.lifecycle_stage != "active":
        raise ValueError(f"the experiment {name} was deleted: restore it, or name another in `tracking.experiment`")
    return str(found.experiment_id)


def folder_name(experiment: str) -> str:
    """The folder of an experiment: its name where that is one of a folder, else quoted, else (too long) a digest."""
    quoted = quote(experiment, safe=" ")
    if quoted.startswith("."):
        quoted = f"%2E{quoted[1:]}"
    return quoted if len(quoted) <= 200 else hashlib.sha256(experiment.encode("utf-8", "surrogatepass")).hexdigest()


def _find_run(client: Any, experiment: str, identifier: str) -> Any | None:
    from mlflow.entities import ViewType

    runs = client.search_runs(
        [experiment], f"tags.`{RECORD_TAG}` = '{identifier}'", run_view_type=ViewType.ALL, max_results=1
    )
    return runs[0] if runs else None


def _create_run(client: Any, experiment: str, entry: Entry) -> str:
    run = client.create_run(
        experiment, start_time=entry.run.started_ms, tags={RECORD_TAG: entry.identifier}, run_name=entry.run.name
    )
    return str(run.info.run_id)


def _register(client: Any, run_id: str, name: str, alias: str) -> None:
    """Make the run's artifact a version of the registered model `name`, once, and give it `alias`."""
    from mlflow.exceptions import MlflowException

    versions = [v for v in client.search_model_versions(f"run_id = '{run_id}'") if v.name == name]
    if not versions:
        try:
            client.create_registered_model(name)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
        source = f"{client.get_run(run_id).info.artifact_uri}/{ARTIFACT}"
        versions = [client.create_model_version(name, source, run_id)]
    client.set_registered_model_alias(name, alias, versions[0].version)


def _log_values(client: Any, run_id: str, entry: Entry) -> None:
    """Log in batches of at most what a server takes; values sent before are the same and change nothing."""
    from mlflow.entities import Metric, Param, RunTag

    params = [Param(key, value) for key, value in entry.run.params.items()]
    metrics = [Metric(key, value, entry.run.ended_ms, 0) for key, value in entry.run.metrics.items()]
    tags = [RunTag(key, value) for key, value in entry.run.tags.items()]
    for batch in _batches(params, _PARAMS_AT_ONCE):
        client.log_batch(run_id, params=batch)
    for batch in _batches(metrics, _METRICS_AT_ONCE):
        client.log_batch(run_id, metrics=batch)
    for batch in _batches(tags, _PARAMS_AT_ONCE):
        client.log_batch(run_id, tags=batch)


def _batches(items: Sequence[Any], size: int) -> Iterator[Sequence[Any]]:
    return (items[start : start + size] for start in range(0, len(items), size))


@contextmanager
def _quiet() -> Iterator[None]:
    """Limit mlflow's patience and its chatter on stderr while the block runs, and restore both."""
    given = {name: value for name, value in _SETTINGS.items() if name not in os.environ}
    loggers = [logging.getLogger(name) for name in ("mlflow", "alembic")]
    before = [logger.level for logger in loggers]
    os.environ.update(given)
    try:
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        yield
    finally:
        for name in given:
            os.environ.pop(name, None)
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)
