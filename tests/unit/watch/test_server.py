"""The page that follows builds: for this machine alone, and with nothing on it that could run or load."""

from __future__ import annotations

import http.client
import json
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from builder.errors import ConfigurationError
from builder.watch.server import LiveReport


@pytest.fixture
def live() -> Iterator[LiveReport]:
    server = LiveReport(0)
    yield server
    server.close()


def ask(
    live: LiveReport, path: str, *, host: str | None = None, method: str = "GET"
) -> tuple[int, dict[str, str], str]:
    connection = http.client.HTTPConnection("127.0.0.1", live.port, timeout=5)
    connection.request(method, path, headers={} if host is None else {"Host": host})
    answer = connection.getresponse()
    headers, text = {name.lower(): value for name, value in answer.getheaders()}, answer.read().decode()
    connection.close()
    return answer.status, headers, text


def test_the_page_loads_its_own_files_alone(live: LiveReport) -> None:
    for path, kind in {"/": "text/html", "/live.js": "text/javascript", "/live.css": "text/css"}.items():
        status, headers, text = ask(live, path)
        assert (status, headers["content-type"]) == (200, f"{kind}; charset=utf-8")
        assert headers["content-security-policy"].startswith("default-src 'none'; script-src 'self'")
        assert "unsafe" not in headers["content-security-policy"]
        assert "frame-ancestors 'none'" in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
        assert "<script>" not in text
        assert "innerHTML" not in text


def test_the_report_runs_no_script(live: LiveReport, tmp_path: Path) -> None:
    assert ask(live, "/report")[0] == 404
    (tmp_path / "report.html").write_text("<p>proof</p>")
    live.show({}, tmp_path / "report.html")
    status, headers, text = ask(live, "/report?12")
    assert (status, text) == (200, "<p>proof</p>")
    assert headers["content-security-policy"].endswith("frame-ancestors 'self'; sandbox")
    assert "script-src" not in headers["content-security-policy"]


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:{port}", "127.0.0.1", "127.0.0.1:1", "", "[::1]:{port}"]
)
@pytest.mark.parametrize("path", ["/", "/report", "/events"])
def test_requests_under_another_name_are_refused(live: LiveReport, host: str, path: str, tmp_path: Path) -> None:
    (tmp_path / "report.html").write_text("<p>proof</p>")
    live.show({"said": "proof"}, tmp_path / "report.html")
    status, _, text = ask(live, path, host=host.format(port=live.port))
    assert status == 421
    assert "proof" not in text


def test_it_listens_on_loopback_alone(live: LiveReport) -> None:
    assert live._server.socket.getsockname()[0] == "127.0.0.1"
    assert ask(live, "/", host=f"localhost:{live.port}")[0] == 200


@pytest.mark.parametrize(
    "path", ["/../../etc/passwd", "/live.html/../server.py", "/server.py", "/%2e%2e/x", "//etc/passwd"]
)
def test_no_other_file_is_served(live: LiveReport, path: str) -> None:
    assert ask(live, path)[0] == 404


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS"])
def test_it_can_only_be_read(live: LiveReport, method: str) -> None:
    assert ask(live, "/", method=method)[0] == 501


def read_states(live: LiveReport) -> Any:
    connection = http.client.HTTPConnection("127.0.0.1", live.port, timeout=5)
    connection.request("GET", "/events")
    answer = connection.getresponse()
    assert answer.headers["content-type"] == "text/event-stream"
    return answer


def state(answer: Any) -> dict[str, Any]:
    line = answer.readline()
    assert answer.readline() == b"\n"
    document: dict[str, Any] = json.loads(line.removeprefix(b"data: "))
    return document


def test_open_pages_are_told_of_each_state(live: LiveReport) -> None:
    hostile = "</script>\n\ndata: x"
    live.show({"verdict": "building", "said": hostile}, None)
    pages = [read_states(live) for _ in range(2)]
    assert [state(page)["said"] for page in pages] == [hostile] * 2  # the last one, for who comes later
    live.show({"verdict": "passed"}, None)
    assert [state(page)["verdict"] for page in pages] == ["passed"] * 2


def test_it_ends_at_once_with_pages_open() -> None:
    live = LiveReport(0)
    page = read_states(live)
    idle = socket.create_connection(("127.0.0.1", live.port))
    started = time.monotonic()
    live.close()
    assert time.monotonic() - started < 1
    assert page.read() == b""
    idle.close()


def test_a_port_that_is_taken_is_explained(live: LiveReport) -> None:
    with pytest.raises(ConfigurationError, match=f"port {live.port} cannot be had"):
        LiveReport(live.port)
