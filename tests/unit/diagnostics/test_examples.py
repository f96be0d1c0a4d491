"""Each example of the table of codes really ends with its code."""

from __future__ import annotations

import re
import runpy
import shlex
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest

from builder.__main__ import main
from builder.diagnostics.code import Example
from builder.diagnostics.table import CODES

EXAMPLES = {name: code.example for name, code in CODES.items() if code.example is not None}
FAST = [name for name, example in EXAMPLES.items() if not example.slow]
SLOW = [name for name, example in EXAMPLES.items() if example.slow]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One cache for all examples, most of which build the same model up to some stage."""
    return tmp_path_factory.mktemp("store")


@pytest.fixture(autouse=True)
def _project(
    tmp_path: Path, store: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> Iterator[None]:
    """An empty working directory, of which no module stays imported."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BUILDER_CACHE", str(store))
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    monkeypatch.delenv("BUILDER_RECIPES", raising=False)
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        if (file := getattr(sys.modules[name], "__file__", None)) and Path(file).is_relative_to(tmp_path):
            del sys.modules[name]


def write_files(example: Example, folder: Path) -> None:
    for name, content in example.files.items():
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        if name.endswith("/"):
            file.mkdir()
        else:
            file.write_text(content, encoding="utf-8")


def run(command: str, *, apart: bool) -> int:
    """Run a line of an example; in this process unless it would end it."""
    if command.startswith("python "):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            runpy.run_path(command.removeprefix("python "))
        return 0
    if apart:
        done = subprocess.run([sys.executable, "-m", "builder", *shlex.split(command)], check=False)
        return done.returncode
    return main(shlex.split(command))


def check(name: str, folder: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    example = EXAMPLES[name]
    write_files(example, folder)
    for variable, value in example.environment.items():
        monkeypatch.setenv(variable, value)
    for package in example.without:
        for module in [m for m in sys.modules if m == package or m.startswith(f"{package}.")]:
            monkeypatch.delitem(sys.modules, module)
        monkeypatch.setitem(sys.modules, package, None)
    *before, last = example.commands
    assert [run(command, apart=False) for command in before] == [0] * len(before), capfd.readouterr().err
    capfd.readouterr()
    ended = run(last, apart=example.apart)
    said = capfd.readouterr().err
    exit_code = CODES[name].exit_code
    assert set(re.findall(rf"{'error' if exit_code else 'warning'}\[(B\d{{4}})\]: ", said)) == {name}, said
    assert ended == exit_code


@pytest.mark.parametrize("name", FAST)
def test_an_example_ends_with_its_code(
    name: str, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    check(name, tmp_path, capfd, monkeypatch)


@pytest.mark.slow
@pytest.mark.parametrize("name", SLOW)
def test_a_slow_example_ends_with_its_code(
    name: str, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    check(name, tmp_path, capfd, monkeypatch)
