"""What code of a user may change of the process that it runs in: put back where that is possible, refused where not."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NoReturn

from builder.errors import SourceError
from builder.util import child
from builder.util.redact import redacted_error

_MOST_TEXT = 2000
"""Characters of an exception's text that are shown."""

_OWN_VARIABLES = ("HOME", "XDG_CACHE_HOME", "TMPDIR")
_STREAMS = (0, 1, 2)
_STOPS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@dataclass(frozen=True, kw_only=True)
class _State:
    pid: int
    folder: str
    umask: int
    recursion_limit: int
    variables: Mapping[str, str]
    streams: tuple[Any, Any]
    copies: Mapping[int, int]
    """Another descriptor of each standard stream."""
    handlers: Mapping[int, Any]
    settings: Mapping[str, Any]
    """Settings of torch by the name of what sets them, where torch is loaded."""


@contextmanager
def guarded(what: str, *, key: str | None = None) -> Iterator[None]:
    """Run code of a user and put back what it changed of the process: folder, streams, signals, limits, variables.

    A copy of the process that the code made ends here, and nothing that it does counts. Raises SourceError where the
    code wanted to end the process, closed files that are not its own, or removed the working directory.
    """
    before = _state()
    try:
        yield
    except Exception:
        raise
    except BaseException as raised:  # SystemExit and what is meant to pass every handler: it must not pass for an end
        if isinstance(raised, KeyboardInterrupt) and child.was_interrupted() is not False:
            raise
        raise SourceError(f"{what} raised {said_by(raised)}", code="B0313", key=key) from raised
    finally:
        if os.getpid() != before.pid:
            _end_copy(what)
        try:
            _restore(before, what, key)
        finally:
            for copy in before.copies.values():
                _quietly(os.close, copy)


def said_by(raised: BaseException) -> str:
    """The type of an exception and its text, which is bounded, and may itself raise."""
    try:
        text = str(raised)
    except Exception as error:  # whatever a user's __str__ does
        text = f"(its text raises {type(error).__name__})"
    return f"{type(raised).__name__}: {redacted_error(text[:_MOST_TEXT])}"


def _state() -> _State:
    mask = os.umask(0o077)
    os.umask(mask)
    return _State(
        pid=os.getpid(),
        folder=os.getcwd(),  # noqa: PTH109 - a text is what chdir takes
        umask=mask,
        recursion_limit=sys.getrecursionlimit(),
        variables=_variables(),
        streams=(sys.stdout, sys.stderr),
        copies={number: os.dup(number) for number in _STREAMS if _place(number) is not None},
        handlers={number: signal.getsignal(number) for number in _STOPS},
        settings=_torch_settings(),
    )


def _end_copy(what: str) -> NoReturn:
    """End a process that is a copy of the one that called the code."""
    child.warn(f"{what} made a copy of the process (`os.fork`), which was ended", code="B0017")
    os._exit(0)


def _restore(before: _State, what: str, key: str | None) -> None:
    sys.setrecursionlimit(before.recursion_limit)
    os.umask(before.umask)
    sys.stdout, sys.stderr = before.streams
    _restore_torch(before.settings)
    for number, handler in before.handlers.items():
        if signal.getsignal(number) is not handler:
            _quietly(signal.signal, number, handler)
    _restore_variables(before.variables, what)
    for number, copy in before.copies.items():
        wanted, found = _place(copy), _place(number)
        if wanted is None:
            raise SourceError(f"{what} closed files of the process that are not its own", code="B0336", key=key)
        if found != wanted:
            os.dup2(copy, number)
            stream = ("stdin", "stdout", "stderr")[number]
            child.warn(f"{what} closed or replaced {stream}, which was put back", code="B0017")
    try:
        os.chdir(before.folder)
    except OSError as error:
        raise SourceError(
            f"{what} removed the working directory {before.folder}: {error.strerror}", code="B0336", key=key
        ) from error


def _restore_variables(before: Mapping[str, str], what: str) -> None:
    now = _variables()
    for name in sorted({**now, **before}):
        if now.get(name) == before.get(name):
            continue
        child.warn(f"{what} changed the environment variable {name}, which was put back", code="B0017")
        if name in before:
            os.environ[name] = before[name]
        else:
            del os.environ[name]


def _variables() -> dict[str, str]:
    """Environment variables that builder reads."""
    return {name: value for name, value in os.environ.items() if name.startswith("BUILDER_") or name in _OWN_VARIABLES}


_TORCH: Mapping[str, Callable[[Any], Any]] = {
    "set_default_dtype": lambda torch: torch.get_default_dtype(),
    "set_grad_enabled": lambda torch: torch.is_grad_enabled(),
    "set_default_device": lambda torch: _unless_usual(torch.get_default_device()),
    "set_num_threads": lambda torch: torch.get_num_threads(),
    "use_deterministic_algorithms": lambda torch: torch.are_deterministic_algorithms_enabled(),
}


def _unless_usual(device: Any) -> Any:
    """None for the processor: a default that is set is a mode, which every call then goes through."""
    return None if device.type == "cpu" else device


def _torch_settings() -> dict[str, object]:
    torch = sys.modules.get("torch")
    return {} if torch is None else {name: get(torch) for name, get in _TORCH.items()}


def _restore_torch(before: Mapping[str, object]) -> None:
    torch = sys.modules.get("torch")
    for name, value in before.items():
        if _TORCH[name](torch) != value:
            set_again: Any = getattr(torch, name)
            set_again(value)


def _quietly(work: Callable[..., Any], *arguments: object) -> None:
    """Do what may be impossible by now: a handler is set by the main thread alone, a copy may be closed."""
    with contextlib.suppress(ValueError, TypeError, OSError):
        work(*arguments)


def _place(number: int) -> tuple[int, int] | None:
    """Device and inode of an open file by its number; None where it is closed."""
    try:
        found = os.fstat(number)
    except OSError:
        return None
    return found.st_dev, found.st_ino
