"""Jobs, and launchers that start nothing, for the unit tests of sweeps."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from builder.artifacts.stages import BuildRequest
from builder.jobs.jobs import Job

MakeJob = Callable[..., Job]


@pytest.fixture
def make_job(record: object) -> MakeJob:
    """Make a job of the unit tests' request; `shares` says by stage what it has in common with others."""
    request: BuildRequest = record.request  # type: ignore[attr-defined]  # the fixture of all unit tests

    def make(number: int, shares: dict[str, str] | None = None, *, variant: str | None = None) -> Job:
        named = BuildRequest(**{**vars(request), "variant": variant or f"seed={number}"})
        return Job(
            number=number,
            arguments=(f"recipe={request.recipe}", f"seed={number}"),
            label=f"seed={number}",
            request=named,
            prefixes={"load": "same source", "seal": f"own {number}"} if shares is None else shares,
        )

    return make
