"""Empties the outbox into MLflow: one process at a time, each record once, and none lost when a server is down."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from builder.tracking import mlflow_store, outbox
from builder.util import paths
from builder.util.detached import run_module
from builder.util.locks import exclusive, exclusive_or_none
from builder.util.redact import redacted


@dataclass(frozen=True, kw_only=True)
class RetainedEntry:
    """A record that stays in the outbox, and why."""

    identifier: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class FlushReport:
    """What one pass over the outbox did."""

    sent: tuple[str, ...] = ()
    kept: tuple[RetainedEntry, ...] = ()
    busy: bool = False
    """Another flusher is at work, and this one did not wait."""


WAITING = "waiting for the flusher that the build started"


def flush(outputs: Path, *, wait: bool = True, say: Callable[[str], None] = lambda _: None) -> FlushReport:
    """Send what waits in the outbox of `outputs`; with `wait`, after another flusher has ended.

    Records that come in meanwhile are sent too. No failure to send raises: it is in the report, and kept beside the
    record. Raises UnfitEnvironmentError where the outbox cannot be written.
    """
    lock = outbox_lock(outputs)
    sent: list[str] = []
    kept: list[RetainedEntry] = []
    tried: set[str] = set()
    # A build that finds the lock taken goes away, so whoever held it looks once more after letting go.
    while new := [name for name in outbox.waiting(outputs) if name not in tried]:
        tried.update(new)
        with ExitStack() as stack, paths.writing(outputs):
            if wait:
                stack.enter_context(exclusive(lock, on_wait=lambda: say(WAITING)))
            elif not stack.enter_context(exclusive_or_none(lock)):
                return FlushReport(sent=tuple(sent), kept=tuple(kept), busy=True)
            outbox.remove_forgotten(outputs)
            for name, reason in _send_all(outputs, [name for name in new if outbox.is_waiting(outputs, name)], say):
                if reason is None:
                    sent.append(name)
                else:
                    kept.append(RetainedEntry(identifier=name, reason=reason))
    return FlushReport(sent=tuple(sent), kept=tuple(kept))


def outbox_lock(outputs: Path) -> Path:
    """The lock of the one flusher."""
    return paths.outbox_folder(outputs) / "flush.lock"


def start_flusher(outputs: Path) -> None:
    """Start a flusher that outlives this process, and do not wait for it; what it says goes to `flush.log`.

    The shell in between ends at once, so that the flusher belongs to init and leaves no zombie behind.
    """
    run_module("builder.tracking", [str(outputs.absolute()), "--no-wait"], _log(outputs), wait=False)


def wait_for_flusher(outputs: Path) -> None:
    """Run a flusher in a process of its own (a build does not import mlflow) and wait until it ends."""
    run_module("builder.tracking", [str(outputs.absolute())], _log(outputs), wait=True)


def _log(outputs: Path) -> Path:
    return paths.outbox_folder(outputs) / "flush.log"


def _send_all(outputs: Path, names: list[str], say: Callable[[str], None]) -> list[tuple[str, str | None]]:
    """Send records, those of one server together; each with the reason why it was kept, or None."""
    results: list[tuple[str, str | None]] = []
    entries: list[outbox.Entry] = []
    for name in names:
        try:
            entries.append(outbox.read(outputs, name))
        except (ValueError, OSError) as error:
            results.append((name, _keep(outputs, name, error, say)))
    entries.sort(key=lambda entry: mlflow_store.store_uri(entry.uri, outputs))
    for uri, group in groupby(entries, key=lambda entry: mlflow_store.store_uri(entry.uri, outputs)):
        results += _send_group(outputs, uri, list(group), say)
    return results


def _send_group(
    outputs: Path, uri: str, entries: list[outbox.Entry], say: Callable[[str], None]
) -> list[tuple[str, str | None]]:
    results: list[tuple[str, str | None]] = []
    remaining = list(entries)
    try:
        with mlflow_store.connected(uri) as client:
            while remaining:
                results.append((remaining[0].identifier, _send_one(client, outputs, remaining[0], say)))
                del remaining[0]
    except Exception as error:  # mlflow raises whatever its store raises: keep and say
        results += [(entry.identifier, _keep(outputs, entry.identifier, error, say)) for entry in remaining]
    return results


def _send_one(client: object, outputs: Path, entry: outbox.Entry, say: Callable[[str], None]) -> str | None:
    try:
        entry, note = outbox.without_changed_artifact(outputs, entry)
        folder = outbox.files_folder(outputs, entry.identifier)
        run_id = mlflow_store.send(client, entry, folder, outputs, artifact_note=note)
    except Exception as error:  # as below; the other records are still sent
        return _keep(outputs, entry.identifier, error, say)
    outbox.remove(outputs, entry.identifier)
    say(f"sent {entry.run.name} as run {run_id}" + (f" (the artifact was {note})" if note else ""))
    return None


def _keep(outputs: Path, name: str, error: Exception, say: Callable[[str], None]) -> str:
    message = str(error) if isinstance(error, (ConnectionError, ValueError)) else f"{type(error).__name__}: {error}"
    reason = redacted((message.splitlines() or [type(error).__name__])[0])[:500]
    outbox.note_failure(outputs, name, reason)
    say(f"kept {name}: {reason}")
    return reason
