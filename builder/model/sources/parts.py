"""One part of a transformers model that has an encoder and a decoder, such as Whisper: an artifact of its own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch

from builder.errors import SourceError

if TYPE_CHECKING:
    from transformers import PreTrainedModel

ENCODED = "encoder_hidden_states"
"""The input of a decoder that is what its encoder gave: (1, length, width)."""

OWN = "decoder_"
"""How the names begin that transformers gives to what the decoder takes."""

_MASK = "attention_mask"
"""Of what the encoder gave: a whole model passes it on to the decoder."""


def as_transformers_takes(inputs: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Ids and masks as int64, which is what transformers makes."""
    return {name: x.long() if x.dtype == torch.int32 else x for name, x in inputs.items()}


class OnlyPart(torch.nn.Module):
    """A whole model of which a part runs, while seeded weights are drawn for all of it: so its parts fit together."""

    def __init__(self, whole: torch.nn.Module, part: torch.nn.Module) -> None:
        super().__init__()
        self.whole, self.part = whole, part

    def forward(self, *inputs: torch.Tensor) -> Any:
        """Run the part on its own inputs."""
        return self.part(*inputs)


class DecoderPart(torch.nn.Module):
    """The decoder and what follows it; `encoder_hidden_states` stand for all that the encoder would take."""

    def __init__(self, whole: PreTrainedModel) -> None:
        super().__init__()
        self.whole = whole
        self.config = whole.config

    def forward(self, *, encoder_hidden_states: torch.Tensor, **given: Any) -> dict[str, Any]:
        """Return what the whole model returns, but for what would be the encoder's own.

        The other arguments are those of the whole model: `decoder_input_ids` and so on.
        """
        from transformers.modeling_outputs import BaseModelOutput

        returned = self.whole(encoder_outputs=BaseModelOutput(last_hidden_state=encoder_hidden_states), **given)
        return {name: value for name, value in returned.items() if not name.startswith("encoder_")}

    def parameter_names(self) -> tuple[str, ...]:
        """The inputs that a recipe may name."""
        import inspect

        names = inspect.signature(self.whole.forward).parameters
        return ENCODED, *(name for name in names if name == _MASK or name.startswith(OWN))

    def drop_encoder(self) -> None:
        """Forget the encoder, so that its weights are not part of what is digested, counted and captured."""
        encoder = self.whole.get_encoder()
        for module in list(self.whole.modules()):
            for name, child in list(module.named_children()):
                if child is encoder:
                    setattr(module, name, None)


def part_of(whole: PreTrainedModel, name: str | None) -> Any:
    """Return the part of this name of `whole`, or all of it for None; raises SourceError where it has no such parts."""
    if name is None:
        return whole
    if not getattr(whole.config, "is_encoder_decoder", False):
        raise SourceError(
            f"{type(whole).__name__} has no encoder and decoder of which `part: {name}` could be one",
            code="B0309",
            hint="leave `part` out; towers have classes of their own, such as CLIPTextModelWithProjection",
            key="source.part",
        )
    return whole.get_encoder() if name == "encoder" else DecoderPart(whole)
