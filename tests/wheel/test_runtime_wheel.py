"""The wheel of `coreml-runtime` where neither builder nor coremltools is: its size, its imports, its own tests."""

from __future__ import annotations

import os
import subprocess
import sys
import venv
import zipfile
from importlib.metadata import distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[2]
MOST_BYTES = 500_000


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel; the build backend comes from the index."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(folder)]
    environment = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    done = subprocess.run(
        [*command, str(ROOT / "runtime")], capture_output=True, text=True, check=False, env=environment
    )
    assert done.returncode == 0, done.stderr
    (found,) = folder.glob("coreml_runtime-*.whl")
    return found


def needed(*names: str) -> set[str]:
    """These distributions and all that they require on this machine."""
    found: set[str] = set()
    waiting = list(names)
    while waiting:
        name = waiting.pop()
        if name in found:
            continue
        found.add(name)
        requirements = [Requirement(text) for text in distribution(name).requires or ()]
        waiting += [r.name for r in requirements if r.marker is None or r.marker.evaluate({"extra": ""})]
    return found


@pytest.fixture(scope="module")
def python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment with the wheel, what it requires, and pytest: links to the packages of this environment."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=False)
    (site,) = folder.glob("lib/python*/site-packages")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
        (metadata,) = (name for name in archive.namelist() if name.endswith("/METADATA"))
        lines = archive.read(metadata).decode().splitlines()
    required = [Requirement(line.partition(": ")[2]).name for line in lines if line.startswith("Requires-Dist: ")]
    for name in needed("pytest", *required):
        found = distribution(name)
        for top in {file.parts[0] for file in found.files or ()} - {"..", "__pycache__"}:
            target = site / top
            if not target.exists():
                target.symlink_to(str(found.locate_file(top)))
    return folder / "bin" / "python"


@pytest.mark.slow
def test_its_own_tests_pass_alone(wheel: Path, python: Path, tmp_path: Path) -> None:
    # given an environment without builder and coremltools
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    code = "import importlib.util as u; print([n for n in ('builder', 'coremltools', 'mlflow') if u.find_spec(n)])"
    done = subprocess.run(
        [str(python), "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path, env=environment
    )
    assert done.stdout.strip() == "[]"

    # when, then its tests pass, and it is small
    (tmp_path / "runtime_tests").symlink_to(ROOT / "runtime" / "runtime_tests")
    command = [str(python), "-m", "pytest", "-q", "-c", os.devnull, "--rootdir", ".", "-p", "no:cacheprovider"]
    done = subprocess.run(
        [*command, "runtime_tests"], capture_output=True, text=True, check=False, cwd=tmp_path, env=environment
    )
    assert done.returncode == 0, done.stdout
    assert wheel.stat().st_size < MOST_BYTES
