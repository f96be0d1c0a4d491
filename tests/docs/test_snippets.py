"""Every file and command in the README and the guide works, in the order in which a reader meets them."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from PIL import Image

from builder.__main__ import main
from coreml_runtime.cli import main as runtime_command
from tests import warm
from tools.docs_site import ORDER

ROOT = Path(__file__).parents[2]
FENCE = re.compile(r"^```(\w+)(?: (\S+))?\n(.*?)^```$", re.M | re.S)
VARIABLE = re.compile(r"([A-Z][A-Z_]*)=")
SET_UP = ("make build", "make test", "pip install")
"""Commands that CI itself runs from scratch on a clean clone."""
ELSEWHERE = ("git", "mkdir", "openssl")
"""Programs that a page says it needs."""
BEFORE_TIMM = "from builder.model.torchvision_import import import_torchvision; import_torchvision()\n"
"""timm imports torchvision, whose compiled operators do not load beside every torch."""
LEAST = {
    "docs/guide/app.md": 3,
    "docs/guide/watch.md": 1,
    "docs/guide/mlflow.md": 4,
    "docs/reference/json.md": 1,
    "docs/reference/python.md": 1,
    "runtime/README.md": 4,
}
"""How many commands a page has at least, where that is few."""
NEEDS_NETWORK_TIME = ("recipe=mobilenet_v2_fp16",)
"""Built by tests/recipes already."""


@pytest.mark.parametrize(
    "document",
    [
        "README.md",
        "docs/reference/json.md",
        "docs/reference/python.md",
        pytest.param(
            " ".join(f"docs/tutorials/{name}.md" for name in ORDER["tutorials"]),
            marks=[pytest.mark.slow, pytest.mark.timeout(1800)],
            id="tutorials",
        ),
        "docs/guide/guide.md",
        pytest.param("docs/guide/compression.md", marks=pytest.mark.slow),
        pytest.param("docs/guide/releases.md", marks=pytest.mark.slow),
        "docs/guide/conversion.md",
        pytest.param("docs/guide/app.md", marks=pytest.mark.slow),
        pytest.param("docs/guide/coreai.md", marks=pytest.mark.slow),
        "docs/guide/detectors.md",
        pytest.param("docs/guide/migrate.md", marks=pytest.mark.slow),
        "docs/guide/headroom.md",
        "docs/guide/costs.md",
        pytest.param("docs/guide/device.md", marks=pytest.mark.slow),
        pytest.param("docs/guide/card.md", marks=pytest.mark.slow),
        "runtime/README.md",
        pytest.param("docs/guide/mlflow.md", marks=pytest.mark.slow),
        pytest.param("docs/guide/language.md", marks=pytest.mark.slow),
        pytest.param("docs/guide/runtime.md", marks=pytest.mark.slow),
        pytest.param("docs/guide/sources.md", marks=pytest.mark.slow),
        pytest.param("docs/guide/sweeps.md", marks=pytest.mark.slow),
        pytest.param("docs/guide/search.md", marks=pytest.mark.slow),
        pytest.param("docs/guide/stores.md", marks=pytest.mark.slow),
        pytest.param("docs/guide/watch.md", marks=pytest.mark.slow),
    ],
)
def test_snippets(document, tmp_path, monkeypatch, capsys):
    # given an empty folder with a picture, as a reader has it
    monkeypatch.chdir(tmp_path)
    Image.radial_gradient("L").convert("RGB").save("digit.png")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), str(ROOT / "runtime")]))
    for who in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{who}_NAME", "reader")
        monkeypatch.setenv(f"GIT_{who}_EMAIL", "reader@example.org")
    ran = 0
    pages = document.split()  # tutorials follow one another in one folder, as their readers do
    for language, file, text in FENCE.findall("\n".join((ROOT / page).read_text() for page in pages)):
        if file:
            Path(file).parent.mkdir(parents=True, exist_ok=True)
            Path(file).write_text(text)
        elif language == "bash":
            for line in text.splitlines():
                with monkeypatch.context() as surroundings:
                    ran += run(line, capsys, surroundings)
        elif language == "python":
            if "coreai_torch" in text and find_spec("coreai_torch") is None:
                continue  # an extra that has wheels for few machines
            ran += 1
            text = (BEFORE_TIMM if "import timm" in text else "") + text
            done = subprocess.run([warm.python(), "-c", text], capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stderr
    assert ran >= LEAST.get(document, 5)


def run(line: str, capsys: pytest.CaptureFixture[str], surroundings: pytest.MonkeyPatch) -> int:
    """Run one line of a bash block: ours in this process, Python scripts in their own; count what ran.

    Variables that stand before a command are set for it.
    """
    words = shlex.split(line, comments=True)
    while words and (variable := VARIABLE.match(words[0])):
        surroundings.setenv(variable[1], words.pop(0)[variable.end() :])
    if not words or line.startswith(SET_UP) or words[-1] in NEEDS_NETWORK_TIME:
        return 0
    if words[:4] == ["python", "-m", "builder", "watch"]:
        watch(words)
    elif words[:3] == ["python", "-m", "builder"] and words[3] != "flush":  # mlflow warns of its own database
        builds = any(w.startswith("recipe=") for w in words) and words[3] != "show"
        extra = ["tracking=none"] if builds and not any(w.startswith("tracking") for w in words) else []
        if words[3] != "doctor":  # which looks at what a new process finds
            surroundings.setattr(sys, "executable", warm.python())
        code = main([*words[3:], *extra])
        assert code == 0, f"{line}\n{capsys.readouterr().err}"
    elif words[0] == "coreml-runtime":
        assert runtime_command(words[1:]) == 0, capsys.readouterr().err
    elif words[0] in ELSEWHERE:
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    else:
        assert words[0] == "python", f"a reader cannot run this on every machine: {line}"
        done = subprocess.run([warm.python(), *words[1:]], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    return 1


def watch(words: list[str]) -> None:
    """Run a command that goes on until Ctrl-C, up to its first verdict."""
    process = subprocess.Popen([sys.executable, *words[1:]], stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    said = []
    for line in process.stderr:
        said.append(line)
        if re.match(r"[\d:]+ passed: ", line):
            break
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=30)
    assert process.returncode == 0, "".join(said)
