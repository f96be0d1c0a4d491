"""Running builder's entry in this process, in a working directory of its own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from builder.__main__ import main

Run = Callable[..., tuple[int, str, str]]

RECIPE = """\
# A small thing. And more about it.
source:
  kind: torchvision
  name: mobilenet_v2
input:
  image:
    kind: image
    shape: [1, 3, 32, 32]
    scale: 1
"""


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run `python -m builder` with arguments, beside `recipes/x.yaml`; returns exit code, stdout and stderr."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("BUILDER_RECIPES", raising=False)
    (tmp_path / "recipes").mkdir()
    (tmp_path / "recipes" / "x.yaml").write_text(RECIPE)

    def run_main(*arguments: str) -> tuple[int, str, str]:
        code = main(list(arguments))
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run_main
