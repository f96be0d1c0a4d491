"""torch's fused attention (its "fast path"), which looks past replaced modules at the weights of the old ones."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager

import torch


@contextmanager
def attention_in_operators() -> Iterator[None]:
    """Run attention by its operators, as it is captured, so that a comparison sees what the rewrite changes."""
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)


def leave_fast_path(root: torch.nn.Module, replaced: Collection[int]) -> None:
    """Keep encoder layers, of which a child was replaced, from handing the children's weights to a fused kernel.

    `replaced` are ids of the new modules. torch.nn.TransformerEncoderLayer calls its children only where some
    condition rules its fused kernel out; an unknown activation is one that nothing else reads.
    """
    changed = set()
    for module in root.modules():
        if isinstance(module, torch.nn.TransformerEncoderLayer) and any(
            id(child) in replaced for child in module.modules()
        ):
            module.activation_relu_or_gelu = 0
            changed.add(id(module))
    for module in root.modules():
        if isinstance(module, torch.nn.TransformerEncoder) and any(id(m) in changed for m in module.modules()):
            module.use_nested_tensor = False
