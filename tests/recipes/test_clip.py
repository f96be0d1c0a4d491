"""CLIP's two towers as two artifacts, from one saved model: their similarities against transformers."""

from __future__ import annotations

import warnings
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

import coreml_runtime as runtime
from builder.__main__ import main
from builder.model.torchvision_import import import_torchvision
from builder.util.measures import compare

pytestmark = pytest.mark.skipif(find_spec("transformers") is None, reason="transformers is an optional package")

RECIPES = Path(__file__).parents[2] / "recipes"
END = 511
"""The token that ends a text, and pads it."""


def recipe(name: str) -> dict[str, Any]:
    read: dict[str, Any] = yaml.safe_load((RECIPES / f"{name}.yaml").read_text())
    return read


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Path]:
    """A whole CLIP of the two recipes' configurations, and the folder that it is saved in."""
    import_torchvision()
    import transformers

    from builder.model.sources.seeded import initialise_seeded

    texts, pictures = (recipe(name)["source"]["arguments"] for name in ("clip_text", "clip_image"))
    configured = transformers.CLIPConfig(text_config=texts, vision_config=pictures, projection_dim=32)
    model = transformers.CLIPModel._from_config(configured, attn_implementation="eager")
    initialise_seeded(model, (), 7)
    folder = tmp_path_factory.mktemp("saved") / "clip"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.eval().save_pretrained(folder)
    return model, folder


def build(name: str, folder: Path, capsys: pytest.CaptureFixture[str], *more: str) -> Path:
    code = main([f"recipe={name}", f"source.folder={folder}", "tracking=none", "-q", *more])
    out, err = capsys.readouterr()
    assert code == 0, err
    return Path(out.splitlines()[-1]).absolute()


def texts() -> tuple[torch.Tensor, torch.Tensor]:
    """Three texts of different lengths, padded, and their masks."""
    ids, mask = torch.full((3, 32), END), torch.zeros(3, 32, dtype=torch.long)
    for row, length in enumerate((5, 11, 20)):
        words = torch.randint(1, 500, (length,), generator=torch.Generator().manual_seed(row))
        ids[row, : length + 1] = torch.cat([torch.tensor([510]), words])
        mask[row, : length + 2] = 1  # the end is a token of the text
    return ids, mask


def test_similarities_are_those_of_the_whole_model(
    clip: tuple[Any, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    # given: pictures and texts, and what the whole model finds alike
    monkeypatch.chdir(tmp_path)
    model, folder = clip
    pictures = np.random.default_rng(1).integers(0, 256, (2, 64, 64, 3), dtype=np.uint8)
    pictures[1, :, :32] //= 4
    ids, mask = texts()
    pixels = recipe("clip_image")["input"]["pixel_values"]
    given = (torch.tensor(pictures).permute(0, 3, 1, 2) / 255 - channels(pixels["mean"])) / channels(pixels["std"])
    with torch.no_grad():
        expected = model(input_ids=ids, attention_mask=mask, pixel_values=given).logits_per_image
    # when: each tower is built from the folder of the whole model
    image = runtime.load(build("clip_image", folder, capsys, "precision=fp32"))
    text = runtime.load(build("clip_text", folder, capsys, "precision=fp32"))
    seen = torch.cat([row(image, "image_embeds", pixel_values=Image.fromarray(each)) for each in pictures])
    read = torch.cat([row(text, "text_embeds", **each) for each in inputs(ids, mask)])
    # then
    unit = torch.nn.functional.normalize
    found = model.logit_scale.exp().detach() * unit(seen) @ unit(read).T
    assert compare(expected, found.numpy()).snr_db > 80
    assert expected.std(1).min() > 0.01 * expected.abs().max(), "texts that are all alike prove little"


def test_a_text_whose_beginning_is_masked_is_no_nan_in_half_precision(
    clip: tuple[Any, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The attention is causal, so the first tokens then see none at all; coremltools alone makes NaN of all outputs."""
    # given
    monkeypatch.chdir(tmp_path)
    model, folder = clip
    ids, mask = texts()
    mask[:, :3] = 0
    # when
    text = runtime.load(build("clip_text", folder, capsys, "precision=fp16", "output={last_hidden_state: null}"))
    # then
    with torch.no_grad():
        expected = model.text_model(input_ids=ids, attention_mask=mask).last_hidden_state
    got = torch.cat([row(text, "last_hidden_state", **each) for each in inputs(ids, mask)])
    assert min(compare(a, b.numpy()).snr_db for a, b in zip(expected, got, strict=True)) > 40


def channels(values: list[float]) -> torch.Tensor:
    return torch.tensor(values).view(1, 3, 1, 1)


def inputs(ids: torch.Tensor, mask: torch.Tensor) -> list[dict[str, Any]]:
    """What the artifact takes, text by text."""
    return [
        {"input_ids": tokens[None].numpy(), "attention_mask": seen[None].numpy()}
        for tokens, seen in zip(ids, mask, strict=True)
    ]


def row(model: Any, output: str, **inputs: Any) -> torch.Tensor:
    return torch.as_tensor(np.asarray(model.predict(inputs)[output]))
