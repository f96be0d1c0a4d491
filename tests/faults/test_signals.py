"""Verbs of many processes that are asked to stop, or killed: nothing of them goes on, nothing is lost."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.unit.device.mac import write_mac

from .conftest import RECIPE, ROOT, Project

NET = """\
import os
import time

import torch


def make():
    if mark := os.environ.get("SLOW_MARK"):
        open(mark, "w").close()
        time.sleep(99)
    return torch.nn.Sequential(torch.nn.Linear(8, 600), torch.nn.ReLU(), torch.nn.Linear(600, 3))
"""
SEARCH = """\
space:
  seed: {setting: source.seed, kind: integer, min: 0, max: 50}
objectives:
  size: {measure: artifact.bytes, goal: minimize}
trials: 2
"""
SSH_HANGS = "measure.py"


@dataclass(frozen=True, kw_only=True)
class Verb:
    """A command line, and what it is in the middle of."""

    arguments: tuple[str, ...]
    fresh: bool = True
    """Whether nothing was built before."""
    files: tuple[str, ...] = ()
    """What it writes in the end."""


VERBS = {
    "search": Verb(arguments=("search", "recipe=tiny", "search=mine"), files=("recipes/tiny_mine.yaml",)),
    "lock": Verb(arguments=("lock", "recipe=tiny"), files=("builder.lock",)),
    "release": Verb(arguments=("release", "recipe=tiny", "--output", "outputs/rel"), files=("outputs/rel/SHA256SUMS",)),
    "verify": Verb(arguments=("verify", "../rel", "--rebuild"), files=()),
    "device": Verb(arguments=("device", "run", "ssh://mac", "recipe=tiny"), fresh=False),
}


@pytest.fixture(scope="session")
def ready(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a committed, locked and built `project`, its `cache`, its release `rel`, and a Mac's stand-in."""
    room = tmp_path_factory.mktemp("ready")
    (room / "project").mkdir()
    project = Project(room / "project")
    project.cache = room / "cache"
    recipe = RECIPE + "  parity: {kind: parity, samples: 2, accept_synthetic: true, snr_db: {min: 1}}\n"
    (project.folder / "recipes/tiny.yaml").write_text(recipe)
    (project.folder / "net.py").write_text(NET)
    (project.folder / ".gitignore").write_text("outputs/\n__pycache__/\n")
    (project.folder / "conf/search").mkdir(parents=True)
    (project.folder / "conf/search/mine.yaml").write_text(SEARCH)
    for verb, more in (("lock", ()), ("build", ()), ("release", ("--output", str(room / "rel")))):
        if verb == "build":
            author = ("-c", "user.name=a", "-c", "user.email=a@b")
            for line in (("init", "-q"), ("add", "-A"), ("commit", "-q", "-m", "all")):
                subprocess.run(["git", *author, *line], cwd=project.folder, check=True)
        process = project.start(*more, verb=verb)
        assert process.wait(timeout=300) == 0, process.communicate()
        process.communicate()
    write_mac(room)
    return room


@pytest.fixture
def started(ready: Path, tmp_path: Path) -> Callable[[str, bool], subprocess.Popen[str]]:
    """Start a verb in a copy of the project, so that it stays where it is; or so that it does not."""

    def start(name: str, stays: bool) -> subprocess.Popen[str]:
        verb = VERBS[name]
        if not (tmp_path / "project").exists():
            shutil.copytree(ready / "project", tmp_path / "project", symlinks=True)
            shutil.copytree(ready / "rel", tmp_path / "rel", symlinks=True)
            if verb.fresh:
                shutil.rmtree(tmp_path / "project/outputs")
                if name == "lock":
                    (tmp_path / "project/builder.lock").unlink()
            else:
                shutil.copytree(ready / "cache", tmp_path / "cache", symlinks=True)
        (tmp_path / "tmp").mkdir(exist_ok=True)
        environment = {
            **os.environ,
            "BUILDER_CACHE": str(tmp_path / "cache"),
            "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "runtime")]),
            "PATH": f"{ready / 'programs'}:{os.environ['PATH']}",
            "TMPDIR": str(tmp_path / "tmp"),
            "OMP_NUM_THREADS": "1",
        }
        if stays:
            environment |= {
                "SLOW_MARK": str(tmp_path / "mark"),
                "MAC_HANGS": SSH_HANGS,
                "MAC_MARK": str(tmp_path / "mark"),
            }
        return subprocess.Popen(
            [sys.executable, "-m", "builder", *verb.arguments],
            cwd=tmp_path / "project",
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    return start


def running(folder: Path) -> list[str]:
    """Processes whose temporary folder is in `folder`, in whichever session they are."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            is_of_it = f"TMPDIR={folder}/tmp".encode() in (entry / "environ").read_bytes()
            state = (entry / "stat").read_text().rpartition(")")[2].split()[0]
            if is_of_it and state not in ("Z", "X"):
                found.append((entry / "cmdline").read_bytes().replace(b"\0", b" ").decode())
        except OSError:
            continue
    return found


def files_of_people(folder: Path) -> dict[str, bytes]:
    """The content of what no command has made."""
    listed = subprocess.run(["git", "ls-files"], cwd=folder, capture_output=True, text=True, check=True).stdout
    return {name: (folder / name).read_bytes() for name in listed.split() if name != "builder.lock"}


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
@pytest.mark.parametrize("name", VERBS)
def test_a_verb_that_is_ended_leaves_nothing_running_and_nothing_half(
    name: str, number: int, started: Callable[[str, bool], subprocess.Popen[str]], tmp_path: Path
) -> None:
    # given a verb in the middle of a build, or of a measurement
    process = started(name, True)
    until = time.monotonic() + 120
    while not (tmp_path / "mark").exists() and time.monotonic() < until and process.poll() is None:
        time.sleep(0.05)
    assert (tmp_path / "mark").exists(), process.communicate()
    before = files_of_people(tmp_path / "project")
    # when it is asked to stop, or killed
    began = time.monotonic()
    process.send_signal(number)
    out, err = process.communicate(timeout=30)
    # then it ends at once, with the right exit code and without a path, and nothing that it started goes on
    assert time.monotonic() - began < 2.5  # two seconds, on a machine that does other things as well
    assert (process.returncode, out) == (-number if number == signal.SIGKILL else 130, ""), err
    assert "Traceback" not in err
    until = time.monotonic() + 3
    while running(tmp_path) and time.monotonic() < until:
        time.sleep(0.05)
    assert running(tmp_path) == []
    # and what people made is as it was; what the verb makes is not there in part
    assert files_of_people(tmp_path / "project") == before
    assert [file for file in VERBS[name].files if (tmp_path / "project" / file).exists()] == []
    if number != signal.SIGKILL:
        assert [each.name for each in (tmp_path / "tmp").iterdir() if each.name.startswith("builder")] == []
        assert not list((tmp_path / "project").rglob(".building/**/build.log"))
    # and the next run is as if nothing had happened, and leaves nothing
    if number == signal.SIGKILL:
        again = started(name, False)
        _, err = again.communicate(timeout=300)
        assert again.returncode == 0, err
        assert all((tmp_path / "project" / file).exists() for file in VERBS[name].files)
        assert not list((tmp_path / "project").rglob(".building"))
        assert not list((tmp_path / "cache").rglob("*.lock"))
