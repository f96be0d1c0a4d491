"""A wheel installed into another environment, used from an empty folder: it builds, and its hints work there."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The wheels of this checkout, builder's and its runtime's; the build backend comes from the index."""
    folder = tmp_path_factory.mktemp("wheel")
    sources = [str(ROOT), str(ROOT / "runtime")]
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(folder), *sources]
    environment = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    (own,), (runtime,) = folder.glob("coreml_builder-*.whl"), folder.glob("coreml_runtime-*.whl")
    return own, runtime


@pytest.fixture(scope="module")
def python(wheels: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment with the wheels; its dependencies are those of this environment, without its editable builder."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=False)
    (site,) = folder.glob("lib/python*/site-packages")
    for wheel in wheels:
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(site)
    # A .pth file adds the folder, and not what the .pth files in there would add.
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return folder / "bin" / "python"


def run(python: Path, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run `python -m builder` of the environment in `folder`."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment["BUILDER_CACHE"] = str(folder / "cache")
    command = [str(python), "-m", "builder", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder, env=environment)


@pytest.mark.slow
def test_a_wheel_builds_a_shipped_recipe_from_an_empty_folder(python: Path, tmp_path: Path) -> None:
    # when
    done = run(python, tmp_path, "recipe=digits_mobilenet", "tracking=none", "-q")

    # then
    assert done.returncode == 0, done.stderr
    assert (tmp_path / done.stdout.strip()).exists()


@pytest.mark.slow
def test_a_wheel_lists_and_completes_what_it_ships(wheels: tuple[Path, Path], python: Path, tmp_path: Path) -> None:
    # given the names in the wheel
    names = zipfile.ZipFile(wheels[0]).namelist()
    assert not [name for name in names if name.startswith("coreml_runtime/")]
    assert {"builder/py.typed", "builder/constraints.txt", "builder/conf/precision/fp16.yaml"} <= set(names)

    # when, then recipes are listed, and what is missing is installed with pins that are where the hint says
    listed = run(python, tmp_path, "list")
    assert "mobilenet_v2_fp16" in listed.stdout
    code = "from builder.util.install import extra; print(extra('search'))"
    hint = subprocess.run([str(python), "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path).stdout
    pins = hint.split()[3]
    assert Path(pins).is_file()
    assert "coreml-builder[search]" in hint
