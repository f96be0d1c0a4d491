"""Sends one entry of the outbox to an MLflow store; the only file that imports mlflow, and only inside functions."""

from __future__ import annotations

import hashlib
import logging
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

from builder.tracking.logged_model import log_model
from builder.tracking.outbox import ARTIFACT, EXAMPLE, Entry
from builder.util import paths
from builder.util.locks import exclusive
from builder.util.redact import redacted

if TYPE_CHECKING:
    from mlflow import MlflowClient

RECORD_TAG = "builder.record_id"
COMPLETE_TAG = "builder.complete"
"""Set last: a run without it was interrupted while it was sent."""
_TRAINING = {"mlflow.experimentKind": "custom_model_development"}
"""Makes MLflow's page open on runs, parameters and charts, not on its tools for language models."""
_VIEW, _NOTE = "workflowType=machine_learning", "mlflow.note.content"
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
def connected(uri: str) -> Iterator[MlflowClient]:
    """Yield an MlflowClient that has answered once.

    A sqlite store is held by one process at a time, across outputs folders too: several processes that create its
    tables at once crash each other.
    """
    with ExitStack() as stack:
        stack.enter_context(_quiet())
        if uri.startswith("sqlite:///"):
            database = Path(uri.removeprefix("sqlite:///")).absolute()
            stack.enter_context(exclusive(database.with_name(f".{database.name}.lock")))
        import mlflow

        stack.callback(mlflow.set_tracking_uri, mlflow.get_tracking_uri())
        mlflow.set_tracking_uri(uri)  # a registry asks for a logged model where mlflow itself is set to
        client = mlflow.MlflowClient(tracking_uri=uri, registry_uri=uri)
        try:
            client.search_experiments(max_results=1)
        except Exception as error:
            raise ConnectionError(f"{redacted(uri)} does not answer: {redacted(cause_of(error))}") from error
        yield client


def cause_of(error: Exception) -> str:
    """The part of mlflow's and urllib3's nested messages that says what happened, in one line."""
    found = re.findall(r"\[Errno -?\d+\] ([^\"'()]+)", str(error))
    return str(found[-1]) if found else next(iter(str(error).splitlines()), type(error).__name__)[:200]


def send(client: MlflowClient, entry: Entry, folder: Path, outputs: Path, *, artifact_note: str | None) -> str:
    """Send `entry` with the files in `folder` and return the run's id; a second call for it changes nothing."""
    experiment = _experiment(client, entry.experiment, outputs)
    run = _find_run(client, experiment, entry.identifier)
    if run is not None and run.data.tags.get(COMPLETE_TAG) == "true":
        return str(run.info.run_id)
    run_id = run.info.run_id if run is not None else _create_run(client, experiment, entry)
    logged = log_model(client, entry, folder, experiment, run_id)
    _log_values(client, run_id, entry, logged.model_id)
    _log_datasets(client, run_id, entry)
    elsewhere = {EXAMPLE} if logged.model_id is None else {EXAMPLE, ARTIFACT}  # in the model's files
    for path in sorted(folder.iterdir()):
        if path.name not in elsewhere:
            _log_file(client, run_id, path)
    if artifact_note is not None:
        client.set_tag(run_id, "artifact.note", artifact_note)
    elif entry.register_as is not None:
        _register(client, run_id, logged.model_id, entry.register_as, entry.alias)
    if logged.note:
        client.set_tag(run_id, "model.note", logged.note)
    client.set_tag(run_id, _NOTE, described(entry, experiment, logged.model_id))
    client.set_terminated(run_id, entry.run.status, end_time=entry.run.ended_ms)
    client.set_tag(run_id, COMPLETE_TAG, "true")
    return str(run_id)


def described(entry: Entry, experiment: str, model_id: str | None) -> str:
    """The description of a run with links to its model and to charts.

    Which of its two views MLflow shows is in the address and in the browser, not in the experiment (its tag
    `mlflow.experimentKind` is for servers before 3.17): a new browser opens on language models, and the links do not.
    """
    links = [] if model_id is None else [f"[model](#/experiments/{experiment}/models/{model_id}?{_VIEW})"]
    sweep = entry.run.tags.get("sweep_id", "")
    if sweep:
        chosen = quote(f"tags.sweep_id = '{sweep}'")
        address = f"#/experiments/{experiment}/runs?{_VIEW}&compareRunsMode=CHART&searchFilter={chosen}"
        links.append(f"[charts of this sweep]({address})")
    links.append(f"[charts of all runs](#/experiments/{experiment}/runs?{_VIEW}&compareRunsMode=CHART)")
    return f"{' · '.join(links)}\n\n{entry.run.tags.get(_NOTE, '')}"


def _log_file(client: MlflowClient, run_id: str, path: Path) -> None:
    """Log a file, or a folder under its own name."""
    if path.is_dir():
        client.log_artifacts(run_id, str(path), path.name)
    else:
        client.log_artifact(run_id, str(path))


def _log_datasets(client: MlflowClient, run_id: str, entry: Entry) -> None:
    """Link the run to the data of its checks; the same link twice is one."""
    from mlflow.entities import Dataset, DatasetInput, InputTag

    inputs = [
        DatasetInput(
            dataset=Dataset(name=data.name, digest=data.digest, source_type="builder", source=data.source),
            tags=[InputTag("mlflow.data.context", ", ".join(data.checks))],
        )
        for data in entry.run.datasets
    ]
    if inputs:
        client.log_inputs(run_id, datasets=inputs)


def _experiment(client: MlflowClient, name: str, outputs: Path) -> str:
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


def _find_run(client: MlflowClient, experiment: str, identifier: str) -> Any | None:
    from mlflow.entities import ViewType

    runs = client.search_runs(
        [experiment], f"tags.`{RECORD_TAG}` = '{identifier}'", run_view_type=ViewType.ALL, max_results=1
    )
    return runs[0] if runs else None


def _create_run(client: MlflowClient, experiment: str, entry: Entry) -> str:
    run = client.create_run(
        experiment, start_time=entry.run.started_ms, tags={RECORD_TAG: entry.identifier}, run_name=entry.run.name
    )
    return str(run.info.run_id)


def _register(client: MlflowClient, run_id: str, model_id: str | None, name: str, alias: str) -> None:
    """Make the logged model, or the run's artifact, a version of the registered model `name`, once; give it `alias`."""
    from mlflow.exceptions import MlflowException

    versions = [v for v in client.search_model_versions(f"run_id = '{run_id}'") if v.name == name]
    if not versions:
        try:
            client.create_registered_model(name)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
        files = f"{client.get_run(run_id).info.artifact_uri}/{ARTIFACT}"
        source = files if model_id is None else f"models:/{model_id}"
        versions = [client.create_model_version(name, source, run_id, model_id=model_id)]
    client.set_registered_model_alias(name, alias, versions[0].version)


def _log_values(client: MlflowClient, run_id: str, entry: Entry, model_id: str | None) -> None:
    """Log in batches of at most what a server takes; values sent before are the same and change nothing.

    Metrics are the logged model's too, each with the data that it was measured on.
    """
    from mlflow.entities import Metric, Param, RunTag

    params = [Param(key, value) for key, value in entry.run.params.items()]
    data = {check: dataset for dataset in entry.run.datasets for check in dataset.checks}
    metrics = [
        Metric(
            key,
            value,
            entry.run.ended_ms,
            0,
            model_id=model_id,
            dataset_name=measured_on.name if measured_on else None,
            dataset_digest=measured_on.digest if measured_on else None,
            run_id=run_id,
        )
        for key, value in entry.run.metrics.items()
        for measured_on in (data.get(key.partition("/")[0]),)
    ]
    tags = [RunTag(key, value) for key, value in entry.run.tags.items()]
    for batch in _batches(params, _PARAMS_AT_ONCE):
        client.log_batch(run_id, params=batch)
    for batch in _batches(metrics, _METRICS_AT_ONCE):
        client.log_batch(run_id, metrics=batch)
    for batch in _batches(tags, _PARAMS_AT_ONCE):
        client.log_batch(run_id, tags=batch)


def _batches(items: Sequence[object], size: int) -> Iterator[Sequence[object]]:
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
