"""An artifact is the same to the byte from other processes, hash seeds, days, time zones, threads and directories."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from builder.model.torchvision_import import import_torchvision
from tests import warm
from tests.repro.build_all import VARIANTS

pytestmark = pytest.mark.xdist_group("reproducible")  # all variants are built by one worker, once

REPOSITORY = Path(__file__).parents[2]

RECIPE = """
schema: 1
defaults:
  - source: torchvision
  - input: image_32
  - precision: fp16
  - target: ios16
  - checks: none
  - tracking: none
source:
  name: mobilenet_v2
  weights: null
  file: mobilenet_v2.pth
  arguments:
    width_mult: 0.25
    num_classes: 250
"""

ANOTHER_DAY = """
import datetime
import time

_now = time.time


def _later():
    return _now() + 400 * 86400


class Date(datetime.date):
    @classmethod
    def today(cls):
        return cls.fromtimestamp(_later())


time.time = _later
datetime.date = Date
"""
"""A sitecustomize that moves the clock by 400 days."""


def _write_recipe(folder: Path) -> None:
    (folder / "recipes").mkdir(parents=True)
    (folder / "recipes" / "repro.yaml").write_text(RECIPE)
    torch.manual_seed(0)
    model = import_torchvision().models.mobilenet_v2(weights=None, width_mult=0.25, num_classes=250)
    torch.save(model.state_dict(), folder / "recipes" / "mobilenet_v2.pth")


def _build(folder: Path, variants: list[str], environment: dict[str, str]) -> dict[str, str]:
    """Build these variants with `folder` as working directory and return their digests."""
    _write_recipe(folder)
    (folder / "temporary").mkdir()
    (folder / "sitecustomize.py").write_text(ANOTHER_DAY if "LATER" in environment else "")
    result = folder / "digests.json"
    python = sys.executable if "PYTHONHASHSEED" in environment else warm.python()
    done = subprocess.run(
        [python, "-m", "tests.repro.build_all", str(folder / "outputs"), str(result), *variants],
        cwd=folder,
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(folder), str(REPOSITORY)]),
            "TMPDIR": str(folder / "temporary"),
            "BUILDER_CACHE": str(folder / "cache"),
            **environment,
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    digests: dict[str, str] = json.loads(result.read_text())
    return digests


@pytest.fixture(scope="module")
def two_builds(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[dict[str, str], dict[str, str]]:
    """The digests of the variants that are asked for, from two environments that share nothing but the tools."""
    calls = [getattr(item, "callspec", None) for item in request.session.items]
    variants = [call.params["variant"] for call in calls if call is not None and call.params.get("variant") in VARIANTS]
    here = _build(
        tmp_path_factory.mktemp("here"),
        variants,
        {"TZ": "Pacific/Auckland", "OMP_NUM_THREADS": "1"},  # its hash seed is any
    )
    there = _build(
        tmp_path_factory.mktemp("there") / "a folder" / "further down",
        variants,
        {"PYTHONHASHSEED": "4242", "TZ": "America/Los_Angeles", "OMP_NUM_THREADS": "2", "LATER": "1"},
    )
    return here, there


QUICK = ("mlpackage", "mlmodel", "seeded", "palettize_4")


@pytest.mark.parametrize(
    "variant", [pytest.param(name, marks=[] if name in QUICK else pytest.mark.slow) for name in VARIANTS]
)
def test_two_builds_have_equal_digests(variant: str, two_builds: tuple[dict[str, str], dict[str, str]]) -> None:
    # given one recipe, built in two processes with other hash seeds, days, time zones, thread counts and directories
    here, there = two_builds
    # when the digests of the artifacts are compared, then they are equal
    assert here[variant] == there[variant]


def test_the_variants_differ(two_builds: tuple[dict[str, str], dict[str, str]]) -> None:
    # given the digests of one environment, then no two variants have the same (equality above means something)
    here, _ = two_builds
    assert len(set(here.values())) == len(here) >= len(QUICK)
