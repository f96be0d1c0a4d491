"""Serves the report of the last build on loopback, and tells open pages when there is another one."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

from builder.errors import ConfigurationError

if TYPE_CHECKING:
    from builder.util.reading import JsonObject

_KEEP_ALIVE = 10.0
"""Seconds after which an open page is sent an empty line, which shows whether it is still there."""
_PAGE = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; frame-src 'self'; "
_NOWHERE = "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
_REPORT = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'; "
_SANDBOX = "frame-ancestors 'self'; sandbox"
"""What browsers may load: the page only its own two files, and the report in it nothing, and no script."""
_OWN = {
    "/": ("live.html", "text/html"),
    "/live.js": ("live.js", "text/javascript"),
    "/live.css": ("live.css", "text/css"),
}


class LiveReport:
    """A server on 127.0.0.1. Requests for any other host are refused, so that no page elsewhere reads through a name.

    (DNS rebinding: a page of evil.example resolves its own name to 127.0.0.1, and its browser then sends that name.)
    """

    def __init__(self, port: int) -> None:
        self._changed = threading.Condition()
        self._version = 0
        self._state: JsonObject = {}
        self._report: Path | None = None
        self._is_closed = False
        try:
            self._server = _Server(("127.0.0.1", port), self)
        except OSError as error:
            raise ConfigurationError(
                f"port {port} cannot be had: {error.strerror}", code="B0228", hint="without --port a free one is taken"
            ) from error
        self.port = int(self._server.server_address[1])
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        self._thread.start()

    @property
    def address(self) -> str:
        """Where a browser finds it."""
        return f"http://127.0.0.1:{self.port}/"

    def show(self, state: Mapping[str, object], report: Path | None) -> None:
        """Tell every open page how things are; `report` is the page of the last build."""
        with self._changed:
            self._version += 1
            self._state, self._report = state, report
            self._changed.notify_all()

    def close(self) -> None:
        """Send every page away and end."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()
        self._server.shutdown()
        self._server.server_close()

    def next_state(self, after: int) -> tuple[int, str] | None:
        """A newer state than `after` as JSON, an empty text where there is none for a while; None in the end."""
        with self._changed:
            self._changed.wait_for(lambda: self._is_closed or self._version > after, timeout=_KEEP_ALIVE)
            if self._is_closed:
                return None
            return self._version, json.dumps(self._state) if self._version > after else ""

    def report(self) -> bytes | None:
        """The report of the last build, None where there is none."""
        with self._changed:
            path = self._report
        try:
            return None if path is None else path.read_bytes()
        except OSError:  # the next build is replacing it
            return None


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    allow_reuse_address = True
    request_queue_size = 64

    def __init__(self, address: tuple[str, int], live: LiveReport) -> None:
        super().__init__(address, _Handler)
        self.live = live

    def handle_error(self, request: object, client_address: object) -> None:
        """A browser that went away is not worth a traceback."""


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    protocol_version = "HTTP/1.1"
    timeout = 30
    server_version, sys_version = "builder", ""

    def do_GET(self) -> None:
        """Answer one request."""
        port = self.server.server_address[1]
        if self.headers.get("Host", "").lower() not in (f"127.0.0.1:{port}", f"localhost:{port}"):
            return self._send(
                HTTPStatus.MISDIRECTED_REQUEST, b"this is a server for this machine alone\n", "text/plain"
            )
        path = self.path.partition("?")[0]
        if path == "/events":
            return self._follow()
        if path == "/report":
            content = self.server.live.report()
            if content is None:
                return self._send(HTTPStatus.NOT_FOUND, b"there is no report yet\n", "text/plain")
            return self._send(HTTPStatus.OK, content, "text/html", policy=_REPORT + _SANDBOX)
        if path in _OWN:
            name, kind = _OWN[path]
            return self._send(HTTPStatus.OK, files("builder.watch").joinpath(name).read_bytes(), kind)
        return self._send(HTTPStatus.NOT_FOUND, b"there is nothing here\n", "text/plain")

    def _follow(self) -> None:
        """Send states as they come, as server-sent events, until the page or this server goes."""
        self.send_response(HTTPStatus.OK)
        self._headers("text/event-stream")
        self.send_header("Connection", "close")
        self.end_headers()
        self.close_connection = True
        version = 0
        try:
            while (found := self.server.live.next_state(version)) is not None:
                version, text = found
                self.wfile.write(f"data: {text}\n\n".encode() if text else b":\n\n")
        except OSError:  # the page was closed
            return

    def _send(self, status: HTTPStatus, content: bytes, kind: str, *, policy: str = _PAGE + _NOWHERE) -> None:
        self.send_response(status)
        self._headers(f"{kind}; charset=utf-8", policy)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def _headers(self, kind: str, policy: str = "default-src 'none'") -> None:
        self.send_header("Content-Type", kind)
        self.send_header("Content-Security-Policy", policy)
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("Referrer-Policy", "no-referrer")
        self.send_header("Cross-Origin-Resource-Policy", "same-origin")
        self.send_header("Cache-Control", "no-store")

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing: the terminal is for builds."""
