"""Files that a recipe names are sought beside the YAML, then in the working directory."""

from __future__ import annotations

from pathlib import Path

import pytest

from builder.diagnostics.render import DiagnosticsError
from tests.unit.config.conftest import LEAST, Compose, Write

WITH_FILE = LEAST.replace("  weights: DEFAULT\n", "  file: net.pth\n")


def test_a_file_beside_the_recipe_is_preferred(composed: Compose, write: Write) -> None:
    write("net.pth", "")
    write("recipes/net.pth", "")
    request = composed(text=WITH_FILE)
    assert request.spec.source.file == "recipes/net.pth"
    assert request.config["source"]["file"] == "recipes/net.pth"


def test_a_file_in_the_working_directory_is_found(composed: Compose, write: Write) -> None:
    write("net.pth", "")
    assert composed(text=WITH_FILE).spec.source.file == "net.pth"


def test_a_file_of_the_command_line_is_sought_in_the_working_directory_only(composed: Compose, write: Write) -> None:
    write("recipes/net.pth", "")
    with pytest.raises(DiagnosticsError, match=r"no such file: net\.pth"):
        composed("source.file=net.pth")


def test_a_file_of_a_parent_in_another_folder_is_found_beside_that_parent(
    composed: Compose, write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write("other/parent.yaml", WITH_FILE)
    write("other/net.pth", "")
    monkeypatch.setenv("BUILDER_RECIPES", str(tmp_path / "other"))
    assert composed(text="defaults:\n  - parent\n").spec.source.file == "other/net.pth"


def test_words_in_the_place_of_a_file_are_no_files(composed: Compose) -> None:
    assert composed(text=LEAST + "classifier:\n  labels: from_weights\n").spec.classifier.labels == "from_weights"


def test_a_list_in_the_place_of_a_file_is_no_file(composed: Compose) -> None:
    assert composed(text=LEAST + "classifier:\n  labels: [cat, dog]\n").spec.classifier.labels == ["cat", "dog"]


def test_a_file_above_the_recipe_is_told_without_a_detour(composed: Compose, write: Write) -> None:
    write("weights/net.pth", "")
    request = composed(text=LEAST.replace("  weights: DEFAULT\n", "  file: ../weights/net.pth\n"))
    assert request.spec.source.file == "weights/net.pth"
    with pytest.raises(DiagnosticsError, match=r"sought as \S*nothing\.pth and \S*nothing\.pth"):
        composed(text=LEAST.replace("  weights: DEFAULT\n", "  file: ../nothing.pth\n"))


def test_a_detour_through_a_symbolic_link_stays(composed: Compose, write: Write, tmp_path: Path) -> None:
    write("elsewhere/deep/x", "")
    write("elsewhere/net.pth", "")
    (tmp_path / "recipes").mkdir(exist_ok=True)
    (tmp_path / "recipes" / "link").symlink_to(tmp_path / "elsewhere" / "deep")
    file = composed(text=LEAST.replace("  weights: DEFAULT\n", "  file: link/../net.pth\n")).spec.source.file
    assert (tmp_path / file).samefile(tmp_path / "elsewhere" / "net.pth")
