"""The small project, fresh for each test, and one signed release for all."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.release.project import make_project, signed_release


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A committed project as working directory."""
    folder = make_project(tmp_path / "project")
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture(scope="session")
def released(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `project/`, its signed `release/`, `key.pem` and `public.pem`."""
    return signed_release(tmp_path_factory.getbasetemp())
