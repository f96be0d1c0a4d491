"""The process that holds Core AI: reads calls from its standard input, writes results to its standard output."""

from __future__ import annotations

import importlib
import os
import pickle
import sys
import traceback
import warnings
from typing import IO

from builder.backends.coreai.child import LENGTH
from builder.errors import BuilderError

_PACKAGE = "builder.backends.coreai"


def main() -> None:
    """Serve the process that started this one."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what libraries print is not an answer
    serve(sys.stdin.buffer, answers)


def serve(questions: IO[bytes], answers: IO[bytes]) -> None:
    """Serve calls until the other side closes its end; what Apple's library has unpacked is removed then."""
    warnings.simplefilter("ignore")
    while (message := _read(questions)) is not None:
        answer = _answer(*pickle.loads(message))
        answers.write(LENGTH.pack(len(answer)) + answer)
        answers.flush()
    if (engine := sys.modules.get(f"{_PACKAGE}.engine")) is not None:
        engine.close_opened()


def _read(stream: IO[bytes]) -> bytes | None:
    head = stream.read(LENGTH.size)
    return stream.read(LENGTH.unpack(head)[0]) if len(head) == LENGTH.size else None


def _answer(function: str, arguments: tuple[object, ...], named: dict[str, object]) -> bytes:
    """The pickled verdict and result; what was raised goes to the other side, which knows what to do about it."""
    try:
        module, _, name = function.partition(":")
        called = getattr(importlib.import_module(f"{_PACKAGE}.{module}"), name)
        return pickle.dumps(("returned", called(*arguments, **named)), protocol=5)
    except BuilderError as error:
        return pickle.dumps(("raised", error), protocol=5)
    except Exception as error:
        traceback.print_exc()
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        return pickle.dumps(("raised", (type(error).__name__, lines[0] if lines else type(error).__name__)))


if __name__ == "__main__":
    main()
