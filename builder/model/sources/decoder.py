"""A decoder of transformers that keeps keys and values in buffers, which become states of the artifact."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch

from builder.errors import SourceError
from builder.model.sources.parts import OWN, DecoderPart, as_transformers_takes
from builder.util.measures import compare

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel
    from transformers.cache_utils import EncoderDecoderCache

TOKENS, POSITION = "input_ids", "position"
"""The inputs: ids (1, number of tokens), and the number of tokens before them (1).

The decoder of a model with an encoder takes `decoder_input_ids`, and what the encoder gave besides.
"""

_MASKED = -1e4
"""Added to scores of tokens that are not to be seen: it is finite in half precision, and its exponential is 0."""

_TRIED = 16
"""How many tokens the decoder is held against transformers with, where no window makes it need more."""
_ALIKE = 80.0
"""Least signal-to-noise ratio in dB: both compute in float32, in another order."""

_POSITIONS = ("max_target_positions", "max_position_embeddings")
"""Where a configuration says how many tokens its decoder can tell apart."""

_FULL, _SLIDING = "full_attention", "sliding_attention"


class BufferCache:
    """What transformers takes for its cache in one run: keys and values (layers, 1, heads, length, size of a head)."""

    is_compileable = False
    is_sliding = is_linear = is_dummy = ()
    """By layer, what transformers asks for to make masks: they are given."""

    def __init__(self, keys: torch.Tensor, values: torch.Tensor, position: torch.Tensor) -> None:
        self._keys, self._values, self._position = keys, values, position

    def update(
        self, keys: torch.Tensor, values: torch.Tensor, layer: int, *_: object, **__: object
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Write those of the new tokens (1, heads, tokens, size) behind the earlier ones; return those of all."""
        if torch.compiler.is_exporting():  # which takes no slice whose place a tensor says
            places = self._position + torch.arange(keys.shape[-2])
            self._keys[layer].index_copy_(2, places, keys.to(self._keys.dtype))
            self._values[layer].index_copy_(2, places, values.to(self._values.dtype))
            return self._keys[layer].to(keys.dtype), self._values[layer].to(values.dtype)
        end = self._position + keys.shape[-2]
        self._keys[layer, :, :, self._position : end, :] = keys
        self._values[layer, :, :, self._position : end, :] = values
        return self._keys[layer].to(keys.dtype), self._values[layer].to(values.dtype)

    def get_seq_length(self, *_: object) -> int:
        """Return no length: positions and masks are given."""
        return 0


class NothingKept:
    """What transformers takes for the cache of attention to what the encoder gave: computed in each run anew."""

    def update(
        self, keys: torch.Tensor, values: torch.Tensor, *_: object, **__: object
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return those that are given."""
        return keys, values


class CachedDecoder(torch.nn.Module):
    """A decoder that goes on after the tokens that it has seen; `keys` and `values` hold what it keeps of them.

    They are in half precision, as Core ML keeps states. Of a model with an encoder it is the decoder, which also takes
    what the encoder gave; only its attention to its own tokens is kept.
    """

    keys: torch.Tensor
    values: torch.Tensor

    def __init__(self, model: PreTrainedModel | DecoderPart, length: int, inputs: Mapping[str, torch.Tensor]) -> None:
        """Raise SourceError for a model that keeps anything else than keys and values of one shape.

        `inputs` are examples by the recipe's names, in its order.
        """
        super().__init__()
        self.model = model
        self._length = length
        self._inputs = tuple(inputs)
        self._own = OWN if isinstance(model, DecoderPart) else ""
        self.tokens = self._own + TOKENS
        self.name = type(getattr(model, "whole", model)).__name__
        self._windows = _windows(model.config)
        shape = _shape(self, length, self.encoded(inputs))
        self.register_buffer("keys", torch.zeros(shape, dtype=torch.float16))
        self.register_buffer("values", torch.zeros(shape, dtype=torch.float16))

    def forward(self, *inputs: torch.Tensor) -> dict[str, torch.Tensor]:
        """Take the recipe's inputs: tokens (1, number) whose first has the position (1), and what the encoder gave.

        Returns all tensors of the model by name.
        """
        return self.run(dict(zip(self._inputs, inputs, strict=True)), self.keys, self.values)

    def run(
        self, inputs: Mapping[str, torch.Tensor], keys: torch.Tensor, values: torch.Tensor
    ) -> dict[str, torch.Tensor]:
        """The same on other tensors than the buffers."""
        tokens, position = inputs[self.tokens], inputs[POSITION]
        positions = position.long() + torch.arange(tokens.shape[1])
        kept = BufferCache(keys, values, position[0])
        returned = self.call(
            self.encoded(inputs),
            input_ids=tokens.long(),
            position_ids=positions.unsqueeze(0),
            attention_mask=self._masks(positions),
            past_key_values=_beside_encoder(kept) if self._own else kept,
        )
        return {name: value for name, value in returned.items() if isinstance(value, torch.Tensor)}

    def call(self, encoded: Mapping[str, object], *, past_key_values: object, **own: torch.Tensor) -> Mapping[str, Any]:
        """Call the model with arguments that are called as those of a decoder alone."""
        named = {f"{self._own}{name}": value for name, value in own.items()}
        returned: Mapping[str, object] = self.model(
            **encoded, **named, past_key_values=past_key_values, use_cache=True, return_dict=True
        )
        return returned

    def encoded(self, inputs: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Those of the inputs that come from the encoder."""
        return as_transformers_takes({n: x for n, x in inputs.items() if n not in (self.tokens, POSITION)})

    def _masks(self, positions: torch.Tensor) -> Any:
        """What is added to the scores (1, 1, tokens, length), by kind of layer where a model has several."""
        masks = {kind: self._mask(positions.unsqueeze(1), window) for kind, window in self._windows.items()}
        return masks if self.model.config.to_dict().get("layer_types") else next(iter(masks.values()))

    def _mask(self, positions: torch.Tensor, window: int | None) -> torch.Tensor:
        places = torch.arange(self._length).unsqueeze(0)
        seen = places <= positions
        if window is not None and window < self._length:
            seen = seen & (places > positions - window)
        return torch.where(seen, 0.0, _MASKED)[None, None]


def _beside_encoder(kept: BufferCache) -> EncoderDecoderCache:
    """The cache of a decoder that attends to its own tokens, which are kept, and to what the encoder gave."""
    from transformers.cache_utils import DynamicCache, EncoderDecoderCache

    both = EncoderDecoderCache(DynamicCache(), DynamicCache())  # attention asks for this class to tell the two apart
    both.self_attention_cache, both.cross_attention_cache = kept, NothingKept()
    return both


def _windows(config: PretrainedConfig) -> dict[str, int | None]:
    """By kind of layer, how many tokens it sees; None for all."""
    window = getattr(config, "sliding_window", None)
    kinds = getattr(config, "layer_types", None) or [_FULL if window is None else _SLIDING]
    for kind in kinds:
        if kind not in (_FULL, _SLIDING):
            raise SourceError(
                f"a layer of kind {kind} keeps more than keys and values", code="B0319", key="source.cache_length"
            )
    return {kind: window if kind == _SLIDING else None for kind in sorted(set(kinds))}


def _shape(decoder: CachedDecoder, length: int, encoded: Mapping[str, torch.Tensor]) -> tuple[int, ...]:
    """The shape of all keys, and of all values: (layers, 1, heads, length, size of a head)."""
    model = decoder.model
    most = next((found for name in _POSITIONS if (found := getattr(model.config, name, None)) is not None), None)
    if most is not None and length > most:
        raise SourceError(
            f"the model has {most} positions, and the cache {length}", code="B0319", key="source.cache_length"
        )
    try:
        with torch.no_grad():
            first = decoder.call(encoded, past_key_values=None, input_ids=torch.zeros(1, 1, dtype=torch.long))
    except Exception as error:  # whatever the model raises for inputs that it was not made for
        message = (str(error).strip() or type(error).__name__).splitlines()[0]
        taken = " and ".join(["one token", *(f"{name} {tuple(x.shape)}" for name, x in encoded.items())])
        raise SourceError(f"{decoder.name} does not run on {taken}: {message}", code="B0335", key="input") from error
    kept = first.get("past_key_values")
    kept = getattr(kept, "self_attention_cache", kept)
    layers = [(getattr(layer, "keys", None), getattr(layer, "values", None)) for layer in getattr(kept, "layers", ())]
    shapes = {None if tensor is None else tuple(tensor.shape) for pair in layers for tensor in pair}
    if len(shapes) != 1 or None in shapes:
        raise SourceError(
            f"{decoder.name} does not keep keys and values of one shape for each layer",
            code="B0319",
            hint="leave `cache_length` out: the model then takes all tokens at once",
            key="source.cache_length",
        )
    ((batch, heads, _, size),) = [shape for shape in shapes if shape is not None]
    return len(layers), batch, heads, length, size


def prove(decoder: CachedDecoder, length: int, inputs: Mapping[str, torch.Tensor], seed: int) -> None:
    """Raise SourceError unless the decoder gives what transformers gives with its own cache, step by step.

    Seeded tokens go through both: two pieces of several, then one by one; of `inputs` what comes from the encoder.
    """
    encoded = decoder.encoded(inputs)
    window = max((w for w in decoder._windows.values() if w is not None), default=0)
    count = min(length, max(_TRIED, window + 4))
    vocabulary = int(decoder.model.config.vocab_size)
    tokens = torch.randint(vocabulary, (1, count), generator=torch.Generator().manual_seed(seed))
    pieces = [piece for piece in (count // 2, count - count // 2 - 2, 1, 1) if piece > 0]
    keys, values = decoder.keys.float(), decoder.values.float()
    kept, start = None, 0
    for piece in pieces if count > 2 else [count]:
        taken = tokens[:, start : start + piece]
        with torch.no_grad():
            expected = decoder.call(encoded, past_key_values=kept, input_ids=taken)
            given = {**inputs, decoder.tokens: taken, POSITION: torch.tensor([start])}
            got = decoder.run(given, keys, values)
        kept, start = expected["past_key_values"], start + piece
        for name, value in got.items():
            if (found := compare(expected[name], value).snr_db) < _ALIKE:
                raise SourceError(
                    f"with its cache in buffers {decoder.name} gives other {name} than transformers "
                    f"(snr_db {found:.1f} at token {start})",
                    code="B0319",
                    hint="leave `cache_length` out, and report the model: its attention is of another kind",
                    key="source.cache_length",
                )
