"""What the verbs that build nothing print: list, show, schema, flush."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from builder.config.folders import open_library, shipped
from tests.unit.cli.conftest import RECIPE, Run
from tests.unit.cli.json_schema import violations


def test_list_prints_name_tab_description(run: Run) -> None:
    code, out, err = run("list")
    assert (code, err) == (0, "")
    assert "x\tA small thing.\n" in out
    assert all(re.fullmatch(r"\S+\t.+\.", line) for line in out.splitlines())


def test_list_imports_the_standard_library_only(tmp_path: Path) -> None:
    """Hydra, pydantic and torch would cost ten times what the verb does."""
    import subprocess
    import sys

    code = (
        "import sys; from builder.__main__ import main; main(['list']);"
        "heavy = {'hydra', 'pydantic', 'yaml', 'torch', 'rich', 'numpy'};"
        "print(sorted(heavy & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "[]"


def test_show_prints_yaml_that_composes_to_the_same(run: Run) -> None:
    # when a recipe is shown
    code, out, err = run("show", "recipe=x", "seed=3", "metadata.author='a: b'")

    # then it is YAML with the values, and an origin behind each
    assert (code, err) == (0, "")
    shown = yaml.safe_load(out)
    assert shown["seed"] == 3
    assert shown["metadata"]["author"] == "a: b"
    assert shown["source"] == yaml.safe_load(RECIPE)["source"]
    assert re.search(r"name: mobilenet_v2 +# recipes/x.yaml:4:3", out)
    assert re.search(r"seed: 3 +# command line", out)
    lines = [line for line in out.splitlines()[1:] if not line.endswith((":", "{}"))]
    assert all(" # " in line for line in lines)


def test_show_output_is_a_recipe_itself(run: Run, tmp_path: Path) -> None:
    # given the text that show prints, as a recipe
    shown = run("show", "recipe=mobilenet_v2_fp16")[1]
    (tmp_path / "recipes" / "again.yaml").write_text(shown)

    # when that is shown, then the values are the same
    again = run("show", "recipe=again")[1]
    assert yaml.safe_load(again) == yaml.safe_load(shown)


@pytest.fixture
def schema(run: Run) -> dict[str, Any]:
    """The schema that the verb prints."""
    return dict(json.loads(run("schema")[1]))


def recipes() -> list[Path]:
    return sorted(shipped("recipes").glob("*.yaml"))


@pytest.mark.parametrize("file", recipes(), ids=lambda f: f.stem)
def test_every_shipped_recipe_fits_the_schema(file: Path, schema: dict[str, Any]) -> None:
    assert violations(yaml.safe_load(file.read_text()), schema) == []


@pytest.mark.parametrize(
    "text",
    [
        "presicion: fp16", "defaults: [precision: fp17]", "defaults: [presicion: fp16]", "defaults: fp16", "seed: x",
        "source: {kind: torchvison}", "source: {kind: torchvision, nmae: x}", "input: {image: {shape: [a]}}",
        "checks: {parity: {sampels: 1}}", "target: {}\nformat: onnx",
    ],
)  # fmt: skip
def test_the_schema_refuses_mistakes(text: str, schema: dict[str, Any]) -> None:
    assert violations(yaml.safe_load(text), schema)


@pytest.mark.parametrize(
    "text",
    [
        "source: {weights: DEFAULT}", "substitutions: {relu6_to_relu: }", "seed: ${oc.env:SEED}",
        "defaults: [x, _self_, override /precision: fp16, compression: [int8, prune_50]]",
    ],
)  # fmt: skip
def test_the_schema_allows_what_composition_allows(text: str, schema: dict[str, Any]) -> None:
    assert violations(yaml.safe_load(text), schema) == []


def test_schema_offers_every_option(schema: dict[str, Any]) -> None:
    choices = schema["properties"]["defaults"]["items"]["anyOf"][1]["properties"]
    assert choices["target"]["anyOf"][0]["enum"] == open_library().option_names("target")


def test_schema_writes_a_file(run: Run, tmp_path: Path) -> None:
    code, out, _ = run("schema", "--output", "recipe.schema.json")
    assert (code, out) == (0, "recipe.schema.json\n")
    assert json.loads((tmp_path / "recipe.schema.json").read_text())["title"] == "Recipe of builder"


def test_schema_into_a_missing_folder_is_explained(run: Run) -> None:
    code, out, err = run("schema", "--output", "nowhere/x.json")
    assert (code, out) == (2, "")
    assert "cannot be written" in err


def test_flush_of_an_empty_outbox_succeeds(run: Run, tmp_path: Path) -> None:
    code, out, err = run("flush", "--outputs", "outputs")
    assert (code, out, err) == (0, "", "0 sent now, nothing waits\n")


def test_outputs_must_be_a_folder(run: Run) -> None:
    assert run("recipe=x", "--outputs", "recipes/x.yaml")[0] == 2
