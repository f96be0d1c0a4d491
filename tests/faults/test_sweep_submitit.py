"""A sweep by submitit, on this machine: the same artifacts, table and exit code as without it."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from .conftest import Project
from .test_sweep import ended, record, sweeps, table

__all__ = ["sweeps"]  # a fixture
pytest.importorskip("submitit", reason="an optional extra")


@pytest.mark.slow
def test_a_cluster_builds_what_this_machine_builds(sweeps: Callable[[], Project], expected: str) -> None:
    # given a sweep with a job that fails and one that works
    project = sweeps()

    # when submitit runs it
    code, out, err = ended(
        project.start(
            "-m", "source.arguments.then=fail,'go on'", "sweep.launcher=submitit", "sweep.cluster=local", "sweep.jobs=2"
        )
    )

    # then the exit code is the failure's, and the artifact is the one that every build makes
    assert code == 3, err
    assert [row["status"] for row in table(project)] == ["failed", "built"]
    assert len(out) == 1
    assert record(project.folder / out[0])["artifact"]["digest"] == expected
    assert "this net cannot be made" in err
    assert not list(project.folder.rglob("*.lock"))
