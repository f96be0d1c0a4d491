"""The documentation site: what is generated does not drift, links lead somewhere, and it needs no network."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from builder.cli import verbs_page
from tools import write_llms_txt
from tools.docs_site import DOCS, inner_links, navigation, notebook_page
from tools.notebooks import FOLDER, executed

ROOT = Path(__file__).parents[2]
CODESPELL = (
    "docs",
    "README.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "SECURITY.md",
    "builder",
    "runtime",
    "recipes",
    "conf",
)


def pages(entries: list) -> list[str]:
    """Every page of a navigation."""
    found = []
    for entry in entries:
        for inner in entry.values() if isinstance(entry, dict) else [entry]:
            found += [inner] if isinstance(inner, str) else pages(inner)
    return found


def test_generated_pages_are_current():
    assert (DOCS / "reference" / "verbs.md").read_text() == verbs_page.render_page(), (
        "python -m builder.cli.verbs_page > docs/reference/verbs.md"
    )
    assert write_llms_txt.FILE.read_text() == write_llms_txt.render(), "python -m tools.write_llms_txt"


def test_every_page_is_in_the_navigation():
    listed = pages(navigation())
    assert len(listed) == len(set(listed))
    there = {str(file.relative_to(DOCS)) for file in DOCS.rglob("*.md")}
    assert there <= set(listed)
    made = {"changelog.md", "decisions/index.md", *(f"notebooks/{file.stem}.md" for file in FOLDER.glob("*.ipynb"))}
    assert set(listed) - there == made


def test_links_that_leave_the_site_are_text():
    page = DOCS / "roadmap.md"
    given = "[a](../CHANGELOG.md) [b](../builder/noop.py) [c](decisions) [d](design.md#layers) [e](https://example.org)"
    assert inner_links(given, page) == (
        "[a](changelog.md) b [c](decisions/index.md) [d](design.md#layers) [e](https://example.org)"
    )
    assert inner_links("`x[0][1]` and [a][b]", page) == "`x[0][1]` and [a]\\[b]"


def test_notebooks_have_outputs_and_no_errors():
    import nbformat  # takes seconds, of each worker at the top

    files = sorted(FOLDER.glob("*.ipynb"))
    assert len(files) >= 2
    for file in files:
        notebook = nbformat.read(file, as_version=4)
        nbformat.validate(notebook)
        outputs = [output for cell in notebook.cells for output in cell.get("outputs", ())]
        assert outputs, f"{file.name}: python -m tools.notebooks"
        assert not [output for output in outputs if output.output_type == "error"]
        assert str(ROOT) not in file.read_text()
        assert "data:image/png" in notebook_page(notebook)


@pytest.mark.slow
@pytest.mark.parametrize("file", sorted(FOLDER.glob("*.ipynb")), ids=lambda file: file.stem)
def test_notebooks_execute(file):
    notebook = executed(file)
    assert all(cell.outputs or cell.execution_count for cell in notebook.cells if cell.cell_type == "code")


def test_spelling():
    done = subprocess.run(
        [sys.executable, "-m", "codespell_lib", *CODESPELL], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout


@pytest.mark.slow
def test_the_site_builds_and_needs_no_network(tmp_path):
    # given the site, built strictly: each link and anchor leads somewhere
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path)],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    # then no page loads anything from elsewhere
    loaded = re.compile(r"<(?:script|img|iframe)[^>]+src=[\"']?https?://|<link[^>]+href=[\"']?https?://|url\(https?://")
    files = [file for file in tmp_path.rglob("*") if file.suffix in (".html", ".css")]
    assert len(files) > 100
    assert [file.name for file in files if loaded.search(file.read_text())] == []
    assert (tmp_path / "llms.txt").read_text().startswith("# builder\n\n> ")
