"""Ctrl-C and SIGTERM end a command within two seconds, whatever native code it is in the middle of."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

import builder

from .conftest import Project

SLOW_OPERATOR = """
import ctypes, importlib.abc, importlib.util, os, sys

MODULE, NAME = os.environ["SLOW"].split(":")


def slow(*args, **kwargs):
    open(os.environ["MARK"], "w").close()
    ctypes.PyDLL(None).sleep(99)  # holds Python's lock: no signal is heard


class Finder(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name != MODULE:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        run = spec.loader.exec_module

        def replaced(module):
            run(module)
            setattr(module, NAME, slow)

        spec.loader.exec_module = replaced
        return spec


sys.meta_path.insert(0, Finder())
"""
"""A `sitecustomize` that replaces a function by native code which takes 99 seconds, once its module is imported."""

ROOT = Path(builder.__file__).parents[1]


def slowed(project: Project, where: str) -> dict[str, str]:
    """An environment in which the function `module:name` is slow."""
    folder = project.folder / "slow"
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(SLOW_OPERATOR)
    paths = [str(folder), str(ROOT), str(ROOT / "runtime")]
    return {"SLOW": where, "MARK": str(project.folder / "mark"), "PYTHONPATH": os.pathsep.join(paths)}


def of_session(leader: int) -> list[int]:
    """Processes of a session that have not ended."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[3]) == leader and fields[0] != "Z":
            found.append(int(entry.name))
    return found


@pytest.mark.slow
@pytest.mark.parametrize(
    ("where", "verb", "number"),
    [
        ("coremltools.converters.mil.backend.mil.load:load", "build", signal.SIGINT),  # MIL is written, in C++
        ("coreml_runtime.mlprogram:execute", "build", signal.SIGTERM),  # an operator of the runtime, in a check
        ("builder.store.objects:_copy", "build", signal.SIGINT),  # files go to the store
        ("builder.analysis.installation:_native_libraries", "doctor", signal.SIGTERM),
        ("builder.store.collect:collect", "gc", signal.SIGINT),
        ("coreml_runtime.mlprogram:execute", "sweep", signal.SIGINT),
    ],
)
def test_an_operator_that_takes_long_is_ended(where: str, verb: str, number: int, project: Project) -> None:
    environment = slowed(project, where)
    if verb == "build":
        process = project.start("checks.parity={kind: parity}", environment=environment)
    elif verb == "sweep":
        process = project.start(
            "-m", "checks.parity={kind: parity}", "seed=1,2", "sweep.jobs=2", environment=environment
        )
    else:
        process = project.start(verb=verb, recipe="", environment=environment)
    mark, until = Path(environment["MARK"]), time.monotonic() + 120
    while not mark.exists() and time.monotonic() < until and process.poll() is None:
        time.sleep(0.05)
    assert mark.exists(), process.communicate()
    # when
    started = time.monotonic()
    process.send_signal(number)
    out, err = process.communicate(timeout=30)
    seconds = time.monotonic() - started
    # then
    assert (process.returncode, out) == (130, ""), err
    assert "interrupted" in err
    assert seconds < 2.5  # two seconds, on a machine that does other things as well
    until = time.monotonic() + 2
    while of_session(process.pid) and time.monotonic() < until:
        time.sleep(0.05)
    assert of_session(process.pid) == []
    assert not (project.folder / "outputs" / "tiny" / "default").exists()
