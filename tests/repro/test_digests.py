"""No artifact of a shipped recipe, or of a variant of one, changes unseen: `digests.json` has them for one toolchain.

A digest that changes on purpose (a conversion that was wrong) is changed there, with the reason in CHANGELOG.md.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

import builder
from builder.store.digests import artifact_digest

KNOWN = json.loads((Path(__file__).parent / "digests.json").read_text(encoding="utf-8"))


def toolchain() -> dict[str, str]:
    """The versions here of what decides about an artifact's bytes."""
    packages = ("coremltools", "numpy", "protobuf", "torch", "torchvision")
    return {
        **{name: metadata.version(name).partition("+")[0] for name in packages},
        "python": f"{sys.version_info.major}.{sys.version_info.minor}",
        "platform": f"{sys.platform} {platform.machine()}",
    }


def test_every_shipped_recipe_has_a_digest() -> None:
    # recipes of another format, and those that need an optional package, are in the list of their own tests
    recipes = {path.stem for path in (Path(__file__).parents[2] / "recipes").glob("*.yaml")}
    listed = {name.removeprefix("recipe=") for name in KNOWN["artifacts"] if " " not in name}
    assert listed <= recipes
    assert {name for name in recipes - listed if "aimodel" not in name and "coreai" not in name} == set()


@pytest.mark.slow
@pytest.mark.parametrize("arguments", KNOWN["artifacts"])
def test_an_artifact_has_the_bytes_that_it_had(arguments: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # given the toolchain of the list
    if toolchain() != KNOWN["toolchain"]:
        pytest.skip(f"digests are known for {KNOWN['toolchain']}, and this is {toolchain()}")

    # when it is built in a process of its own: torch numbers what it traces over the life of a process
    command = [sys.executable, "-m", "builder", *arguments.split(), "checks=none", "tracking=none", "-q"]
    environment = {**os.environ, "PYTHONPATH": str(Path(builder.__file__).parents[1])}
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path, env=environment)

    # then
    assert done.returncode == 0, done.stderr
    assert artifact_digest(tmp_path / done.stdout.strip()) == KNOWN["artifacts"][arguments]
