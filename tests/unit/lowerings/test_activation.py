"""PReLU with a slope for each channel, in every rank."""

from __future__ import annotations

import random
from pathlib import Path

import torch
from torch import nn

from tests.unit.lowerings.agreement import Case, agree, floats, ways


def prelu(rng: random.Random) -> Case:
    shape = [2, 3, *(rng.randint(1, 4) for _ in range(rng.choice([0, 1, 3])))]
    module = nn.PReLU(3)
    with torch.no_grad():
        module.weight.copy_(floats(rng, 3))
    return module.requires_grad_(False), [floats(rng, *shape)]


@ways(prelu)
def test_slopes_differ_by_channel(draw, method: str, half: bool, tmp_path: Path) -> None:
    used = agree(draw, method=method, half=half, folder=tmp_path)
    assert "prelu" in used
