"""The weights that are shipped for recipes/digits_mobilenet.yaml are as good as its training script says."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
import yaml

from builder.model.sources.weights import file_digest, read_state_dict
from builder.model.torchvision_import import import_torchvision

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location(
        "train_digits_mobilenet", ROOT / "tools" / "train_digits_mobilenet.py"
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def recipe() -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load((ROOT / "recipes" / "digits_mobilenet.yaml").read_text())
    return content


def test_the_shipped_weights_reach_the_stated_accuracy(script: ModuleType, recipe: dict[str, Any]) -> None:
    file = ROOT / "recipes" / recipe["source"]["file"]
    module = import_torchvision().models.mobilenet_v2(weights=None, **recipe["source"]["arguments"])
    module.load_state_dict(read_state_dict(file, trust_pickle=False))

    reached = script.accuracy(module, *script.load("held_out"))

    stated = re.search(r"accuracy is ([\d.]+)", script.__doc__ or "")
    assert stated is not None
    assert round(reached, 4) == float(stated[1])
    assert reached > recipe["checks"]["accuracy"]["accuracy"]["min"]


def test_recipe_script_and_file_agree(script: ModuleType, recipe: dict[str, Any]) -> None:
    file = ROOT / "recipes" / recipe["source"]["file"]
    assert file == script.OUTPUT
    assert recipe["source"]["arguments"] == script.ARGUMENTS
    assert file.stat().st_size < 2_000_000
    assert file_digest(file) == recipe["source"]["sha256"]
    assert file_digest(file) in (script.__doc__ or "")


def test_augmented_pictures_stay_in_range_with_black_around(script: ModuleType) -> None:
    torch.manual_seed(0)
    pictures = script.load("train")[0][:8]
    augmented = script.augment(pictures)
    assert augmented.shape == pictures.shape
    assert not torch.equal(augmented, pictures)
    # Bilinear sampling stays between the values around it; the tolerance is float32's on values of 0 to 2.
    assert -1 - 1e-5 <= float(augmented.min()) <= float(augmented.max()) <= 1 + 1e-5
