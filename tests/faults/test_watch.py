"""`watch` as people use it: code is fresh, mistakes are shown, changes during a build count, and Ctrl-C ends it all."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from .conftest import NET, Project

SLOW = "import time\n\n" + NET.replace("    return", "    time.sleep(30)\n    return")


class Watching:
    """A running `watch`, in a session of its own."""

    def __init__(self, project: Project) -> None:
        self.process = project.start(verb="watch")
        self.said = ""
        self.page: http.client.HTTPConnection | None = None

    def wait_for(self, pattern: str) -> re.Match[str]:
        """The next line in which a pattern is found."""
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.said += line
            if found := re.search(pattern, line):
                return found
        raise AssertionError(self.said)

    def states(self) -> Any:
        """What the page is told, from now on."""
        port = int(self.wait_for(r"the report is at http://127\.0\.0\.1:(\d+)/; Ctrl-C ends")[1])
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=300)
        connection.request("GET", "/events")
        self.page = connection
        return connection.getresponse()

    def running(self) -> list[int]:
        """Processes of this session that have not ended."""
        found = []
        for entry in Path("/proc").glob("[0-9]*"):
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if int(fields[3]) == self.process.pid and fields[0] != "Z":
                found.append(int(entry.name))
        return found


def wait_for_state(answer: Any, verdict: str) -> dict[str, Any]:
    for line in answer:
        if line.startswith(b"data: "):
            state: dict[str, Any] = json.loads(line.removeprefix(b"data: "))
            if state["verdict"] == verdict:
                return state
    raise AssertionError("the page was sent away")


def ends_within(process: subprocess.Popen[str], seconds: float, number: int) -> float:
    started = time.monotonic()
    process.send_signal(number)
    process.wait(timeout=30)
    took = time.monotonic() - started
    assert took < seconds
    return took


@pytest.fixture
def watching(project: Project) -> Iterator[Watching]:
    found = Watching(project)
    yield found
    if found.process.poll() is None:
        os.killpg(found.process.pid, signal.SIGKILL)
    found.process.communicate()
    if found.page is not None:
        found.page.close()


@pytest.mark.slow
def test_a_day_of_work(project: Project, expected: str, watching: Watching) -> None:
    states = watching.states()
    watching.wait_for("passed: ran load prepare")
    first = wait_for_state(states, "passed")
    # code of the same length within the same second is read anew
    (project.folder / "net.py").write_text(NET.replace("600", "500"))
    watching.wait_for(r"changed: net\.py")
    watching.wait_for(r"passed: ran load prepare .* kB \(was .* kB\)")
    second = wait_for_state(states, "passed")
    assert first["report"] != second["report"]
    # a mistake is shown, and the last report stays
    (project.folder / "net.py").write_text(NET + "def broken(\n")
    assert "SyntaxError" in watching.wait_for("error: (.*)")[1]
    mistake = wait_for_state(states, "error")
    assert "error[B0313]" in mistake["error"]
    assert mistake["report"] == second["report"]
    # a recipe that cannot be composed as well
    recipe = project.folder / "recipes" / "tiny.yaml"
    good = recipe.read_text()
    recipe.write_text(good + "presicion: fp16\n")
    watching.wait_for(r"changed: recipes/tiny\.yaml")
    assert "presicion" in watching.wait_for("error: (.*)")[1]
    # a change during a build ends it
    recipe.write_text(good)
    (project.folder / "net.py").write_text(SLOW)
    watching.wait_for("changed: ")
    time.sleep(3)
    (project.folder / "net.py").write_text(NET)
    watching.wait_for(r"changed: net\.py")
    watching.wait_for("passed: ")
    # the artifact is that of a build on its own, byte for byte
    project.no_partial_artifact(expected)
    # Ctrl-C in the middle of a build ends everything
    (project.folder / "net.py").write_text(SLOW)
    watching.wait_for("changed: ")
    time.sleep(2)
    ends_within(watching.process, 2.0, signal.SIGINT)
    assert watching.process.returncode == 0
    until = time.monotonic() + 2
    while watching.running() and time.monotonic() < until:
        time.sleep(0.05)
    assert watching.running() == []


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_ends_while_it_imports(watching: Watching, number: int) -> None:
    watching.wait_for("the report is at")
    time.sleep(1)
    ends_within(watching.process, 2.0, number)
    assert watching.running() == []
