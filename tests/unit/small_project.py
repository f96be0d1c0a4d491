"""A project with one small recipe, `small`, that several tests build once and copy."""

from __future__ import annotations

import os
from pathlib import Path

from builder.__main__ import main

RECIPE = """\
# A convolution of a few weights, on pictures.
schema: 1
defaults: [precision: fp16, target: ios16, tracking: none]
source: {kind: python, factory: "small_net:net"}
input:
  picture: {kind: image, shape: [1, 3, 16, 16], scale: 0.00392156862745098}
output: {y: null}
checks: {parity: {kind: parity, samples: 2, accept_synthetic: true, search: null, stress: false}}
"""
NET = """
import torch
from torch import nn

def net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(784, 5))
"""


def make_small_project(folder: Path, *commands: list[str], recipe: str = RECIPE) -> Path:
    """Write the project into `folder`, with its store beside it, and run `commands` there, each of which succeeds."""
    before, cache = Path.cwd(), os.environ.get("BUILDER_CACHE")
    os.chdir(folder)
    os.environ["BUILDER_CACHE"] = str(folder.parent / "store")
    try:
        Path("recipes").mkdir()
        Path("small_net.py").write_text(NET)
        Path("recipes/small.yaml").write_text(recipe)
        for command in commands:
            assert main(command) == 0
    finally:
        os.chdir(before)
        os.environ.pop("BUILDER_CACHE")
        os.environ |= {"BUILDER_CACHE": cache} if cache else {}
    return folder
