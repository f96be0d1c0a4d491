"""A tiny project that is built in processes of its own, which can be killed or limited."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import builder
from tests import warm

ROOT = Path(builder.__file__).parents[1]
RECIPE = """\
schema: 1
defaults: [{precision: fp16}, {target: ios16}, {compression: int8}, {checks: none}, {tracking: none}]
source: {kind: python, factory: "net:make", seed: 1}
input:
  x: {kind: tensor, shape: [1, 8]}
compression:
  int8: {weight_threshold: 100}
checks:
  structure: {kind: structure}
"""
NET = """\
import torch


def make():
    return torch.nn.Sequential(torch.nn.Linear(8, 600), torch.nn.ReLU(), torch.nn.Linear(600, 3))
"""


class Project:
    """A folder with a recipe, a store of its own, and the digest that every build of it must have."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.cache = folder / "cache"
        (folder / "recipes").mkdir(exist_ok=True)
        (folder / "recipes/tiny.yaml").write_text(RECIPE)
        (folder / "net.py").write_text(NET)

    def start(
        self,
        *more: str,
        environment: dict[str, str] | None = None,
        verb: str = "build",
        recipe: str = "tiny",
        program: str = sys.executable,
        **options: Any,
    ) -> subprocess.Popen[str]:
        """Start a build, or another verb (one without recipe where that is empty), in a session of its own.

        `warm.python()` is the quicker program where the process is neither killed nor limited.
        """
        command = [program, "-m", "builder", verb, *([f"recipe={recipe}"] if recipe else []), *more]
        surroundings = {
            **os.environ,
            "BUILDER_CACHE": str(self.cache),
            "PYTHONPATH": str(Path(builder.__file__).parents[1]),
            "OMP_NUM_THREADS": "1",
            **(environment or {}),
        }
        return subprocess.Popen(
            command,
            cwd=self.folder,
            env=surroundings,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            **options,
        )

    def build(self, *more: str, **options: Any) -> str:
        """Build, and return what was said; it must succeed."""
        process = self.start(*more, program=warm.python(), **options)
        out, err = process.communicate(timeout=300)
        assert process.returncode == 0, err
        assert out.strip() == "outputs/tiny/default/tiny.mlpackage"
        return err

    def record(self) -> dict[str, Any]:
        """What the last build recorded."""
        document: dict[str, Any] = json.loads((self.folder / "outputs/tiny/default/build.json").read_text())
        return document

    def cached(self) -> dict[str, bool]:
        """By stage, whether the last build had it from the store."""
        return {stage["name"]: stage["cached"] for stage in self.record()["stages"]}

    def check(self, expected: str) -> None:
        """The artifact is whole and right, and nothing is left of any build that did not end."""
        from builder.store.digests import artifact_digest

        assert self.record()["artifact"]["digest"] == expected
        assert artifact_digest(self.folder / "outputs/tiny/default/tiny.mlpackage") == expected
        assert not list(self.folder.rglob("*.lock"))
        assert not (self.folder / "outputs/.building").exists()

    def no_partial_artifact(self, expected: str) -> None:
        """Whatever lies under a final name now is complete."""
        from builder.store.digests import artifact_digest

        final = self.folder / "outputs/tiny/default"
        if final.exists():
            assert artifact_digest(final / "tiny.mlpackage") == expected
            assert {path.name for path in final.iterdir()} == {
                "tiny.mlpackage",
                "build.json",
                "build.log",
                "report.html",
            }


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project that was built once, which nothing disturbs."""
    project = Project(tmp_path_factory.mktemp("undisturbed"))
    project.build()
    return project


@pytest.fixture(scope="session")
def expected(undisturbed: Project) -> str:
    """The digest of the artifact, from a build that nothing disturbed."""
    digest: str = undisturbed.record()["artifact"]["digest"]
    return digest


@pytest.fixture
def make_project(tmp_path_factory: pytest.TempPathFactory) -> Callable[[], Project]:
    """Make a new project with an empty store."""
    return lambda: Project(tmp_path_factory.mktemp("project"))


@pytest.fixture
def project(make_project: Callable[[], Project]) -> Project:
    """A new project with an empty store."""
    return make_project()


@pytest.fixture
def built(undisturbed: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project that was built once, with outputs and a store of its own."""
    folder = tmp_path_factory.mktemp("project")
    shutil.copytree(undisturbed.folder, folder, symlinks=True, dirs_exist_ok=True)
    return Project(folder)
