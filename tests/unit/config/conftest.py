"""A working directory of its own with a recipe that says as little as possible."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from builder.artifacts.stages import BuildRequest
from builder.config.compose import compose

LEAST = """\
# The least that a recipe says.
source:
  kind: torchvision
  name: mobilenet_v2
  weights: DEFAULT
input:
  image:
    kind: image
    shape: [1, 3, 32, 32]
    scale: 1
"""

Compose = Callable[..., BuildRequest]
Write = Callable[[str, str], Path]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """Write a file below an empty working directory."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("BUILDER_RECIPES", raising=False)

    def write_file(name: str, text: str) -> Path:
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
        return file

    return write_file


@pytest.fixture
def composed(write: Write) -> Compose:
    """Compose `recipe=x`, whose text is given (the least, unless it is), with overrides."""

    def compose_text(*overrides: str, text: str = LEAST) -> BuildRequest:
        write("recipes/x.yaml", text)
        return compose(["recipe=x", *overrides])

    return compose_text
