"""Decoders with their cache as Core ML state: the artifact against transformers, step by step, token by token."""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import coreml_runtime as runtime
from builder.__main__ import main
from builder.model.torchvision_import import import_torchvision

pytestmark = pytest.mark.skipif(find_spec("transformers") is None, reason="transformers is an optional package")

SHAPE = (
    "{vocab_size: 96, hidden_size: 48, intermediate_size: 96, num_hidden_layers: 2, num_attention_heads: 4, "
    "num_key_value_heads: 2, head_dim: 12, max_position_embeddings: 32%s}"
)
WINDOWS = "tie_word_embeddings: false, sliding_window: 8, layer_types: [sliding_attention, full_attention]"
GPT2 = "{vocab_size: 96, n_embd: 48, n_layer: 2, n_head: 4, n_positions: 32, tie_word_embeddings: false}"
RECIPE = """# A decoder.
source: {{kind: huggingface, auto_class: AutoModelForCausalLM, config_class: {config}, arguments: {arguments},
  cache_length: 32}}
input:
  input_ids: {{kind: tensor, shape: [1, 1], dtype: int32, high: 96}}
  position: {{kind: tensor, shape: [1], dtype: int32, high: 25}}
state: {{keys: {{buffer: keys}}, values: {{buffer: values}}}}
functions:
  decode: {{}}
  prefill: {{shape: {{input_ids: [1, 8]}}}}
output: {{logits: }}
precision: {{kind: {precision}}}
target: {{name: ios18}}
"""
PROMPT, STEPS = 6, 10


def original(config: str, arguments: Mapping[str, Any]) -> Any:
    """The model as the source makes it: the same weights, and nothing of ours in its attention or cache."""
    import_torchvision()
    import transformers

    from builder.model.sources.seeded import initialise_seeded

    configuration = getattr(transformers, config)(**arguments)
    configuration._attn_implementation = "eager"
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = transformers.AutoModelForCausalLM.from_config(configuration)
    initialise_seeded(model, (), 0)
    return model.eval()


def built(text: str, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Path:
    monkeypatch.chdir(folder)
    (folder / "recipes").mkdir()
    (folder / "recipes" / "x.yaml").write_text(text)
    code = main(["recipe=x", "tracking=none", "-q"])
    out, err = capsys.readouterr()
    assert code == 0, err
    return Path(out.splitlines()[-1])


def decoded(path: Path, prompt: np.ndarray[Any, Any]) -> tuple[list[int], torch.Tensor]:
    """Greedy tokens of the artifact and the logits of each step: the prompt padded to 8 tokens, then one by one."""
    prefill, decode = runtime.load(path, "prefill"), runtime.load(path, "decode")
    state = prefill.make_state()
    padded = np.pad(prompt, ((0, 0), (0, 8 - prompt.shape[1])))
    logits = prefill.predict({"input_ids": padded, "position": [0]}, state=state)["logits"][:, : prompt.shape[1]]
    rows, tokens = [torch.as_tensor(logits[0])], []
    for step in range(STEPS):
        tokens.append(int(rows[-1][-1].argmax()))
        given = {"input_ids": np.array([[tokens[-1]]]), "position": [prompt.shape[1] + step]}
        rows.append(torch.as_tensor(decode.predict(given, state=state)["logits"][0]))
    return tokens, torch.cat(rows)


@pytest.mark.parametrize(
    ("config", "arguments", "precision", "least"),
    [
        # States are kept in half precision, so float32 programs agree to 11 bits of the keys and values.
        ("Qwen3Config", SHAPE % "", "fp32", 60),
        ("Qwen3Config", SHAPE % "", "fp16", 40),
        pytest.param("Gemma3TextConfig", SHAPE % f", {WINDOWS}", "fp32", 60, marks=pytest.mark.slow),
        pytest.param("GPT2Config", GPT2, "fp32", 60, marks=pytest.mark.slow),
    ],
)  # fmt: skip
def test_a_decoder_gives_what_transformers_gives(
    config: str,
    arguments: str,
    precision: str,
    least: float,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    # given: a model of transformers, and what it generates with its own cache
    import yaml

    model = original(config, yaml.safe_load(arguments))
    prompt = torch.randint(96, (1, PROMPT), generator=torch.Generator().manual_seed(1))
    generated = model.generate(
        prompt, attention_mask=torch.ones_like(prompt), max_new_tokens=STEPS + 1, do_sample=False, pad_token_id=0,
        eos_token_id=None, output_logits=True, return_dict_in_generate=True,
    )  # fmt: skip
    # when: the recipe is built, and the artifact decodes from the same prompt
    path = built(RECIPE.format(config=config, arguments=arguments, precision=precision), tmp_path, monkeypatch, capsys)
    tokens, logits = decoded(path, prompt.numpy())
    # then: the same tokens, and the same logits at each step, beyond the window of Gemma too
    assert tokens == generated.sequences[0, PROMPT:-1].tolist()
    assert len(set(tokens)) > 2, "a model that repeats itself proves little"
    expected = torch.cat(generated.logits)
    found = logits[PROMPT - 1 :]
    noise = (found - expected).square().sum(1) / expected.square().sum(1)
    assert (-10 * noise.log10()).min() > least


def test_functions_share_weights_and_the_record_tells_them_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    text = RECIPE.format(config="Qwen3Config", arguments=SHAPE % "", precision="fp16")
    # when it is built with two functions, and with one of them alone
    path = built(text, tmp_path, monkeypatch, capsys)
    assert main(["recipe=x", "tracking=none", "-q", "~functions.prefill"]) == 0
    alone = Path(capsys.readouterr().out.splitlines()[-1])
    # then the weights take the same bytes, but for a few constants of the larger function
    sizes = [(p / "Data/com.apple.CoreML/weights/weight.bin").stat().st_size for p in (path, alone)]
    assert sizes[1] <= sizes[0] < 1.02 * sizes[1]
    record = json.loads((path.parent / "build.json").read_text())
    assert {name: each["inputs"][0]["shape"] for name, each in record["functions"].items()} == {
        "decode": [1, 1],
        "prefill": [1, 8],
    }
    assert [check["name"] for check in record["checks"] if check["kind"] == "parity"] == [
        "parity.decode",
        "parity.prefill",
    ]
    assert all(check["passed"] for check in record["checks"])


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("cache_length: 32", "cache_length: 64"), "the model has 32 positions, and the cache 64"),
        (("Qwen3Config", "MambaConfig"), "a layer of kind linear_attention keeps more than keys and values"),
    ],
)
def test_what_cannot_be_kept_is_refused(
    change: tuple[str, str],
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "recipes").mkdir()
    text = RECIPE.format(config="Qwen3Config", arguments=SHAPE % "", precision="fp32").replace(*change)
    (tmp_path / "recipes" / "x.yaml").write_text(text)
    assert main(["recipe=x", "tracking=none", "-q"]) == 3
    assert said in capsys.readouterr().err
