"""Adaptive pools that leave an axis as it is are captured without fixing its size."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional

from builder.model.capture.pools import pools_of_whole_axes


class _Own(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return functional.adaptive_avg_pool2d(x, (2, x.shape[-1]))


@pytest.mark.filterwarnings("ignore::FutureWarning")  # of torch.export itself
@pytest.mark.parametrize(
    "pool",
    [
        nn.AdaptiveAvgPool2d((1, None)),
        nn.AdaptiveAvgPool2d((3, None)),
        nn.AdaptiveMaxPool2d((1, None)),
        nn.AdaptiveMaxPool2d((2, None)),
        nn.AdaptiveAvgPool2d((None, None)),
        _Own(),
    ],
)
def test_the_axis_that_is_left_stays_open(pool: nn.Module) -> None:
    # given
    shapes = ({3: torch.export.Dim("width", min=4, max=50)},)
    # when
    with pools_of_whole_axes():
        program = torch.export.export(pool, (torch.randn(1, 2, 7, 20),), dynamic_shapes=shapes).run_decompositions({})
    # then it computes what the pool computes, at other widths too
    for width in (20, 31):
        x = torch.randn(1, 2, 7, width)
        assert torch.allclose(program.module()(x), pool(x), atol=1e-6)


def test_other_pools_are_what_they_were() -> None:
    x = torch.randn(1, 2, 5, 6, 7)
    before = functional.adaptive_avg_pool3d
    with pools_of_whole_axes():
        for size in (3, (2, 3, 4), (1, None, 3)):
            assert torch.allclose(functional.adaptive_avg_pool3d(x, size), before(x, size), atol=1e-6)
        values, places = functional.adaptive_max_pool2d(x[0], (2, None), return_indices=True)
        assert values.shape == places.shape == (2, 5, 2, 7)
    assert functional.adaptive_avg_pool3d is before
