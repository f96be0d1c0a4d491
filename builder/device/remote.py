"""Measures on a Mac by ssh: with the system's own clients, a time limit for each step, and nothing left behind."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from builder.device.pack import SCRIPT
from builder.errors import ConfigurationError, UnfitEnvironmentError
from builder.util.child import ending_with_us
from builder.util.text import visible

_CONNECT = 15
"""Seconds until a connection stands."""
_FOLDER = re.compile(r"/[\w./+-]+")
_LAST_LINES = 5
RESULTS = "device*"


@dataclass(frozen=True, kw_only=True)
class Host:
    """Where to: as ssh takes it."""

    name: str
    """`host` or `user@host`."""
    port: int | None = None


def read_host(text: str) -> Host:
    """From `ssh://[user@]host[:port]`. Raises ConfigurationError."""
    wrong = ConfigurationError(f"`{visible(text)}` is not a host", code="B0227", hint="write ssh://user@host")
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError as error:
        raise wrong from error
    name = parts.hostname or ""
    if parts.scheme != "ssh" or not name or parts.path not in ("", "/") or parts.password is not None:
        raise wrong
    user = f"{parts.username}@" if parts.username else ""
    if not re.fullmatch(r"[\w.@:%-]+", user + name, re.ASCII) or (user + name).startswith("-") or name.startswith("-"):
        raise wrong
    return Host(name=user + name, port=port)


@dataclass(frozen=True, kw_only=True)
class Session:
    """One visit."""

    host: Host
    python: str
    """The interpreter there that has coremltools."""
    seconds: float
    """How long any step may take."""
    say: Callable[[str], None]

    def measure(self, folder: Path, arguments: Sequence[str]) -> None:
        """Send the folder, measure, and fetch what was written into it. Raises UnfitEnvironmentError."""
        self.say(f"connecting to {self.host.name}")
        there = self.ask("mktemp -d", "could not make a folder there").strip()
        if not _FOLDER.fullmatch(there):
            raise _unfit(f"{self.host.name} answers with something else than a folder: {visible(there)[:80]!r}")
        try:
            self.say("sending the pack")
            self._copy([f"{folder}", f"{self._scp_name()}:{there}/pack"])
            self.say("measuring")
            command = [self.python, SCRIPT, *arguments]
            self.ask(f"cd {there}/pack && {shlex.join(command)}", "could not measure")
            self.say("fetching the results")
            self._copy([f"{self._scp_name()}:{there}/pack/{RESULTS}", f"{folder}/"])
        finally:
            self.say("tidying up there")
            self._tidy(there)

    def ask(self, command: str, failed: str) -> str:
        """What a command there prints."""
        port = ["-p", str(self.host.port)] if self.host.port else []
        return self._run(["ssh", *_options(), *port, "--", self.host.name, command], f"{self.host.name} {failed}")

    def _copy(self, arguments: Sequence[str]) -> None:
        port = ["-P", str(self.host.port)] if self.host.port else []
        self._run(["scp", "-r", *_options(), *port, "--", *arguments], f"{self.host.name}: could not copy")

    def _scp_name(self) -> str:
        """The host in scp's words: an address of IPv6 in brackets."""
        user, at, name = self.host.name.rpartition("@")
        return f"{user}{at}[{name}]" if ":" in name else self.host.name

    def _tidy(self, there: str) -> None:
        try:
            self.ask(f"rm -rf {there}", "could not remove the folder there")
        except UnfitEnvironmentError as error:  # what was measured counts all the same
            self.say(f"left on {self.host.name}: {there} ({error.message})")

    def _run(self, command: Sequence[str], failed: str) -> str:
        if shutil.which(command[0]) is None:
            raise _unfit(f"there is no `{command[0]}` on this machine", hint="install the OpenSSH client")
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            errors="replace", start_new_session=True, preexec_fn=ending_with_us(),
        )  # fmt: skip
        try:
            out, error = process.communicate(timeout=self.seconds)
        except subprocess.TimeoutExpired:
            raise _unfit(
                f"{failed}: no answer within {self.seconds:g} s", hint="`--timeout SECONDS` gives it longer"
            ) from None
        finally:
            _end(process)
        if process.returncode:
            said = [line for line in error.strip().splitlines() if line.strip()][-_LAST_LINES:]
            raise _unfit(f"{failed}: {visible('; '.join(said)) or f'exit code {process.returncode}'}")
        return out


def _end(process: subprocess.Popen[str]) -> None:
    """End a client with all that it started, and read what is left."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
    for stream in (process.stdout, process.stderr):
        if stream is not None:
            stream.close()
    process.wait()


def _options() -> list[str]:
    """Never ask a person: a missing key or an unknown host is an error."""
    return ["-o", "BatchMode=yes", "-o", f"ConnectTimeout={_CONNECT}"]


def _unfit(message: str, *, hint: str | None = None) -> UnfitEnvironmentError:
    return UnfitEnvironmentError(
        message, code="B0710", hint=hint or "`ssh HOST python3 -c 'import coremltools'` must work without a question"
    )
