"""A kind of source, substitution, check or compression is one file and one line: it builds, and is documented."""

from __future__ import annotations

import ast
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import builder

ROOT = Path(builder.__file__).parents[1]

FILES = {
    "spec/toy_source.py": '''
from typing import Literal

from builder.spec.base import Part


class ToySource(Part):
    """A linear layer of ones."""

    kind: Literal["toy_source"]
    width: int = 4
    """How many numbers it takes."""


def load(source):
    import torch

    from builder.artifacts.stages import LoadedModel

    module = torch.nn.Sequential(torch.nn.Linear(source.width, 4), torch.nn.ReLU6()).eval()
    torch.nn.init.ones_(module[0].weight)
    return LoadedModel(module=module, digest="0" * 64, origin={"kind": "toy_source"})
''',
    "model/substitutions/toy.py": '''
from torch import nn

from builder.model.substitutions.entry import Entry


def halved(old):
    """Clip at 3 instead of 6."""
    return nn.Hardtanh(0.0, 3.0)


TOY = Entry(types=(nn.ReLU6,), exact=False, module=halved)
''',
    "spec/toy_check.py": '''
from typing import Literal

from builder.spec.base import Part


class ToyCheck(Part):
    """The artifact has a name."""

    kind: Literal["toy_check"]


def reports(name, check, subject):
    from builder.artifacts.checks import CheckReport

    passed = subject.sealed.path.name != ""
    yield CheckReport(name=name, kind="toy_check", engine="none", values={}, limits={}, passed=passed, reason="toy")
''',
    "spec/toy_compression.py": '''
from typing import Literal

from builder.spec.compression import WeightStep


class ToyCompression(WeightStep):
    """Integers of 8 bits."""

    kind: Literal["toy_compression"]


def passes(step, *, further):
    import coremltools.optimize.coreml as cto
    from coremltools.optimize.coreml._quantization_passes import linear_quantize_weights

    threshold = step.weight_threshold
    settings = cto.OpLinearQuantizerConfig(mode="linear_symmetric", dtype="int8", weight_threshold=threshold)
    return [linear_quantize_weights(cto.OptimizationConfig(global_config=settings), fake_compression=False)]
''',
}
LINES = {
    "spec/source_kinds.py": (
        "SOURCES = table(",
        'SourceKind(settings=__import__("builder.spec.toy_source", fromlist=["x"]).ToySource, '
        'load="builder.spec.toy_source:load"),',
    ),
    "spec/substitution_kinds.py": (
        "SUBSTITUTIONS = (",
        'SubstitutionKind(name="toy_substitution", rewrite="builder.model.substitutions.toy:TOY"),',
    ),
    "spec/check_kinds.py": (
        "CHECKS = table(",
        'CheckKind(settings=__import__("builder.spec.toy_check", fromlist=["x"]).ToyCheck, '
        'run="builder.spec.toy_check:reports", looked_at="its name"),',
    ),
    "spec/compression_kinds.py": (
        "COMPRESSIONS = table(",
        'CompressionKind(settings=__import__("builder.spec.toy_compression", fromlist=["x"]).ToyCompression, '
        'passes="builder.spec.toy_compression:passes"),',
    ),
}
RECIPE = """\
defaults: [{checks: none}]
source: {kind: toy_source}
input: {x: {kind: tensor, shape: [1, 4]}}
substitutions: {toy_substitution: {}}
compression: {toy_compression: {weight_threshold: 1}}
checks: {toy_check: {}}
target: {name: ios16}
tracking: {kind: none}
"""
NAMES = ["toy_source", "toy_substitution", "toy_check", "toy_compression"]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of builder with four more files, and one more line in each table; a recipe that uses them."""
    folder = tmp_path_factory.mktemp("toy")
    shutil.copytree(ROOT / "builder", folder / "builder", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "conf", folder / "conf")
    for name, text in FILES.items():
        (folder / "builder" / name).write_text(f'"""A toy."""\n{text}', encoding="utf-8")
    for name, (start, line) in LINES.items():
        file = folder / "builder" / name
        text = file.read_text(encoding="utf-8")
        assert text.count(f"\n{start}\n") == 1
        file.write_text(text.replace(f"\n{start}\n", f"\n{start}\n    {line}\n"), encoding="utf-8")
    (folder / "recipes").mkdir()
    (folder / "recipes" / "toy.yaml").write_text(RECIPE, encoding="utf-8")
    return folder


def run(project: Path, *command: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(project), "BUILDER_CACHE": str(project / "cache")}
    return subprocess.run(
        [sys.executable, "-m", *command], cwd=project, env=environment, capture_output=True, text=True, check=False
    )


def test_the_four_build_together(project: Path) -> None:
    done = run(project, "builder", "recipe=toy")
    assert done.returncode == 0, done.stderr
    document = json.loads((project / done.stdout.strip()).with_name("build.json").read_text())
    assert [check["kind"] for check in document["checks"]] == ["toy_check"]
    assert "toy_substitution" in json.dumps(document["substitutions"])
    assert "toy_compression" in json.dumps(document["compression"])


def test_they_are_documented_completed_and_listed_where_a_name_is_wrong(project: Path) -> None:
    pages = run(project, "builder.config.reference").stdout
    assert all(f"`{name}`" in pages for name in NAMES)
    assert (
        "## toy_substitution\n\nClip at 3 instead of 6." in run(project, "builder.model.substitutions.reference").stdout
    )
    schema = run(project, "builder", "schema").stdout
    assert all(f'"{name}"' in schema for name in NAMES)
    (project / "recipes" / "wrong.yaml").write_text(RECIPE.replace("toy_source", "toy_sauce"), encoding="utf-8")
    said = run(project, "builder", "recipe=wrong").stderr
    assert "did you mean `toy_source`?" in said


TABLES = {"source_kinds.py", "check_kinds.py", "compression_kinds.py", "substitution_kinds.py", "kinds.py"}
ROOMS = ("spec", "config", "stages", "engine", "checks", "release", "reports", "auto", "search", "store", "cli", "data")
SECTIONS = r"(?:source|precision|compression|step|check|report|given|data|tracking|substitution|settings)"
COMPARED = re.compile(rf"\b{SECTIONS}\.kind (?:==|!=|in|not in) ")


def test_no_kind_is_compared_by_name_outside_the_tables() -> None:
    package = Path(builder.__file__).parent
    found = [
        f"{file.relative_to(package)}: {ast.unparse(node)}"
        for room in ROOMS
        for file in sorted((package / room).rglob("*.py"))
        if file.name not in TABLES
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.Compare) and COMPARED.search(ast.unparse(node))
    ]
    assert [each for each in found if "kind.name" not in each] == []
