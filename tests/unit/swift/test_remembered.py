"""The interface from the cache: the same text, and made anew where it is another's or what makes it changed."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from builder.swift import remembered, render
from builder.swift.interface import Package
from tests.unit.swift.packages import by_task

TASKS = by_task()


@pytest.fixture
def rendered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The packages that are rendered from now on, by their modules; with an own cache and a copy of the templates."""
    found: list[str] = []

    def noted(package: Package) -> str:
        found.append(package.module)
        return f"// {package.module} {len(found)}"

    shutil.copytree(remembered._TEMPLATES, tmp_path / "templates")
    monkeypatch.setattr(remembered, "_TEMPLATES", tmp_path / "templates")
    monkeypatch.setenv("BUILDER_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(render, "interface_source", noted)
    return found


def test_each_package_has_the_text_that_templates_give() -> None:
    for package in TASKS.values():
        wanted = render.interface_source(package)
        assert [remembered.interface_source(package) for _ in range(2)] == [wanted, wanted]


def test_a_package_is_rendered_once_until_something_changes(rendered: list[str], tmp_path: Path) -> None:
    # given an interface in the cache
    package = next(iter(TASKS.values()))
    first = remembered.interface_source(package)
    assert remembered.interface_source(package) == first
    assert len(rendered) == 1
    # then another package, another template and a damaged file are rendered
    other = replace(package, shown={**package.shown, "author": "Somebody else"})
    assert remembered.interface_source(other) != first
    template = tmp_path / "templates" / "Model.swift.j2"
    template.write_text(template.read_text() + "\n")
    assert remembered.interface_source(package) != first
    for file in (tmp_path / "cache" / "swift").iterdir():
        file.write_text("{}")
    before = len(rendered)
    assert remembered.interface_source(package) == remembered.interface_source(package)
    assert len(rendered) == before + 1
