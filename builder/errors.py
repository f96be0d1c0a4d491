"""Every way a build can fail on purpose: one class per exit code, each saying what failed and what to do next."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from builder.util.locations import shown


@dataclass(frozen=True, kw_only=True)
class SourceSpan:
    """A stretch of one line of a file, or of the command line (`file` is None). Lines and columns begin with 1."""

    file: Path | None
    line: int
    column: int
    length: int
    text: str

    def __str__(self) -> str:
        return f"{shown(self.file)}:{self.line}:{self.column}" if self.file else "command line"


class BuilderError(Exception):
    """A failure that is explained to the user without a traceback.

    `message` says what failed; `hint`, if any, what to do next; `key` is the dotted setting of the recipe that
    caused it (such as `source.name`), from which the command line finds file and line, its `spot`.
    """

    exit_code = 1
    spot: SourceSpan | None = None

    def __init__(self, message: str, *, hint: str | None = None, key: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.key = key


class ConfigurationError(BuilderError):
    """The recipe or the command line is wrong; nothing was written."""

    exit_code = 2


class SourceError(BuilderError):
    """The model, its weights or its data cannot be loaded."""

    exit_code = 3


class ConversionError(BuilderError):
    """Preparation, capture, conversion or compression failed or cannot work."""

    exit_code = 4


class CheckError(BuilderError):
    """A check missed its limit; the artifact went to `outputs/broken/`, and `record` tells all about it."""

    exit_code = 5

    def __init__(self, message: str, *, record: Any, hint: str | None = None, key: str | None = None) -> None:
        super().__init__(message, hint=hint, key=key)
        self.record = record


class VerificationError(BuilderError):
    """A release was refused, or what was verified does not match."""

    exit_code = 6


class UnfitEnvironmentError(BuilderError):
    """The environment cannot do what the recipe requires (tracking, installation)."""

    exit_code = 7
