"""Flushing without mlflow: a store of ours stands in, so that outages, interruptions and races can be played."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import builder.tracking as tracking
from builder.artifacts.record import BuildRecord
from builder.errors import UnfitEnvironmentError
from builder.progress import Silent
from builder.tracking import flusher, mlflow_store, outbox
from builder.util.locks import exclusive

Publish = Callable[..., BuildRecord]


class FakeStore:
    """Keeps what was sent by record id; can be down, and can fail for one record."""

    def __init__(self) -> None:
        self.sent: list[str] = []
        self.down = False
        self.refused: str | None = None
        self.on_send: Callable[[], None] = lambda: None

    @contextmanager
    def connected(self, uri: str) -> Iterator[Any]:
        if self.down:
            raise ConnectionError(f"no answer from {uri}\nand a long explanation")
        yield self

    def send(self, client: Any, entry: outbox.Entry, folder: Path, outputs: Path, *, artifact_note: str | None) -> str:
        self.on_send()
        if entry.identifier == self.refused:
            raise ValueError("refused by the server")
        self.sent.append(entry.identifier)
        return "run"


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> FakeStore:
    fake = FakeStore()
    monkeypatch.setattr(mlflow_store, "connected", fake.connected)
    monkeypatch.setattr(mlflow_store, "send", fake.send)
    return fake


@pytest.fixture
def outputs(tmp_path: Path) -> Path:
    return tmp_path / "outputs"


class Listener(Silent):
    """Keeps warnings."""

    def __init__(self) -> None:
        self.warnings: list[str] = []

    def warn(self, message: str, *, code: str) -> None:
        self.warnings.append(message)


def test_records_are_kept_while_the_server_is_down_and_sent_once_it_is_back(
    store: FakeStore, record: BuildRecord, publish: Publish, outputs: Path
) -> None:
    names = [outbox.put(publish(record), outputs) for _ in range(3)]
    store.down = True

    report = flusher.flush(outputs)

    assert {kept.identifier for kept in report.kept} == set(names)
    assert "no answer from sqlite:///" in report.kept[0].reason
    assert outbox.read_failure(outputs, names[0]) == report.kept[0].reason

    store.down = False
    report = flusher.flush(outputs)

    assert sorted(report.sent) == sorted(names)
    assert list((outputs / ".outbox").iterdir()) == []


def test_one_refused_record_does_not_hold_back_the_others(
    store: FakeStore, record: BuildRecord, publish: Publish, outputs: Path
) -> None:
    names = [outbox.put(publish(record), outputs) for _ in range(3)]
    store.refused = names[1]
    (outputs / ".outbox" / "damaged.json").write_text("{")

    report = flusher.flush(outputs)

    assert set(report.sent) == {names[0], names[2]}
    assert {kept.identifier for kept in report.kept} == {names[1], "damaged"}


def test_two_flushers_send_each_record_once(
    store: FakeStore, record: BuildRecord, publish: Publish, outputs: Path
) -> None:
    names = [outbox.put(publish(record), outputs) for _ in range(6)]
    threads = [threading.Thread(target=flusher.flush, args=(outputs,)) for _ in range(4)]

    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)

    assert sorted(store.sent) == sorted(names)


def test_record_that_comes_in_while_the_lock_is_held_is_sent_by_its_holder(
    store: FakeStore, record: BuildRecord, publish: Publish, outputs: Path
) -> None:
    publish(record)
    outbox.put(record, outputs)

    def build_meanwhile() -> None:
        store.on_send = lambda: None
        outbox.put(record, outputs)
        assert flusher.flush(outputs, wait=False).busy

    store.on_send = build_meanwhile

    report = flusher.flush(outputs)

    assert len(report.sent) == 2


def test_nothing_to_send_touches_nothing(store: FakeStore, outputs: Path) -> None:
    store.down = True

    assert flusher.flush(outputs) == flusher.FlushReport()
    assert not outputs.exists()


def test_waiting_for_another_flusher_is_said(
    store: FakeStore, record: BuildRecord, publish: Publish, outputs: Path
) -> None:
    outbox.put(publish(record), outputs)
    said: list[str] = []
    heard = threading.Event()

    def say(message: str) -> None:
        said.append(message)
        heard.set()

    thread = threading.Thread(target=lambda: flusher.flush(outputs, say=say))
    with exclusive(flusher.outbox_lock(outputs)):
        thread.start()
        assert heard.wait(10)
    thread.join(10)

    assert said[0] == "waiting for the flusher that the build started"
    assert len(store.sent) == 1


def test_build_tells_of_earlier_failures_and_starts_a_flusher(
    store: FakeStore, record: BuildRecord, publish: Publish, outputs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    outbox.put(publish(record), outputs)
    store.down = True
    flusher.flush(outputs)
    started: list[Path] = []
    monkeypatch.setattr(tracking, "start_flusher", started.append)
    listener = Listener()

    tracking.track(record, outputs=outputs, progress=listener)

    assert started == [outputs]
    assert len(outbox.waiting(outputs)) == 2
    assert listener.warnings[0].startswith("1 earlier run waits to be sent to MLflow (no answer")


def test_required_tracking_that_fails_makes_the_environment_unfit(
    store: FakeStore,
    make_record: Callable[..., BuildRecord],
    record: BuildRecord,
    publish: Publish,
    outputs: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config = {**record.request.config, "tracking": {"kind": "mlflow", "required": True}}
    spec = type(record.request.spec).model_validate(config)
    request = type(record.request)(**{**vars(record.request), "spec": spec})
    required = publish(make_record(request=request))
    monkeypatch.setattr(tracking, "wait_for_flusher", flusher.flush)
    store.down = True

    with pytest.raises(UnfitEnvironmentError, match="no answer from sqlite") as caught:
        tracking.track(required, outputs=outputs, progress=Silent())
    assert caught.value.exit_code == 7

    store.down = False
    tracking.track(required, outputs=outputs, progress=Silent())
    assert len(store.sent) == 2, "the one that waited, and this one"


def test_failure_to_write_the_outbox_does_not_fail_a_build(
    record: BuildRecord, publish: Publish, outputs: Path
) -> None:
    publish(record)
    (outputs / ".outbox").write_text("in the way")
    listener = Listener()

    tracking.track(record, outputs=outputs, progress=listener)

    assert listener.warnings[0].startswith("the run was not recorded in MLflow: ")


def test_cause_is_found_in_nested_messages() -> None:
    nested = ConnectionError(
        "API request to http://127.0.0.1:5997/api failed with exception HTTPConnectionPool(host='127.0.0.1', "
        'port=5997): Max retries exceeded (Caused by NewConnectionError("HTTPConnection: Failed to establish a new '
        'connection: [Errno 111] Connection refused"))'
    )

    assert mlflow_store.cause_of(nested) == "Connection refused"
    assert mlflow_store.cause_of(ValueError("first line\nsecond")) == "first line"
    assert mlflow_store.cause_of(TimeoutError()) == "TimeoutError"
