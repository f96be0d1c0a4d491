"""The types of a sweep: a job, how its process ended, and what became of it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from builder.artifacts.stages import BuildRequest

if TYPE_CHECKING:
    from builder.util.reading import JsonObject


@dataclass(frozen=True, kw_only=True)
class Job:
    """One build of a sweep."""

    number: int
    """Its place on the command line, from 1."""
    arguments: tuple[str, ...]
    label: str
    """The arguments that are not the same for every job."""
    request: BuildRequest | None
    """What it builds; None where its arguments are wrong."""
    refusal: str = ""
    """Why its arguments are wrong."""
    name: str = ""
    """What the sweep's file of variants calls it, if there is one."""
    prefixes: Mapping[str, str] = field(default_factory=dict)
    """By stage, a digest of all that the spec says up to it: jobs with the same one share that stage."""
    weights_bytes: int | None = None
    """The size of the source's weights, where it is known without loading them."""

    @property
    def place(self) -> tuple[str, str] | None:
        """The folder of outputs that it writes; two jobs with the same one run one after the other."""
        return None if self.request is None else (self.request.recipe, self.request.variant)


@dataclass(frozen=True, kw_only=True)
class Task:
    """One job as a process: everything that a launcher needs, here or on another machine."""

    command: tuple[str, ...]
    folder: str
    """The working directory."""
    environment: Mapping[str, str]
    """What is set besides the environment that the launcher gives."""
    log: str
    """The file that takes stderr."""
    out: str
    """The file that takes stdout, whose last line is the artifact's path."""

    @property
    def arguments(self) -> tuple[str, ...]:
        """What follows `python -m builder`."""
        return self.command[3:]

    def to_json(self) -> str:
        """The task as one line."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, line: str) -> Task:
        """Read what `to_json` wrote."""
        fields = json.loads(line)
        return cls(**{**fields, "command": tuple(fields["command"])})


@dataclass(frozen=True, kw_only=True)
class Exit:
    """How a process ended."""

    code: int
    """The exit code; negative for a signal, as in `subprocess`."""
    seconds: float
    peak_bytes: int | None = None
    summary: str = ""
    """What the launcher knows beyond the code."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What became of a job."""

    job: Job
    status: str
    """`built`, `up to date`, `broken`, `failed`, `killed`, `wrong`, `interrupted` or `not started`."""
    exit_code: int
    """That of the contracts; 1 where a signal ended the process."""
    seconds: float = 0.0
    peak_bytes: int | None = None
    artifact: str = ""
    """The path as the job printed it; empty unless it succeeded."""
    document: JsonObject | None = None
    """Its `build.json`, of a broken build too."""
    message: str = ""
    """Why it failed."""
    log: Path | None = None

    @property
    def succeeded(self) -> bool:
        """Whether there is an artifact that passed."""
        return self.status in ("built", "up to date")
