"""The processes of the remote store: `serve` answers requests of a build in lines of JSON, `send` writes behind."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from builder.errors import BuilderError
from builder.store.remote.address import remote_address
from builder.util.child import end_with
from builder.util.redact import hide_environment, redacted

_SECRET = ("AWS_", "GOOGLE_", "FSSPEC_", "GCSFS_")


def main(arguments: list[str]) -> int:
    """Run one of the two; 7 where something still waits to be sent."""
    for name in os.environ:
        if name.startswith(_SECRET):
            hide_environment(f"${{oc.env:{name}}}", None)
    if arguments[0] == "serve":
        return _serve(int(arguments[1]))
    from builder.store.remote.sender import send_waiting

    os.nice(5)
    try:
        report = send_waiting(Path(arguments[1]), wait=False)
    except BuilderError:  # the build that started this has told
        return 7
    return 7 if report.reason else 0


def _serve(parent: int) -> int:
    """Answer until stdin is closed; what libraries print goes nowhere, for it may hold addresses."""
    end_with(parent)
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    nowhere = os.open(os.devnull, os.O_RDWR)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
    try:
        address = remote_address()
        assert address is not None  # whoever starts this process has looked
        from builder.store.remote.transport import open_transport

        transport = open_transport(address)
        _say(answers, {"ready": True})
    except Exception as error:  # whatever the protocol's package raises
        _say(answers, {"error": _reason(error)})
        return 1
    for line in sys.stdin:
        try:
            _say(answers, {"value": _answer(transport, json.loads(line))})
        except Exception as error:  # as above
            _say(answers, {"error": _reason(error)})
    return 0


def _answer(transport: Any, request: Mapping[str, str]) -> bool | int | None:
    name, file = request["name"], Path(request["file"])
    if request["do"] == "get":
        return bool(transport.get(name, file))
    if request["do"] == "put":
        transport.put(file, name)
        return True
    size: int | None = transport.size(name)
    return size


def _say(stream: Any, message: Mapping[str, object]) -> None:
    stream.write(json.dumps(message) + "\n")
    stream.flush()


def _reason(error: Exception) -> str:
    """One line without secrets; of botocore's and aiohttp's errors the type says more than the text."""
    lines = str(error).splitlines() or [""]
    return redacted(f"{type(error).__name__}: {lines[0]}".removesuffix(": "))[:300]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
