"""Hooks of the documentation site (`make docs`): navigation by folder, notebooks, titles of files, links out of docs/.

A page that is added to docs/ is in the navigation without being listed: by its folder, the pages that `ORDER` names
first and the others by their titles.
"""

from __future__ import annotations

import base64
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
SECTIONS = {
    "Tutorials": ("tutorials",),
    "Guide": ("guide",),
    "Notebooks": ("notebooks",),
    "Reference": ("reference",),
    "Evidence": (),
    "Project": (),
}
"""The tabs behind the first page, and the folders that each shows."""
EVIDENCE = (
    "conformance",
    "conformance_onnx",
    "conformance_torch",
    "conformance_coreai",
    "real",
    "zoo",
    "fuzzing",
    "macs",
)
ORDER = {
    "tutorials": ("first", "own_model", "why_wrong", "smaller", "ship", "ci"),
    "guide": ("guide", "sources", "conversion", "checks", "compression", "sweeps", "search", "releases"),
    "reference": ("recipe", "verbs", "python", "json"),
}
_FENCE = re.compile(r"^```(\w+) ([\w./-]+)$", re.M)
_LINK = re.compile(r"(?<!\!)\[([^\]\n]*(?:\n[^\]\n]+)?)\]\(([^)\s]+)\)")
_IMAGES = {"image/png": "png", "image/jpeg": "jpeg"}
_LONGEST_OUTPUT = 4000


def on_files(files: Any, config: Any) -> Any:
    """Add a page for each notebook, the list of decisions, and the changelog."""
    import nbformat
    from mkdocs.structure.files import File

    for notebook in sorted((DOCS / "notebooks").glob("*.ipynb")):
        text = notebook_page(nbformat.read(notebook, as_version=4))
        files.append(File.generated(config, f"notebooks/{notebook.stem}.md", content=text))
    files.append(File.generated(config, "decisions/index.md", content=decisions_page()))
    files.append(File.generated(config, "changelog.md", content=_changelog()))
    return files


def on_config(config: Any) -> Any:
    """Give the navigation by what there is."""
    config["nav"] = navigation()
    return config


def on_page_markdown(markdown: str, *, page: Any, **_: Any) -> str:
    """Give fences the title that is their file, and make links that leave docs/ text."""
    return inner_links(_FENCE.sub(r'```\1 title="\2"', markdown), DOCS / page.file.src_uri)


def navigation() -> list[Any]:
    """The first page, and a section for each entry of `SECTIONS`."""
    loose = sorted(file.stem for file in DOCS.glob("*.md") if file.stem != "index")
    extra = {
        "Evidence": [f"{name}.md" for name in EVIDENCE if name in loose],
        "Project": [
            *(f"{name}.md" for name in loose if name not in EVIDENCE),
            "changelog.md",
            {"Decisions": ["decisions/index.md", *_pages(DOCS / "decisions")]},
        ],
    }
    nav: list[Any] = [{"Start": "index.md"}]
    for section, folders in SECTIONS.items():
        entries = [*extra.get(section, []), *(page for folder in folders for page in _folder(folder))]
        nav.append({section: entries})
    return nav


def _folder(folder: str) -> list[Any]:
    """The pages of a folder in order, and behind them its folders."""
    inner = sorted(child for child in (DOCS / folder).iterdir() if child.is_dir() and any(child.glob("*.md")))
    below = [{child.name.capitalize(): _pages(child)} for child in inner]
    return [*_pages(DOCS / folder), *below]


def _pages(folder: Path) -> list[str]:
    first = ORDER.get(folder.name, ())
    files = [file for file in folder.iterdir() if file.suffix in (".md", ".ipynb")]

    def rank(file: Path) -> tuple[int, str]:
        return (first.index(file.stem) if file.stem in first else len(first) - (file.stem == "README"), file.stem)

    return [f"{file.relative_to(DOCS).with_suffix('.md')}" for file in sorted(files, key=rank)]


def decisions_page() -> str:
    """The list of decisions, the newest first."""
    files = sorted((DOCS / "decisions").glob("*.md"), reverse=True)
    rows = [f"- [{title_of(file)}]({file.name})" for file in files if file.stem != "index"]
    return "\n".join(["# Decisions", "", "Choices that shaped builder, each with its reason.", "", *rows]) + "\n"


def title_of(file: Path) -> str:
    """The first heading of a page."""
    return next(line[2:].strip() for line in file.read_text().splitlines() if line.startswith("# "))


def inner_links(markdown: str, page: Path) -> str:
    """Links to folders lead to their first page; those to files outside of docs/ are text, for the site has none."""

    def replaced(found: re.Match[str]) -> str:
        text, target = found[1], found[2]
        if re.match(r"[a-z]+:|#", target):
            return found[0]
        path, sign, anchor = target.partition("#")
        place = Path(os.path.normpath(page.parent / path))
        if place == ROOT / "CHANGELOG.md":
            place = DOCS / "changelog.md"
        if place.is_dir() and place.is_relative_to(DOCS):
            readme = place / "README.md"
            place = readme if readme.exists() else place / "index.md"
        if not place.is_relative_to(DOCS):
            return text
        return f"[{text}]({os.path.relpath(place, page.parent)}{sign}{anchor})"

    # no page has links by reference: `[a][b]` is what names of tests have
    return _outside_code(_LINK.sub(replaced, markdown), lambda text: text.replace("][", "]\\["))


def _changelog() -> str:
    """The changelog as a page of docs/."""
    return (ROOT / "CHANGELOG.md").read_text().replace("](docs/", "](")


def _outside_code(markdown: str, change: Any) -> str:
    parts = re.split(r"(^```.*?^```$|`[^`\n]+`)", markdown, flags=re.M | re.S)
    return "".join(part if part.startswith("`") else change(part) for part in parts)


def notebook_page(notebook: Any) -> str:
    """A notebook as Markdown: text, code, and what each cell printed and drew."""
    return "\n\n".join(part for cell in notebook.cells for part in _cell(cell)) + "\n"


def _cell(cell: Any) -> Iterator[str]:
    if cell.cell_type == "markdown":
        yield cell.source
        return
    yield f"```python\n{cell.source}\n```"
    for output in cell.outputs:
        if output.output_type == "stream":
            yield _printed(output.text)
            continue
        data = output.get("data", {})
        kind = next((kind for kind in _IMAGES if kind in data), None)
        if kind is not None:
            yield f"![What the cell above draws](data:{kind};base64,{_squeezed(data[kind])})"
        elif "text/plain" in data:
            yield _printed(data["text/plain"])


def _squeezed(text: str) -> str:
    return base64.b64encode(base64.b64decode(text)).decode()


def _printed(text: str) -> str:
    text = re.sub(r"\x1b\[[0-9;]*[A-Za-z]", "", text)[:_LONGEST_OUTPUT].rstrip()
    return f"```text\n{text}\n```"
