"""Sends results to the remote store behind the builds that made them: objects first, the result last."""

from __future__ import annotations

import contextlib
import hashlib
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from builder.progress import Silent
from builder.store.actions import Store
from builder.store.objects import CorruptError
from builder.store.remote.address import remote_address
from builder.store.remote.client import Client, OutageError
from builder.store.remote.remote import Marks, object_name, result_name
from builder.util.detached import run_module
from builder.util.locks import exclusive, exclusive_or_none


@dataclass(frozen=True, kw_only=True)
class SendReport:
    """What one pass did."""

    sent: int
    waiting: int
    reason: str | None
    """Why something could not be sent."""


def send_waiting(store: Path, *, wait: bool, say: Callable[[str], None] = lambda _: None) -> SendReport:
    """Send what waits for the remote that the environment names; with `wait`, after another process that does so.

    Raises ConfigurationError and UnfitEnvironmentError where there cannot be such a remote.
    """
    address = remote_address()
    if address is None or not address.can_write:
        return SendReport(sent=0, waiting=0, reason=None)
    marks, sent = Marks(address, store), 0
    reason: str | None = None
    while marks.waiting() and reason is None:  # a build that finds the lock taken goes away: look again afterwards
        with contextlib.ExitStack() as stack:
            if wait:
                stack.enter_context(
                    exclusive(marks.lock, on_wait=lambda: say("waiting for another process that sends"))
                )
            elif not stack.enter_context(exclusive_or_none(marks.lock)):
                break
            now, reason = _send_all(marks, Store(store, Silent()))
            marks.note_failure(reason)
            sent += now
    return SendReport(sent=sent, waiting=len(marks.waiting()), reason=reason)


def _send_all(marks: Marks, store: Store) -> tuple[int, str | None]:
    """Send every marked result; how many there were, and why the rest could not be sent."""
    client, there, sent = Client(), set[str](), 0
    try:
        for stage, key in marks.waiting():
            sent += _send(client, marks, store, stage, key, there)
            marks.sent(stage, key)
    except OutageError as error:
        return sent, str(error)
    except OSError as error:
        return sent, f"the local store cannot be read: {error.strerror}"
    finally:
        client.close()
    return sent, None


def _send(client: Client, marks: Marks, store: Store, stage: str, key: str, there: set[str]) -> bool:
    """Send one result after its objects; False where the local store has lost part of it meanwhile."""
    found = store.own(stage, key)
    if found is None:
        return False
    text, action = found
    try:
        for digest in dict.fromkeys(_objects(store, action.objects)):
            if digest not in there:
                _send_object(client, marks, store, digest)
                there.add(digest)
    except CorruptError:
        return False
    with tempfile.NamedTemporaryFile(dir=store.root / "tmp") as file:
        file.write(text)
        file.flush()
        client.put(Path(file.name), result_name(stage, key))
    return True


def _objects(store: Store, named: Mapping[str, str]) -> Iterator[str]:
    """The digests of all objects of a result: files of a folder before the folder."""
    for name, digest in sorted(named.items()):
        if name.endswith("/"):
            yield from (file for file in sorted(store.objects.read_manifest(digest).values()) if file)
        yield digest


def _send_object(client: Client, marks: Marks, store: Store, digest: str) -> None:
    """Send an object that is not there yet, or not whole. Raises CorruptError where the local one is damaged."""
    file = store.objects.path(digest)
    if not file.exists():
        if client.size(object_name(digest)) is None:
            raise CorruptError(f"{digest} is gone")
        return  # it arrived there from another machine, and never here
    is_damaged = marks.is_damaged(digest)
    if not is_damaged and client.size(object_name(digest)) in (file.stat().st_size, -1):
        return
    with file.open("rb") as stream:
        if f"sha256:{hashlib.file_digest(stream, 'sha256').hexdigest()}" != digest:
            raise CorruptError(f"{digest} was damaged")
    client.put(file, object_name(digest))
    if is_damaged:
        marks.replaced(digest)


def start_sender(store: Path) -> None:
    """Start a process that sends what waits and outlives this one; nobody waits for it, and init takes it over."""
    address = remote_address()
    assert address is not None  # whoever calls has it open
    with contextlib.suppress(OSError):
        run_module("builder.store.remote", ["send", str(store)], Marks(address, store).log, wait=False)
