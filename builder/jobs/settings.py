"""What a sweep's own settings (`sweep.jobs=4`) may be: a closed union by `launcher`; no build ever sees them."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from builder.spec.base import Part, PositiveInt

_UNITS = {"": 1, "kB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}


def _bytes(value: object) -> Any:
    """Return `8GB` as a number of bytes; leave what is not text to pydantic."""
    if not isinstance(value, str):
        return value
    found = re.fullmatch(r"(\d+(?:\.\d+)?) ?([A-Za-z]*)", value.strip())
    unit = next((u for u in _UNITS if found and u.lower() == found[2].lower()), None)
    if found is None or unit is None:
        raise ValueError("must be an amount of memory, such as 8GB or 500MB")
    return round(float(found[1]) * _UNITS[unit])


Memory = Annotated[int, BeforeValidator(_bytes), Field(ge=1)]
"""Bytes, written as a number or as `8GB`."""


class _Common(Part):
    """What every launcher takes."""

    jobs: PositiveInt | None = None
    """How many builds run at a time; as many as there are processors unless given (on a cluster: all of them)."""


class LocalSweep(_Common):
    """Builds run as processes of this machine, as many as its memory holds."""

    launcher: Literal["local"] = "local"
    memory: Memory | None = None
    """How much memory all builds together may take; what is free unless given."""
    job_memory: Memory | None = None
    """How much one build takes at most; measured or estimated unless given."""


class SubmititSweep(_Common):
    """Builds are jobs of a Slurm cluster, submitted by submitit; outputs and store lie on a shared file system."""

    launcher: Literal["submitit"]
    cluster: Literal["slurm", "local"] = "slurm"
    """`local` runs the same jobs by submitit on this machine, to try things out."""
    minutes: PositiveInt = 120
    """The time limit of one build."""
    cpus: PositiveInt = 4
    """Processors for one build."""
    job_memory: Memory = 16 * 2**30
    """Memory for one build; Slurm kills one that takes more."""
    slurm: dict[str, str | int] = Field(default_factory=dict)
    """Further options of sbatch by their long names: `sweep.slurm.partition=cpu sweep.slurm.account=vision`."""


SweepSettings = LocalSweep | SubmititSweep

LAUNCHERS: dict[str, type[LocalSweep] | type[SubmititSweep]] = {"local": LocalSweep, "submitit": SubmititSweep}
