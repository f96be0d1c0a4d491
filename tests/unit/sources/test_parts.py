"""Encoders and decoders of transformers as parts of one model."""

from __future__ import annotations

import re
import warnings
from importlib.util import find_spec

import pytest
import torch

from builder.data import make_examples
from builder.errors import SourceError
from builder.model.sources import load_source
from builder.progress import Silent
from builder.spec import BuildSpec

pytestmark = pytest.mark.skipif(find_spec("transformers") is None, reason="an optional package")

IDS = {"kind": "tensor", "shape": [1, 8], "dtype": "int32", "high": 64}
MASK = {"kind": "tensor", "shape": [1, 8], "dtype": "int32", "low": 0, "high": 2}
ENCODED = {"kind": "tensor", "shape": [1, 8, 16]}
T5 = {
    "kind": "huggingface",
    "auto_class": "AutoModelForSeq2SeqLM",
    "config_class": "T5Config",
    "arguments": {
        "vocab_size": 64, "d_model": 16, "d_kv": 8, "d_ff": 32, "num_layers": 1, "num_heads": 2,
        "decoder_start_token_id": 0,
    },
}  # fmt: skip
BART = T5 | {
    "config_class": "BartConfig",
    "arguments": {
        "vocab_size": 64, "d_model": 16, "encoder_layers": 1, "decoder_layers": 1, "encoder_attention_heads": 2,
        "decoder_attention_heads": 2, "encoder_ffn_dim": 32, "decoder_ffn_dim": 32, "max_position_embeddings": 32,
    },
}  # fmt: skip
MOONSHINE = T5 | {
    "auto_class": "AutoModelForSpeechSeq2Seq",
    "config_class": "MoonshineConfig",
    "arguments": {
        "vocab_size": 64, "hidden_size": 16, "intermediate_size": 32, "encoder_num_hidden_layers": 1,
        "decoder_num_hidden_layers": 1, "encoder_num_attention_heads": 2, "decoder_num_attention_heads": 2,
    },
}  # fmt: skip
STATES = {"state": {"keys": {"buffer": "keys"}, "values": {"buffer": "values"}}, "target": {"name": "ios18"}}


def load(source, inputs, **parts):
    spec = BuildSpec.model_validate(
        {
            "source": source,
            "input": inputs,
            "precision": {"kind": "fp32"},
            "target": {"name": "ios15"},
            "tracking": {"kind": "none"},
        }
        | parts
    )
    return load_source(spec, make_examples(spec), Silent())


def given():
    """Ids, a mask that hides some of them, and what the decoder reads."""
    ids = torch.arange(1, 9, dtype=torch.int32)[None]
    mask = torch.tensor([[1, 1, 0, 1, 1, 0, 1, 1]], dtype=torch.int32)
    return ids, mask, ids.flip(1)


@pytest.mark.parametrize("source", [T5, BART], ids=["t5", "bart"])
def test_two_parts_are_the_whole_model(source):
    # given
    ids, mask, read = given()
    whole = load(source, {"input_ids": IDS, "attention_mask": MASK, "decoder_input_ids": IDS}).module
    # when each part is loaded alone
    encoder = load(source | {"part": "encoder"}, {"input_ids": IDS, "attention_mask": MASK}).module
    inputs = {"decoder_input_ids": IDS, "encoder_hidden_states": ENCODED, "attention_mask": MASK}
    decoder = load(source | {"part": "decoder"}, inputs).module
    # then one after the other they give what the whole gives, and each has its own weights only
    with torch.no_grad():
        returned = decoder(read, encoder(ids, mask)["last_hidden_state"], mask)
        assert list(returned) == ["logits"]
        assert torch.equal(returned["logits"], whole(ids, mask, read)["logits"])
    sizes = [sum(p.numel() for p in module.parameters()) for module in (encoder, decoder, whole)]
    assert max(sizes[:2]) < sizes[2]


def test_a_part_of_a_saved_model(tmp_path):
    # given a folder with other weights than seeded ones
    inputs = {"input_ids": IDS, "attention_mask": MASK, "decoder_input_ids": IDS}
    whole = load(T5 | {"seed": 5}, inputs).module
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        whole.model.save_pretrained(tmp_path / "t5")
    ids, mask, _ = given()
    # when
    source = {"kind": "huggingface", "auto_class": T5["auto_class"], "folder": str(tmp_path / "t5"), "part": "encoder"}
    loaded = load(source, {"input_ids": IDS, "attention_mask": MASK})
    # then
    with torch.no_grad():
        expected = whole.model.get_encoder()(input_ids=ids, attention_mask=mask).last_hidden_state
        assert torch.equal(loaded.module(ids, mask)["last_hidden_state"], expected)
    assert loaded.origin["part"] == "encoder"


CACHED = {
    "decoder_input_ids": IDS | {"shape": [1, 1]},
    "position": {"kind": "tensor", "shape": [1], "dtype": "int32", "high": 7},
    "encoder_hidden_states": ENCODED,
}


@pytest.mark.parametrize(
    ("source", "inputs", "parts", "said", "key"),
    [
        (
            {"kind": "huggingface", "config_class": "BertConfig", "part": "encoder"},
            {"input_ids": IDS},
            {},
            "BertModel has no encoder and decoder of which `part: encoder` could be one",
            "source.part",
        ),
        (
            T5 | {"part": "decoder"},
            {"decoder_input_ids": IDS, "input_ids": IDS, "encoder_hidden_states": ENCODED},
            {},
            "the decoder of T5ForConditionalGeneration takes no input input_ids; it takes encoder_hidden_states",
            "input.input_ids",
        ),
        (
            T5 | {"part": "encoder"},
            {"decoder_input_ids": IDS},
            {},
            "T5Stack takes no input decoder_input_ids",
            "input.decoder_input_ids",
        ),
        # Its positions count what transformers' own cache holds, so with another cache it would be a wrong decoder.
        (
            BART | {"part": "decoder", "cache_length": 8},
            CACHED,
            STATES,
            "with its cache in buffers BartForConditionalGeneration gives other logits than transformers",
            "source.cache_length",
        ),
        # Its encoder gives a mask as well.
        (
            MOONSHINE | {"part": "decoder", "cache_length": 8},
            CACHED,
            STATES,
            "MoonshineForConditionalGeneration does not run on one token and encoder_hidden_states (1, 8, 16)",
            "input",
        ),
    ],
)  # fmt: skip
def test_what_is_no_part_is_refused(source, inputs, parts, said, key):
    with pytest.raises(SourceError, match=re.escape(said)) as raised:
        load(source, inputs, **parts)
    assert raised.value.key == key
