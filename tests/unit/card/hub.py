"""A stand-in for the Hugging Face Hub on loopback: repositories in memory, small files in commits, large beside."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

TOKEN = "hf_thisIsATokenOfTheTests123"


@dataclass(kw_only=True)
class Hub:
    """What the server holds, and how it behaves."""

    address: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    """Of the one repository, at its latest revision."""
    commits: list[str] = field(default_factory=list)
    large: dict[str, bytes] = field(default_factory=dict)
    refuse: str = ""
    refused: int = 0
    """How often something was refused."""
    """A part of a path whose requests are answered with 403."""
    asked: list[str] = field(default_factory=list)

    def commit(self, lines: list[dict[str, Any]]) -> str:
        """Apply a commit as a whole."""
        files = dict(self.files)
        for line in lines:
            value = line["value"]
            if line["key"] == "header":
                assert value.get("parentCommit") == (self.commits[-1] if self.commits else "0" * 40)
            elif line["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                files[value["path"]] = self.large[value["oid"]]
            else:
                assert line["key"] == "deletedFile", line
                del files[value["path"]]
        self.files = files
        self.commits.append(hashlib.sha1(repr(sorted(files.items())).encode() + bytes(len(self.commits))).hexdigest())
        return self.commits[-1]


def _handler(hub: Hub) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_arguments: Any) -> None:
            """Say nothing."""

        def answer(self, value: Any, status: int = 200) -> None:
            body = json.dumps(value).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def content(self) -> bytes:
            if self.headers.get("Transfer-Encoding") != "chunked":
                return self.rfile.read(int(self.headers.get("Content-Length", 0)))
            content = b""
            while size := int(self.rfile.readline(), 16):
                content += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return content

        def handle_all(self) -> None:
            path, body = urlsplit(self.path).path, self.content()
            hub.asked.append(f"{self.command} {path}")
            authorised = self.headers.get("Authorization") == f"Bearer {TOKEN}" or path.startswith("/large/")
            if not authorised or (hub.refuse and hub.refuse in path):
                hub.refused += 1
                self.answer({"error": f"no right to write with {self.headers.get('Authorization')}"}, 403)
            elif path == "/api/repos/create":
                self.answer({"url": f"{hub.address}/me/model", "id": "me/model"})
            elif path.startswith("/large/"):
                hub.large[path.removeprefix("/large/")] = body
                self.answer({})
            elif path.endswith("/objects/batch"):
                objects = [
                    {**each, "actions": {"upload": {"href": f"{hub.address}/large/{each['oid']}"}}}
                    for each in json.loads(body)["objects"]
                ]
                self.answer({"transfer": "basic", "objects": objects})
            elif "/preupload/" in path:
                modes = [
                    {
                        "path": each["path"],
                        "shouldIgnore": False,
                        "uploadMode": "lfs" if ".bin" in each["path"] else "regular",
                    }
                    for each in json.loads(body)["files"]
                ]
                self.answer({"files": modes})
            elif "/commit/" in path:
                revision = hub.commit([json.loads(line) for line in body.splitlines()])
                self.answer({"commitUrl": f"{hub.address}/me/model/commit/{revision}", "commitOid": revision})
            elif "/tree/" in path:
                entries = [{"type": "file", "path": name, "size": 1, "oid": "0"} for name in hub.files]
                self.answer(entries)
            else:
                revision = hub.commits[-1] if hub.commits else "0" * 40
                siblings = [{"rfilename": name} for name in hub.files]
                self.answer(
                    {"id": "me/model", "modelId": "me/model", "sha": revision, "siblings": siblings, "tags": []}
                )

        do_GET = do_POST = do_PUT = handle_all  # noqa: N815 - the names that http.server calls

    return Handler


@contextmanager
def serving() -> Iterator[Hub]:
    """Serve until the block ends."""
    hub = Hub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(hub))
    hub.address = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
