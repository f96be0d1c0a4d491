"""What can be wrong: one immutable diagnostic with a code, and one error class for each exit code.

`builder.diagnostics` explains the codes and renders diagnostics; nothing here words more than the place of one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

from builder.util.locations import shown

Severity = Literal["error", "warning", "note"]


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


@dataclass(frozen=True, kw_only=True)
class Diagnostic:
    """One thing that is wrong, or worth knowing."""

    code: str
    """Its row in `builder.diagnostics.CODES`, such as `B0211`; the two digits after B are the exit code."""
    message: str
    severity: Severity = "error"
    path: tuple[str, ...] = ()
    """The setting that it is about, from the root of the recipe: ("source", "name")."""
    span: SourceSpan | None = None
    allowed: Sequence[str] = ()
    """Values that are possible instead."""
    nearest: str | None = None
    """The one of them that was probably meant."""
    hint: str | None = None
    """What to do next."""

    @property
    def key(self) -> str:
        """The dotted setting that it is about, such as `source.name`; empty for none."""
        return ".".join(self.path)


def path_of(key: str | None) -> tuple[str, ...]:
    """The parts of a dotted setting."""
    return tuple(key.split(".")) if key else ()


class BuilderError(Exception):
    """A failure that is explained to the user without a traceback: a diagnostic that is raised. It never changes.

    `message` says what failed; `hint`, if any, what to do next; `key` is the dotted setting of the recipe that
    caused it (such as `source.name`), from which `builder.config.places.located` finds file and line, its `span`.
    """

    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, *, code: str, hint: str | None = None, key: str | None = None) -> None:
        super().__init__(message)
        self._diagnostic = Diagnostic(code=code, message=message, path=path_of(key), hint=hint)

    @property
    def diagnostic(self) -> Diagnostic:
        """What is wrong."""
        return self._diagnostic

    @property
    def diagnostics(self) -> tuple[Diagnostic, ...]:
        """Everything that is wrong; one, for most errors."""
        return (self._diagnostic,)

    @property
    def code(self) -> str:
        """The code of what is wrong."""
        return self._diagnostic.code

    @property
    def message(self) -> str:
        """What failed."""
        return self._diagnostic.message

    @property
    def hint(self) -> str | None:
        """What to do next."""
        return self._diagnostic.hint

    @property
    def key(self) -> str | None:
        """The dotted setting of the recipe that caused it."""
        return self._diagnostic.key or None

    @property
    def span(self) -> SourceSpan | None:
        """Where that setting is written."""
        return self._diagnostic.span

    def replaced(self, *, hint: str | None = None, key: str | None = None, span: SourceSpan | None = None) -> Self:
        """The same error with a hint, a key or a span; what is not given stays as it is."""
        given = {"hint": hint, "path": path_of(key), "span": span}
        changes: dict[str, Any] = {name: value for name, value in given.items() if value}
        attributes = {**vars(self), "_diagnostic": replace(self._diagnostic, **changes)}
        other: Self = _restored(type(self), self.args, attributes)
        return other

    def __reduce__(self) -> tuple[object, ...]:
        return _restored, (type(self), self.args, vars(self).copy())


def _restored(kind: type[Any], args: tuple[Any, ...], attributes: dict[str, object]) -> Any:
    """An error as it was, without its constructor: for copies, and from another process."""
    error = kind.__new__(kind, *args)
    error.__dict__.update(attributes)
    return error


@contextmanager
def about(key: str) -> Iterator[None]:
    """Let an error that is raised inside and is about no setting be about `key`."""
    try:
        yield
    except BuilderError as error:
        if error.key is not None:
            raise
        raise error.replaced(key=key) from error.__cause__


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
    """A check missed its limit; the artifact went to `outputs/broken/`, and `record` describes the build.

    `record` is None where another process built it.
    """

    exit_code = 5

    def __init__(
        self, message: str, *, code: str, record: object = None, hint: str | None = None, key: str | None = None
    ) -> None:
        super().__init__(message, code=code, hint=hint, key=key)
        self._record = record

    @property
    def record(self) -> Any:
        """The BuildRecord of the broken build."""
        return self._record


class VerificationError(BuilderError):
    """A release was refused, or what was verified does not match."""

    exit_code = 6


class UnfitEnvironmentError(BuilderError):
    """The environment cannot do what the recipe requires (tracking, installation)."""

    exit_code = 7


CLASSES: tuple[type[BuilderError], ...] = (
    ConfigurationError,
    SourceError,
    ConversionError,
    CheckError,
    VerificationError,
    UnfitEnvironmentError,
)
"""The classes by exit code, from 2 on."""
