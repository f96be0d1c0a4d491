"""Composition: inheritance, what a choice replaces, origins, interpolation, the recipe's own spelling of choices."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from hydra.types import RunMode

from builder.config.compose import MAIN, compose
from builder.config.hydra.sources import config_loader, merge_order, option_files
from builder.diagnostics.render import DiagnosticsError
from builder.errors import ConfigurationError
from tests.unit.config.conftest import LEAST, Compose, Write


@pytest.mark.parametrize(
    "entry", ["precision: fp32", "/precision: fp32", "override /precision: fp32", "override precision: fp32"]
)
def test_a_recipe_chooses_an_option_in_every_spelling(entry: str, composed: Compose) -> None:
    assert composed(text=f"defaults:\n  - {entry}\n  - _self_\n{LEAST}").spec.precision.kind == "fp32"


@pytest.mark.parametrize("entry", ["parent", "/recipe/parent", "recipe: parent", "/recipe: parent"])
def test_a_recipe_inherits_a_sibling_and_wins(entry: str, composed: Compose, write: Write) -> None:
    # given a parent with a precision, a target and a seed
    write("recipes/parent.yaml", "defaults:\n  - precision: fp32\n  - target: ios17\nseed: 1\n" + LEAST)

    # when a child inherits it and says otherwise
    spec = composed(text=f"defaults:\n  - target: ios18\n  - {entry}\nseed: 2\n").spec

    # then the child's words hold, and the parent's where it says nothing
    assert (spec.target.name, spec.seed, spec.precision.kind) == ("ios18", 2, "fp32")


def test_the_later_of_two_parents_wins(composed: Compose, write: Write) -> None:
    write("recipes/one.yaml", LEAST + "seed: 1\n")
    write("recipes/two.yaml", LEAST + "seed: 2\n")
    assert composed(text="defaults:\n  - one\n  - two\n").spec.seed == 2


def test_a_package_header_is_tolerated(composed: Compose) -> None:
    assert composed(text="# @package _global_\n" + LEAST).spec.seed == 0


def test_a_choice_on_the_command_line_replaces_what_the_recipe_writes_itself(composed: Compose) -> None:
    # given a recipe with sections of its own
    text = LEAST + "precision:\n  kind: fp32\nchecks:\n  parity:\n    samples: 9\n"

    # when the command line chooses options
    spec = composed("precision=fp16", "checks=none", text=text).spec

    # then nothing of the recipe's sections remains
    assert spec.precision.kind == "fp16"
    assert spec.checks == {}


def test_choosing_what_the_recipe_chose_changes_nothing(composed: Compose) -> None:
    text = "defaults:\n  - checks: default\n" + LEAST + "checks:\n  parity:\n    samples: 9\n"
    assert composed("checks=default", text=text).spec == composed(text=text).spec


def test_a_child_that_chooses_replaces_what_its_parent_writes(composed: Compose, write: Write) -> None:
    write("recipes/parent.yaml", LEAST + "compression:\n  mine:\n    kind: prune\n")
    assert composed(text="defaults:\n  - parent\n  - compression: none\n").spec.compression == {}


def test_sections_merge_with_an_option(composed: Compose) -> None:
    spec = composed(text=LEAST + "checks:\n  parity:\n    samples: 9\n").spec
    assert spec.checks["parity"].samples == 9
    assert "capture" in spec.checks


def test_an_entry_of_a_named_mapping_needs_no_kind(composed: Compose) -> None:
    assert composed(text=LEAST + "substitutions:\n  relu6_to_relu:\n").spec.substitutions


def test_every_value_knows_where_it_was_written(composed: Compose) -> None:
    # when a recipe with an override is composed
    request = composed("seed=3", "precision=fp32")

    # then origins name the line, the option file, or the command line
    assert request.origins["source.name"] == "recipes/x.yaml:4:3"
    assert request.origins["precision.kind"].endswith("conf/precision/fp32.yaml:2:1")
    assert request.origins["seed"] == "command line"


def test_interpolations_are_resolved(composed: Compose, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WHO", "me")
    text = LEAST + "metadata:\n  author: ${oc.env:WHO}\n  description: ${source.name} by ${metadata.author}\n"
    metadata = composed(text=text).spec.metadata
    assert (metadata.author, metadata.description) == ("me", "mobilenet_v2 by me")


def test_values_of_the_command_line(composed: Compose) -> None:
    shape = ["input.image.shape.2=64", "input.image.shape.3=48"]
    metadata = ["metadata.author='a b'", "++metadata.user.team=core"]
    spec = composed(*shape, "+source.arguments={num_classes: 10}", *metadata).spec
    assert spec.input["image"].shape == [1, 3, 64, 48]
    assert spec.source.arguments == {"num_classes": 10}
    assert spec.metadata.author == "a b"
    assert spec.metadata.user == {"team": "core"}


def test_a_key_is_deleted(composed: Compose) -> None:
    assert composed("~source.weights").spec.source.weights is None


def test_a_recipe_may_be_named_by_its_path(composed: Compose) -> None:
    composed()
    assert compose(["recipe=recipes/x.yaml"]).recipe == "x"
    assert compose(["recipe=./recipes/x"]).recipe == "x"


def test_recipes_of_builder_recipes_are_found(write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # given a folder of recipes elsewhere, one of which inherits a shipped one
    write("elsewhere/mine.yaml", "defaults:\n  - mobilenet_v2_fp16\nseed: 4\n")
    monkeypatch.setenv("BUILDER_RECIPES", str(tmp_path / "elsewhere"))

    # when it is composed, then it is found
    assert compose(["recipe=mine"]).spec.seed == 4


def test_a_name_with_two_files_is_an_error_unless_they_are_equal(
    composed: Compose, write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # given the same recipe in two folders
    write("elsewhere/x.yaml", LEAST)
    monkeypatch.setenv("BUILDER_RECIPES", str(tmp_path / "elsewhere"))

    # when both are equal it composes, and when they differ both are named
    assert composed().recipe == "x"
    with pytest.raises(ConfigurationError, match=r"recipes/x\.yaml and elsewhere/x\.yaml"):
        composed(text=LEAST + "seed: 2\n")


def test_a_missing_recipe_folder_is_an_error(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    write("recipes/x.yaml", LEAST)
    monkeypatch.setenv("BUILDER_RECIPES", "nowhere")
    with pytest.raises(ConfigurationError, match="BUILDER_RECIPES names nowhere"):
        compose(["recipe=x"])


def test_an_unreadable_file_is_explained(composed: Compose, monkeypatch: pytest.MonkeyPatch) -> None:
    # given a file that may not be read (tests may run as root, so the refusal is made here)
    real = os.open

    def refuse(path: Any, *arguments: Any, **options: Any) -> int:
        if str(path).endswith("x.yaml"):
            raise PermissionError(13, "Permission denied")
        return real(path, *arguments, **options)

    monkeypatch.setattr(os, "open", refuse)

    # when it is composed, then the reason is told
    with pytest.raises(
        DiagnosticsError, match=r"recipes/x\.yaml:1:1: error\[B0201\]: the file cannot be read: Permission denied"
    ):
        composed()


@pytest.mark.parametrize(
    "recipe", ["mobilenet_v2_fp16", "mobilenet_v2_fp32", "mobilenet_v2_mlmodel", "mobilenet_v2_relu"]
)
def test_shipped_recipes_compose_from_any_directory(recipe: str, write: Write) -> None:
    write("empty", "")
    assert compose([f"recipe={recipe}"]).variant == "default"


def test_a_path_into_a_single_value_of_a_list_is_refused_like_any_other(composed: Compose) -> None:
    with pytest.raises(DiagnosticsError, match=r"input\.image\.shape\.3\.a: unknown key"):
        composed("+input.image.shape.3.a=1")


@pytest.mark.parametrize("name", ["größe_日本", "1.10", "true", "0x10", "my model"])
def test_a_recipe_is_named_as_its_file_is(name: str, write: Write) -> None:
    write(f"recipes/{name}.yaml", LEAST)
    assert compose([f"recipe={name}"]).recipe == name


def test_text_in_any_script_needs_no_quotes(composed: Compose) -> None:
    assert composed("metadata.author=José").spec.metadata.author == "José"


@pytest.mark.parametrize("name", ["broken", "mlflow.db", ".building", "n" * 201])
@pytest.mark.parametrize("given", ["{}", "recipes/{}.yaml"])
def test_a_recipe_that_outputs_has_no_room_for_is_refused(name: str, given: str, write: Write) -> None:
    write(f"recipes/{name}.yaml", LEAST)
    with pytest.raises(DiagnosticsError, match=r"not a name for a recipe|at most 200 bytes"):
        compose([f"recipe={given.format(name)}"])


@pytest.mark.parametrize("chosen", [(), ("precision=fp32", "compression=palettize_4"), ("checks=none", "~target")])
def test_files_are_merged_in_hydras_order(chosen: tuple[str, ...]) -> None:
    overrides = ("recipe=digits_mobilenet", *chosen)
    files = option_files()
    for _ in range(2):
        wanted = config_loader().compute_defaults_list(MAIN, list(overrides), RunMode.RUN).defaults
        found = [(each.config_path, each.package) for each in merge_order(MAIN, overrides, files)]
        assert found == [(each.config_path, each.package) for each in wanted if "hydra" not in str(each.config_path)]
        assert len(found) > 5
