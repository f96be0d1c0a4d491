"""Complex numbers and booleans, moved: permuted, reshaped, sliced, gathered."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import torch

from tests.unit.lowerings.agreement import Case, agree, floats


def _pairs(x: torch.Tensor) -> torch.Tensor:
    return torch.view_as_real(x)


def moved(rng: random.Random) -> Case:
    """All of them in one case, on one array of rank 3 and places of its middle axis."""
    places = torch.tensor([rng.randrange(4) for _ in range(5)])

    def function(x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        z, above = torch.complex(x, x * 2 - 1), x > 0
        spectrum = torch.stft(x.reshape(2, 12), 8, window=torch.ones(8), return_complex=True)
        return (
            _pairs(z.permute(2, 0, 1)),
            _pairs(z.transpose(0, -1)),
            _pairs(z[0].T),
            _pairs(z.reshape(4, 6)),
            _pairs(z[:, 1:-1]),
            _pairs(z[:, :, -1]),
            spectrum.permute(0, 2, 1).abs(),
            above.index_select(1, places),
            above[:, places],
            torch.gather(above, 1, places[None, :, None].expand(2, 5, 3)),
        )

    return function, [floats(rng, 2, 4, 3)]


@pytest.mark.parametrize(("method", "half"), [("trace", False), ("export", True)])
def test_moved(method: str, half: bool, tmp_path: Path) -> None:
    used = agree(moved, method=method, half=half, folder=tmp_path, count=1)
    assert {"permute", "slice", "gather"} <= set(used)
