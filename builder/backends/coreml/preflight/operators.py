"""An operator of a captured graph: its name, the module and the source line that it comes from, what it gives."""

from __future__ import annotations

import linecache
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import torch

import builder

_OURS = Path(builder.__file__).parent
_TORCH, _EXAMPLES = Path(torch.__file__).parent, _OURS / "examples"
MODEL = "model"
"""The path of the user's model in the module that is captured (`builder.model.wrapper`)."""


@dataclass(frozen=True, kw_only=True)
class Place:
    """A line of source code."""

    file: str
    line: int

    @property
    def text(self) -> str:
        """The line itself, or nothing where the file cannot be read."""
        return linecache.getline(self.file, self.line).strip()


@dataclass(frozen=True, kw_only=True)
class TensorFact:
    """What is known of a tensor: its dtype, and its shape, in which a size that varies is None."""

    dtype: torch.dtype | None
    shape: tuple[int | None, ...] | None


@dataclass(frozen=True, kw_only=True)
class Operator:
    """One call of an operator in the graph."""

    name: str
    """As torch writes it, without namespace and overload: `upsample_bicubic2d`, `add_`."""
    overload: str = ""
    """Such as `Scalar` of `pow.Scalar`; empty for the default one."""
    module: str
    """The path of its module as `named_modules` of the user's model gives it; empty for the model itself."""
    place: Place | None
    """The innermost line that is neither torch's nor ours."""
    outputs: tuple[TensorFact | None, ...] = ()
    """None where the output is not a tensor, or nothing is known of it."""
    inputs: tuple[TensorFact | None, ...] = ()
    constants: tuple[int | float, ...] = ()
    """Numbers among its arguments."""
    alpha: float | None = None
    """The factor of `add`, `sub` and `rsub`, where it is not 1."""
    overwritten: str | None = None
    """For an operator that writes in place: the view through which it changes a tensor that is used later."""


def user_place(frames: Iterable[tuple[str, int]]) -> Place | None:
    """The first of these lines, innermost first, that is the user's (or a model library's)."""
    for file, line in frames:
        path = Path(file)
        ours = path.is_relative_to(_OURS) and not path.is_relative_to(_EXAMPLES)  # which are written as a user's
        if file.startswith(("<", "torch/", "code/__torch__/")) or ours or path.is_relative_to(_TORCH):
            continue  # torch writes some of its own files, and compiled code in an archive, by such paths
        return Place(file=file, line=line)
    return None


def user_module(path: str) -> str:
    """The path of a module in the user's model, of its path in the captured module."""
    return path.removeprefix(MODEL).removeprefix(".") if path == MODEL or path.startswith(f"{MODEL}.") else ""


_TRACE_LINE = re.compile(r"^(?P<file>.+?)\((?P<line>\d+)\): ", re.M)
_PYTHON_LINE = re.compile(r'File "(?P<file>[^"]+)", line (?P<line>\d+)')


def frames_of_trace(text: str) -> list[tuple[str, int]]:
    """The lines of code, innermost first, of a node's source range in a trace (`file(12): forward`)."""
    return [(found["file"], int(found["line"])) for found in _TRACE_LINE.finditer(text)]


def frames_of_python(text: str) -> list[tuple[str, int]]:
    """The lines of code, innermost first, that a Python traceback (or TorchScript's own) in a text names."""
    return [(found["file"], int(found["line"])) for found in _PYTHON_LINE.finditer(text)][::-1]
