"""Whisper's encoder and decoder as two artifacts: against transformers, token by token."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

import coreml_runtime as runtime
from builder.__main__ import main
from builder.model.torchvision_import import import_torchvision
from builder.util.measures import compare

pytestmark = pytest.mark.skipif(find_spec("transformers") is None, reason="transformers is an optional package")

RECIPES = Path(__file__).parents[2] / "recipes"
UNTIED = "+source.arguments.tie_word_embeddings=false"
"""Untrained weights repeat the last token for ever where each token is read as it is written."""
PROMPT, STEPS = [3, 17, 41], 8
STATES_DB = 60
"""Least SNR of the decoder: states are kept in half precision, so float32 agrees to 11 bits of the keys and values."""
FLOAT32_DB = 100


def configuration(recipe: str) -> dict[str, Any]:
    source: dict[str, Any] = yaml.safe_load((RECIPES / f"{recipe}.yaml").read_text())["source"]
    return dict(source["arguments"])


def original() -> Any:
    """The whole model, with the weights that the source gives the two parts, and nothing else of ours."""
    import_torchvision()
    import transformers

    from builder.model.sources.seeded import initialise_seeded

    configured = transformers.WhisperConfig(**configuration("whisper_encoder"), tie_word_embeddings=False)
    configured._attn_implementation = "eager"
    model = transformers.WhisperForConditionalGeneration(configured)
    initialise_seeded(model, (), 0)
    return model.eval()


def greedy(model: Any, features: torch.Tensor) -> tuple[list[int], list[torch.Tensor]]:
    """Tokens and logits of each step, by transformers with its own cache."""
    encoded = model.get_encoder()(features)
    given, kept, tokens, rows = torch.tensor([PROMPT]), None, [], []
    for _ in range(STEPS):
        returned = model(encoder_outputs=encoded, decoder_input_ids=given, past_key_values=kept, use_cache=True)
        kept = returned.past_key_values
        rows.append(returned.logits[0, -1])
        tokens.append(int(rows[-1].argmax()))
        given = torch.tensor([[tokens[-1]]])
    return tokens, rows


def greedy_of_artifacts(encoder: Path, decoder: Path, features: torch.Tensor) -> tuple[list[int], list[torch.Tensor]]:
    """The same by the two artifacts: the prompt padded to the four tokens of `prefill`, then one by one."""
    encoded = runtime.load(encoder).predict({"input_features": features.numpy()})["last_hidden_state"]
    prefill, decode = runtime.load(decoder, "prefill"), runtime.load(decoder, "decode")
    state = prefill.make_state()
    given = {"decoder_input_ids": np.array([[*PROMPT, 0]]), "position": [0], "encoder_hidden_states": encoded}
    rows, tokens = [torch.as_tensor(prefill.predict(given, state=state)["logits"][0, len(PROMPT) - 1])], []
    for position in range(len(PROMPT), len(PROMPT) + STEPS):
        tokens.append(int(rows[-1].argmax()))
        given |= {"decoder_input_ids": np.array([[tokens[-1]]]), "position": [position]}
        rows.append(torch.as_tensor(decode.predict(given, state=state)["logits"][0, 0]))
    return tokens, rows[:-1]


@pytest.fixture(scope="module")
def features() -> torch.Tensor:
    return torch.randn(1, 80, 200, generator=torch.Generator().manual_seed(5))


def build(recipe: str, capsys: pytest.CaptureFixture[str]) -> Path:
    code = main([f"recipe={recipe}", "precision=fp32", UNTIED, "tracking=none", "-q"])
    out, err = capsys.readouterr()
    assert code == 0, err
    return Path(out.splitlines()[-1]).absolute()


def test_two_artifacts_write_what_transformers_writes(
    features: torch.Tensor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    # given: transformers' own tokens
    monkeypatch.chdir(tmp_path)
    model = original()
    with torch.no_grad():
        tokens, rows = greedy(model, features)
        others, _ = greedy(model, features.flip(2))
        encoded = model.get_encoder()(features).last_hidden_state
    assert len(set(tokens)) > 2, "a model that repeats itself proves little"
    # when: the shipped recipes are built, in float32
    encoder, decoder = build("whisper_encoder", capsys), build("whisper_decoder", capsys)
    # then: the encoder gives the same, and both together the same tokens and logits at each step
    got = runtime.load(encoder).predict({"input_features": features.numpy()})["last_hidden_state"]
    assert compare(encoded, got).snr_db > FLOAT32_DB
    written, logits = greedy_of_artifacts(encoder, decoder, features)
    assert written == tokens
    assert min(compare(a, b.numpy()).snr_db for a, b in zip(rows, logits, strict=True)) > STATES_DB
    # and other sound gives other tokens: what the encoder gave is not lost on the way
    assert greedy_of_artifacts(encoder, decoder, features.flip(2))[0] == others != tokens


def test_the_two_recipes_are_of_one_model() -> None:
    assert configuration("whisper_encoder") == configuration("whisper_decoder")
