"""torch's encoder packs rows that are no padding, and writes zeros for the others; what is captured does the same."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from builder.model.capture.encoders import padding_set_to_zero

LENGTHS = ([5, 3, 1], [5, 5, 5], [2, 2, 2])


def encoder(**settings: object) -> nn.TransformerEncoder:
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    return nn.TransformerEncoder(layer, 2, **settings).eval().requires_grad_(False)


@pytest.mark.filterwarnings(
    "ignore::torch.jit.TracerWarning", "ignore::DeprecationWarning", "ignore:The PyTorch API of nested tensors"
)
@pytest.mark.parametrize("settings", [{}, {"norm": nn.LayerNorm(8)}, {"enable_nested_tensor": False}], ids=str)
def test_a_trace_has_zeros_where_torch_writes_them(settings: dict[str, object]) -> None:
    model = encoder(**settings)
    x = torch.randn(3, 5, 8, generator=torch.Generator().manual_seed(1))
    fast = torch.backends.mha.get_fastpath_enabled()
    with padding_set_to_zero(), torch.no_grad():
        torch.backends.mha.set_fastpath_enabled(False)
        try:
            run = lambda x, hidden: model(x, src_key_padding_mask=hidden)  # noqa: E731 - what is traced
            traced = torch.jit.trace(run, (x, torch.zeros(3, 5, dtype=torch.bool)), check_trace=False)
        finally:
            torch.backends.mha.set_fastpath_enabled(fast)
    masks = [torch.arange(5)[None] >= torch.tensor(lengths)[:, None] for lengths in LENGTHS]
    masks.append(torch.tensor([[True, False, False, True, False]] * 3))  # padding in front is not packed
    for hidden in masks:
        with torch.no_grad():
            torch.testing.assert_close(traced(x, hidden), model(x, src_key_padding_mask=hidden), rtol=1e-5, atol=1e-5)
    with torch.no_grad():
        zeros = model(x, src_key_padding_mask=masks[0])[1, 3:]
    if not settings:
        assert not zeros.any()  # else there would be nothing to test
