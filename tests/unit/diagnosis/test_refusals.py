"""Reasons of refusals, in a sentence."""

from __future__ import annotations

import coremltools as ct
import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import pixel_shuffle

from builder.backends.coreml.convert import conversion_errors
from builder.errors import ConversionError
from tests.unit.lowerings.agreement import captured


class Newer(nn.Module):
    """What neural networks of iOS 13 lack."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return pixel_shuffle(x, 2), x.cumsum(1)


def test_features_that_a_target_lacks_are_named_with_the_system_that_has_them() -> None:
    x = torch.ones(1, 4, 2, 2)
    with (
        pytest.raises(ConversionError, match=r"too old for .*Pixel Shuffle operation.*: iOS 14") as raised,
        conversion_errors("the model cannot be converted"),
    ):
        ct.convert(
            captured(Newer(), [x], "trace"),
            inputs=[ct.TensorType(name="x", shape=x.shape)],
            convert_to="neuralnetwork",
            minimum_deployment_target=ct.target.iOS13,
            skip_model_load=True,
        )
    assert "umsum operation" in str(raised.value)
