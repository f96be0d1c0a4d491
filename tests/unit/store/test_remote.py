"""The store behind the local one: what arrives is whole or not used, an outage costs time only, secrets stay out."""

from __future__ import annotations

import os
import stat
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from builder.analysis import installation
from builder.errors import ConfigurationError, UnfitEnvironmentError
from builder.progress import Silent
from builder.store.actions import ActionResult, Store
from builder.store.digests import digest_of
from builder.store.objects import CorruptError
from builder.store.remote import address, client, remote, sender
from builder.store.remote.address import parse_address
from builder.store.remote.remote import Remote, object_name, open_remote, result_name
from builder.store.remote.sender import send_waiting
from tests.s3 import S3, SECRET

KEY = digest_of("a key")
NAME = result_name("seal", KEY)


class Heard(Silent):
    """Keeps the warnings."""

    def __init__(self) -> None:
        self.warnings: list[str] = []

    def warn(self, message: str, *, code: str) -> None:
        self.warnings.append(message)


@pytest.fixture(autouse=True)
def unsynced(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody cuts the power here, and no process goes on after a test."""
    monkeypatch.setattr(os, "fsync", lambda _: None)
    monkeypatch.setattr(sender, "start_sender", lambda _: None)


@pytest.fixture
def shared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder that is the remote store."""
    folder = tmp_path / "shared"
    folder.mkdir()
    monkeypatch.setenv("BUILDER_REMOTE", str(folder))
    return folder


class Machine:
    """A local store and what its build says; `close` is the end of a build."""

    def __init__(self, root: Path) -> None:
        self.heard = Heard()
        remote = open_remote(root / "store", self.heard)
        assert remote is not None
        self.remote: Remote = remote
        self.store = Store(root / "store", self.heard, remote)

    def close(self) -> None:
        self.remote.close(send=False)

    def build(self, content: bytes = b"weights", *, key: str = KEY) -> ActionResult:
        """What a stage does that makes one folder with one file and an empty folder."""
        files = {"Data/weights.bin": self.store.objects.put_bytes(content), "Data/empty/": ""}
        objects = {"package/": self.store.objects.put_manifest(files)}
        action = ActionResult(
            stage="seal", key=key, inputs={"a": "b"}, output=digest_of("artifact"), line="", record={}, objects=objects
        )
        self.store.put(action)
        return action

    def find(self, key: str = KEY) -> ActionResult | None:
        return self.store.find("seal", key, lambda action: action)

    def restored(self, action: ActionResult, target: Path) -> bytes:
        self.store.objects.restore_folder(action.objects["package/"], target)
        assert (target / "Data/empty").is_dir()
        return (target / "Data/weights.bin").read_bytes()


@pytest.fixture
def machines(tmp_path: Path) -> Iterator[Any]:
    made: list[Machine] = []

    def make(name: str) -> Machine:
        made.append(Machine(tmp_path / name))
        return made[-1]

    yield make
    for machine in made:
        machine.close()


def send(machine: Machine) -> sender.SendReport:
    return send_waiting(machine.store.root, wait=True)


def test_what_one_machine_built_another_takes(shared: Path, machines: Any, tmp_path: Path) -> None:
    # given a result that waits to be sent when its build has ended
    one = machines("one")
    built = one.build()
    assert list(shared.iterdir()) == []
    report = send(one)
    assert (report.sent, report.waiting, report.reason) == (1, 0, None)
    # when another machine seeks it
    other = machines("other")
    found = other.find()
    # then it is the same, objects come when they are read, and nothing is to be sent back
    assert found == built
    assert not (other.store.root / "cas").exists()
    assert other.restored(found, tmp_path / "out") == b"weights"
    assert other.remote.marks.waiting() == []
    # and from then on the remote is not needed
    other.close()
    alone = Store(other.store.root, Silent())
    assert alone.find("seal", KEY, lambda action: action) == built
    alone.objects.restore_folder(built.objects["package/"], tmp_path / "again")
    assert other.heard.warnings == []


def test_objects_are_sent_before_the_result_that_names_them(
    shared: Path, machines: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = machines("one")
    action = one.build()
    sent: list[str] = []
    put = client.Client.put

    def noted(self: client.Client, source: Path, name: str) -> None:
        sent.append(name)
        put(self, source, name)

    monkeypatch.setattr(client.Client, "put", noted)
    send(one)
    manifest = action.objects["package/"]
    weights = one.store.objects.read_manifest(manifest)["Data/weights.bin"]
    assert sent == [object_name(weights), object_name(manifest), NAME]
    # and what is there already is not sent again
    one.build()
    send(one)
    assert sent[3:] == [NAME]


def forge(path: Path, content: bytes) -> None:
    path.chmod(0o644)
    path.write_bytes(content)


DAMAGED = (b"", b"{}", b"[" * 100_000, b"\xff\xfe", b'{"schema": 4, "digest": "sha256:0", "action": {}}')


def test_a_damaged_result_is_a_miss_and_is_mended(shared: Path, machines: Any) -> None:
    # given results that somebody damaged, each in another way
    one, other, third = machines("one"), machines("other"), machines("third")
    keys = [digest_of(str(content)) for content in DAMAGED]
    for key in keys:
        one.build(key=key)
    send(one)
    for key, content in zip(keys, DAMAGED, strict=True):
        forge(shared / result_name("seal", key), content)
    # when another machine seeks them
    assert [other.find(key) for key in keys] == [None] * len(keys)
    # then it says so, keeps nothing of them, and what it builds takes their place
    assert set(other.heard.warnings) == {"seal runs again, since the remote store's result of it is damaged"}
    assert not (other.store.root / "actions").exists()
    for key in keys:
        other.build(key=key)
    send(other)
    assert [third.find(key).key for key in keys] == keys


def test_a_result_of_another_key_is_a_miss(shared: Path, machines: Any) -> None:
    one, other = machines("one"), machines("other")
    one.build()
    send(one)
    (shared / result_name("seal", digest_of("another"))).write_bytes((shared / NAME).read_bytes())
    assert other.store.find("seal", digest_of("another"), lambda action: action) is None
    assert len(other.heard.warnings) == 1


def test_a_record_that_its_stage_does_not_have_is_a_miss(shared: Path, machines: Any) -> None:
    one, other = machines("one"), machines("other")
    one.build()
    send(one)

    def refuse(_: ActionResult) -> None:
        raise ValueError("another record")

    assert other.store.find("seal", KEY, refuse) is None
    assert not (other.store.root / "actions").exists()


def test_a_damaged_object_is_not_used_and_is_replaced(shared: Path, machines: Any, tmp_path: Path) -> None:
    # given an object of the right size and other content
    one, other, third = machines("one"), machines("other"), machines("third")
    action = one.build()
    send(one)
    weights = one.store.objects.read_manifest(action.objects["package/"])["Data/weights.bin"]
    forge(shared / object_name(weights), b"WEIGHTS")
    # when another machine reads it: it is gone for that build, and once that has built it, it is whole again
    found = other.find()
    with pytest.raises(CorruptError):
        other.restored(found, tmp_path / "out")
    assert "damaged object" in other.heard.warnings[0]
    other.store.drop(found, "damaged")
    assert other.find() is None  # it is not taken again, or the build would never end
    other.build()
    send(other)
    assert third.restored(third.find(), tmp_path / "third") == b"weights"


def test_an_object_that_is_gone_is_sent_again(shared: Path, machines: Any, tmp_path: Path) -> None:
    one, other, third = machines("one"), machines("other"), machines("third")
    action = one.build()
    send(one)
    weights = one.store.objects.read_manifest(action.objects["package/"])["Data/weights.bin"]
    (shared / object_name(weights)).unlink()  # as a bucket's rule of expiry does
    with pytest.raises(CorruptError):
        other.restored(other.find(), tmp_path / "out")
    other.build()
    send(other)
    assert third.restored(third.find(), tmp_path / "third") == b"weights"


def test_a_local_object_that_is_damaged_is_never_sent(shared: Path, machines: Any) -> None:
    one = machines("one")
    action = one.build()
    weights = one.store.objects.read_manifest(action.objects["package/"])["Data/weights.bin"]
    forge(one.store.objects.path(weights), b"WEIGHTS")
    report = send(one)
    assert (report.sent, report.waiting) == (0, 0)
    assert not (shared / NAME).exists()


def test_results_of_strangers_in_a_shared_folder_are_not_used(
    shared: Path, machines: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can give files away")
    one = machines("one")
    one.build()
    send(one)
    os.chown(shared / NAME, 4321, -1)
    other = machines("other")
    assert other.find() is None
    assert "results of the user 4321 are not used" in other.heard.warnings[0]
    monkeypatch.setenv("BUILDER_TRUSTED_OWNERS", "4321")
    assert machines("third").find() is not None


def test_files_of_a_shared_folder_can_be_read_by_others(shared: Path, machines: Any) -> None:
    one = machines("one")
    one.build()
    send(one)
    modes = {stat.S_IMODE(path.stat().st_mode) for path in shared.rglob("*") if path.is_file()}
    assert modes == {0o644, 0o444}


def test_a_disk_that_is_not_mounted_is_an_outage_said_once(machines: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BUILDER_REMOTE", "/nowhere/at/all")
    one = machines("one")
    assert one.find() is None
    one.build()
    assert one.store.find("load", KEY, lambda action: action) is None
    assert len(one.heard.warnings) == 1
    assert "is not used in this build: FileNotFoundError" in one.heard.warnings[0]
    # what was built waits, and the next build says so
    report = send(one)
    assert (report.sent, report.waiting) == (0, 1)
    again = Machine(one.store.root.parent)
    again.remote.close(send=True)
    assert "1 result waits to be sent to /nowhere/at/all (FileNotFoundError" in again.heard.warnings[0]


def test_jobs_side_by_side_do_not_all_wait_for_a_remote_that_does_not_answer(
    machines: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BUILDER_REMOTE", "/nowhere/at/all")
    machines("one").find()
    monkeypatch.setattr(client.Client, "get", lambda *_, **__: pytest.fail("asked again"))
    again = machines("one")
    assert again.find() is None
    assert len(again.heard.warnings) == 1


def test_a_reader_sends_nothing(shared: Path, machines: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BUILDER_REMOTE_ACCESS", "read")
    one = machines("one")
    one.build()
    assert one.remote.marks.waiting() == []
    assert send(one).sent == 0


def test_a_process_that_was_killed_leaves_nothing_behind_that_counts(shared: Path, machines: Any) -> None:
    # given: marks survive the process, and a sender that died with one object half written
    one = machines("one")
    one.build()
    one.close()
    (shared / "tmp").mkdir()
    (shared / "tmp" / "half").write_bytes(b"wei")
    # when the next command sends
    assert send(Machine(one.store.root.parent)).sent == 1
    assert machines("other").find() is not None


@pytest.fixture
def web(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A server on loopback of whose requests the test says what happens; nothing is told on stderr."""
    answers: dict[str, Any] = {}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            answers["get"](self)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    answers["address"] = f"http://127.0.0.1:{server.server_port}/store"
    monkeypatch.setenv("BUILDER_REMOTE", answers["address"])
    yield answers
    server.shutdown()
    server.server_close()
    thread.join()


def test_a_web_server_is_read(web: Any, shared: Path, machines: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    # given what a machine wrote to a folder, served as it is
    one = machines("one")
    one.build()
    send(one)

    def serve(handler: Any) -> None:
        file = shared / handler.path.removeprefix("/store/")
        handler.send_response(200 if file.is_file() else 404)
        handler.end_headers()
        handler.wfile.write(file.read_bytes() if file.is_file() else b"")

    web["get"] = serve
    monkeypatch.setenv("BUILDER_REMOTE", web["address"])
    other = machines("other")
    # then
    assert other.store.find("load", KEY, lambda action: action) is None
    assert other.restored(other.find(), shared.parent / "out") == b"weights"
    other.build(b"other weights")
    assert other.remote.marks.waiting() == []
    assert other.heard.warnings == []


def test_a_slow_server_costs_some_seconds(web: Any, machines: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    # given a server that sends a byte now and then, for ever
    stop = threading.Event()

    def drip(handler: Any) -> None:
        handler.send_response(200)
        handler.end_headers()
        while not stop.wait(0.05):
            handler.wfile.write(b"x")
            handler.wfile.flush()

    web["get"] = drip
    monkeypatch.setattr(client, "PATIENCE", 1.0)
    one = machines("one")
    one.remote._client._started()  # imports are not the server's fault
    started = time.monotonic()
    # when
    found = one.find()
    seconds = time.monotonic() - started
    stop.set()
    # then
    assert found is None
    assert 1.0 < seconds < 3.0
    assert "too slow" in one.heard.warnings[0]
    assert one.find() is None
    assert time.monotonic() - started < seconds + 0.5


def test_a_server_that_sends_for_ever_costs_some_seconds(
    web: Any, machines: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    # given one that is never too slow, nor done
    stop = threading.Event()

    def flow(handler: Any) -> None:
        handler.send_response(200)
        handler.end_headers()
        while not stop.wait(0.02):
            handler.wfile.write(b"x" * 20_000)
            handler.wfile.flush()

    web["get"] = flow
    monkeypatch.setattr(client, "PATIENCE", 30.0)
    monkeypatch.setattr(remote, "SECONDS_OF_RESULT", 1.0)
    one = machines("one")
    one.remote._client._started()
    # when
    started = time.monotonic()
    found = one.find()
    seconds = time.monotonic() - started
    stop.set()
    # then
    assert found is None
    assert 1.0 < seconds < 4.0


@pytest.mark.parametrize(
    ("given", "access", "said"),
    [
        ("ftp://host/x", "", "cannot be at ftp://"),
        ("s3://", "", "names no bucket"),
        ("s3://key:secretsecret@bucket/x", "", "has a user, a password or a query"),
        ("https://host/x?sig=secretsecret", "", "has a user, a password or a query"),
        ("https://host/x", "write", "can only be read"),
        ("http://host/x", "", "whoever is on the way"),
        ("file://relative/x", "", "three slashes"),
        ("https://host:port/x", "", "not an address"),
        ("/tmp", "both", "neither `read` nor `write`"),
        (__file__, "", "is not a folder"),
        (f"file://{quote(__file__)}", "", "is not a folder"),
        ("~nobody-of-that-name/x", "", "is not a folder"),
        ("user:secretsecret@host/x", "", "has a user and a password"),
        ("s3:key:secretsecret@bucket", "", "has a user and a password"),
        ("/tmp/\udc80", "", "cannot be printed"),
        ("/tmp/\x1b[31m", "", "cannot be printed"),
        ("x" * 10_000, "", "too long"),
    ],
)
def test_a_wrong_address_is_explained(given: str, access: str, said: str) -> None:
    with pytest.raises(ConfigurationError) as raised:
        parse_address(given, access)
    assert raised.value.code == "B0238"
    assert said in raised.value.message
    assert "secretsecret" not in f"{raised.value.message}{raised.value.hint}"


def test_addresses(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(address.importlib.util, "find_spec", lambda _: True)
    known = {
        "store": (str(tmp_path / "store"), True),
        "file:///a%20b": ("/a b", True),
        "S3://bucket/a/": ("s3://bucket/a", True),
        "gs://bucket": ("gs://bucket", True),
        "https://host:81/a": ("https://host:81/a", False),
        "http://127.0.0.1:81/a": ("http://127.0.0.1:81/a", False),
    }
    assert {text: (found.text, found.can_write) for text in known for found in [parse_address(text)]} == known


def test_a_missing_package_is_told_with_what_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(address.importlib.util, "find_spec", lambda _: None)
    with pytest.raises(UnfitEnvironmentError) as raised:
        parse_address("s3://bucket/x")
    assert raised.value.code == "B0701"
    assert "[remote]" in str(raised.value.hint)
    assert parse_address("/a/folder").can_write  # needs nothing


def test_s3_with_its_own_api(
    machines: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    server = S3()
    for name, value in server.environment("models/v1").items():
        monkeypatch.setenv(name, value)
    try:
        # given what one machine sent
        one, other = machines("one"), machines("other")
        one.build()
        assert send(one).sent == 1
        assert NAME in [name.removeprefix("models/v1/") for name in server.names()]
        # when another takes it
        assert other.restored(other.find(), tmp_path / "out") == b"weights"
        assert other.store.find("load", KEY, lambda action: action) is None
        # then `doctor` sees it
        assert installation._remote_store().summary == "s3://team-bucket/models/v1 (read and written) answers"
        # a bucket that is not there is a mistake and not an empty store
        monkeypatch.setenv("BUILDER_REMOTE", "s3://tame/models/v1")
        monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
        wrong = machines("wrong")
        wrong.find()
        assert "bucket does not exist" in wrong.heard.warnings[0]
    finally:
        server.stop()
    # a server that is gone is noticed once
    monkeypatch.setenv("BUILDER_REMOTE", "s3://team-bucket/models/v1")
    third = machines("third")
    assert third.find() is None
    assert third.find() is None
    assert len(third.heard.warnings) == 1
    # and no secret is in any file, or was said
    written = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    said = f"{third.heard.warnings}{other.heard.warnings}{capfd.readouterr()}"
    assert SECRET.encode() not in written
    assert SECRET not in said


def test_doctor_says_what_the_remote_store_is(monkeypatch: pytest.MonkeyPatch, shared: Path) -> None:
    assert installation._remote_store().summary == f"{shared} (read and written) answers"
    monkeypatch.setenv("BUILDER_REMOTE_ACCESS", "read")
    assert installation._remote_store().summary == f"{shared} (only read) answers"
    monkeypatch.setenv("BUILDER_REMOTE", "ftp://x")
    found = installation._remote_store()
    assert (found.fit, "cannot be at ftp://" in found.summary) == (False, True)
    monkeypatch.delenv("BUILDER_REMOTE")
    assert installation._remote_store().summary == "none, since BUILDER_REMOTE is not set"
