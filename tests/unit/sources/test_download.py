"""Downloads against a server on the loopback: verified, cached, and each failure told apart."""

from __future__ import annotations

import hashlib
import socket
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from builder.errors import SourceError
from builder.model.sources import download
from builder.model.sources.download import OfflineError, fetch, file_digest
from builder.progress import Advance, Silent

BODY = bytes(range(256)) * 5000
DIGEST = hashlib.sha256(BODY).hexdigest()


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        name = self.path.rpartition("/")[2]
        if name.startswith("missing"):
            self.send_error(404)
            return
        if name.startswith("moved"):
            self.send_response(302)
            self.send_header("Location", "/ok.bin")
            self.end_headers()
            return
        if name.startswith("slow"):
            self.server.stopping.wait(5)  # type: ignore[attr-defined]  # set by the fixture
            return
        self.send_response(200)
        if not name.startswith("unsized"):
            self.send_header("Content-Length", str(len(BODY)))
        self.end_headers()
        if name.startswith("stalls"):
            self.wfile.write(BODY[:1000])
            self.wfile.flush()
            self.server.stopping.wait(5)  # type: ignore[attr-defined]  # set by the fixture
            return
        self.wfile.write(BODY[: len(BODY) // 2] if name.startswith("truncated") else BODY)

    def log_message(self, *_: object) -> None:
        """Keep quiet."""


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[str]:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    httpd = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    httpd.stopping = threading.Event()  # type: ignore[attr-defined]  # read by the handler
    thread = threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield f"http://127.0.0.1:{httpd.server_port}"
    httpd.stopping.set()  # type: ignore[attr-defined]  # set above
    httpd.shutdown()
    thread.join()
    httpd.server_close()


def _fetch(url: str, cache: Path, **options: object) -> Path:
    return fetch(url, **{"timeout": 5.0, "progress": Silent(), "cache": cache, **options})  # type: ignore[arg-type]  # a test's shorthand


def _files(cache: Path) -> list[Path]:
    return [p for p in cache.rglob("*") if p.is_file()]


@pytest.mark.parametrize("name", ["ok.bin", "moved.bin", "unsized.bin", f"net-{DIGEST[:8]}.pth"])
def test_a_file_is_delivered_whole_and_nothing_else_is_left(server: str, tmp_path: Path, name: str) -> None:
    path = _fetch(f"{server}/{name}", tmp_path / "cache", sha256=DIGEST)
    assert path.name == name
    assert path.read_bytes() == BODY
    assert _files(tmp_path / "cache") == [path]


def test_progress_counts_every_byte(server: str, tmp_path: Path) -> None:
    bars: list[tuple[str, int | None]] = []
    counted: list[int] = []

    class Watching(Silent):
        @contextmanager
        def bar(self, description: str, total: int | None, *, unit: str) -> Iterator[Advance]:
            bars.append((description, total))
            yield counted.append

    _fetch(f"{server}/ok.bin", tmp_path, progress=Watching())
    assert bars == [("Downloading ok.bin", len(BODY))]
    assert sum(counted) == len(BODY)


def test_a_second_fetch_needs_no_network(server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = _fetch(f"{server}/ok.bin", tmp_path, sha256=DIGEST)
    with monkeypatch.context() as offline:
        offline.setattr(urllib.request, "urlopen", pytest.fail)
        assert _fetch(f"{server}/ok.bin", tmp_path, sha256=DIGEST) == first


def test_a_damaged_cached_file_is_downloaded_again(server: str, tmp_path: Path) -> None:
    path = _fetch(f"{server}/ok.bin", tmp_path, sha256=DIGEST)
    path.write_bytes(b"damaged")
    assert _fetch(f"{server}/ok.bin", tmp_path, sha256=DIGEST).read_bytes() == BODY


def test_a_verified_file_of_torch_hub_is_taken_without_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    checkpoints = tmp_path / "hub" / "checkpoints"
    checkpoints.mkdir(parents=True)
    name = f"net-{DIGEST[:8]}.pth"
    (checkpoints / name).write_bytes(BODY)
    assert _fetch(f"https://example.invalid/{name}", tmp_path / "cache") == checkpoints / name


def test_a_wrong_file_of_torch_hub_is_neither_taken_nor_touched(server: str, tmp_path: Path) -> None:
    checkpoints = tmp_path / "torch" / "hub" / "checkpoints"
    checkpoints.mkdir(parents=True)
    (checkpoints / "ok.bin").write_bytes(b"another file of this name")
    assert _fetch(f"{server}/ok.bin", tmp_path / "cache", sha256=DIGEST).read_bytes() == BODY
    assert (checkpoints / "ok.bin").read_bytes() == b"another file of this name"


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("missing.bin", {}, "answered 404"),
        ("truncated.bin", {}, "ended after 640,000 of 1,280,000 bytes"),
        ("ok.bin", {"sha256": "0" * 64}, f"has the SHA-256 {DIGEST}"),
        ("ok.bin", {"sha256_prefix": "00000000"}, "must begin with 00000000"),
        ("net-00000000.pth", {}, "must begin with 00000000"),
    ],
)
def test_a_bad_answer_is_no_lack_of_network_and_leaves_nothing(
    server: str, tmp_path: Path, name: str, options: dict[str, object], message: str
) -> None:
    with pytest.raises(SourceError, match=message) as caught:
        _fetch(f"{server}/{name}", tmp_path / "cache", **options)
    assert not isinstance(caught.value, OfflineError)
    assert _files(tmp_path / "cache") == []


@pytest.mark.parametrize("name", ["slow.bin", "stalls.bin"])
def test_no_answer_in_time_is_offline(server: str, tmp_path: Path, name: str) -> None:
    started = time.monotonic()
    with pytest.raises(OfflineError):
        _fetch(f"{server}/{name}", tmp_path / "cache", timeout=0.2)
    assert time.monotonic() - started < 3  # far more than 0.2 s, for a busy machine, and less than the server waits
    assert _files(tmp_path / "cache") == []


def test_a_refused_connection_is_offline(tmp_path: Path) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    with pytest.raises(OfflineError, match=r"127\.0\.0\.1 cannot be reached: Connection refused"):
        _fetch(f"http://127.0.0.1:{port}/x.bin", tmp_path)


def test_a_name_without_address_is_offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_name(*_: object, **__: object) -> None:
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", no_name)
    with pytest.raises(OfflineError, match=r"weights\.example cannot be reached: Name or service not known"):
        _fetch("https://weights.example/x.bin", tmp_path)


def test_a_full_disk_is_named(server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> str:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(download, "_receive", full)
    with pytest.raises(SourceError, match="No space left on device") as caught:
        _fetch(f"{server}/ok.bin", tmp_path / "cache")
    assert not isinstance(caught.value, OfflineError)
    assert "BUILDER_CACHE" in str(caught.value.hint)
    assert _files(tmp_path / "cache") == []


def test_other_schemes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="only http and https"):
        _fetch("file:///etc/hostname", tmp_path)


def test_the_digest_of_a_missing_file_is_a_source_error(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="there is no file"):
        file_digest(tmp_path / "none")
