"""Who refused a conversion, and why, in a sentence: coremltools or a lowering of ours, on purpose or by accident."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Literal

import builder
from builder.errors import BuilderError

_OURS = Path(builder.__file__).parent
_ON_PURPOSE = (ValueError, NotImplementedError, RuntimeError)
"""What people raise with a message that is meant to be read; all else is an accident within."""


_NO_OPERATOR = re.compile(r"We don't have an op for aten::(?P<name>\w+) but .*?Argument types: (?P<types>[^\n]*)")
_TOO_OLD = re.compile(
    r"features which are available from version (?P<version>\d+) onwards.*?\n(?P<features>.*)", re.DOTALL
)
_IOS: Mapping[int, int] = {4: 13, 5: 14, 6: 15, 7: 16, 8: 17, 9: 18}
"""By the version of Core ML's files, the first iOS that reads it."""


def refused_by(error: BaseException) -> Literal["builder", "coremltools"]:
    """Whose code raised an error: the innermost frame that belongs to either."""
    traceback = _innermost(error.__traceback__)
    return "builder" if traceback is not None and _is_ours(traceback) else "coremltools"


def why_refused(error: BaseException) -> str:
    """Completes `… is refused by …: `: the message, or what kind of accident it was and where in the code."""
    if isinstance(error, BuilderError):
        return error.message
    text = first_text(error)
    if text and isinstance(error, _ON_PURPOSE):
        return text
    if isinstance(error, KeyError) and text.startswith("torch."):  # a dtype that coremltools' tables lack
        return f"it gives {text.removeprefix('torch.')}, a dtype that Core ML lacks"
    traceback = _innermost(error.__traceback__)
    where = "" if traceback is None else f", {_file(traceback).name}:{traceback.tb_lineno}"
    message = f": {text}" if text else ""
    return f"it was not written for this case and ended in an internal error ({type(error).__name__}{message}{where})"


def first_text(error: BaseException) -> str:
    """The first line of an error's message that says something; empty where none does.

    What torch's compiler calls a bug of its own is an operator with arguments of other types than its own, most of all
    a Python bool in place of a number.
    """
    if (old := _TOO_OLD.search(str(error))) and (version := int(old["version"])) in _IOS:
        features = [line.strip(" .1234567890") for line in old["features"].splitlines() if line.strip()]
        return f"the target is too old for {', '.join(features)}: iOS {_IOS[version]} and its like have that first"
    if found := _NO_OPERATOR.search(str(error)):
        types = found["types"].strip(" ,")
        return f"torch's compiler has no {found['name']} that takes {types}: write a Python bool as 1 or 0 there"
    return next((line for each in str(error).splitlines() if (line := each.strip(" -"))), "")


def _innermost(traceback: TracebackType | None) -> TracebackType | None:
    """The innermost entry in a file of ours or of coremltools; None where there is none."""
    found = None
    while traceback is not None:
        if _is_ours(traceback) or "coremltools" in _file(traceback).parts:
            found = traceback
        traceback = traceback.tb_next
    return found


def _is_ours(traceback: TracebackType) -> bool:
    return _file(traceback).is_relative_to(_OURS)


def _file(traceback: TracebackType) -> Path:
    return Path(traceback.tb_frame.f_code.co_filename)
