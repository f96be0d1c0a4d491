"""Writes docs/llms.txt: what builder is and where each page of its documentation lies, for language models.

`python -m tools.write_llms_txt` writes it in the form of llmstxt.org; a test fails when it drifts.
"""

from __future__ import annotations

import re
from pathlib import Path

from tools.docs_site import DOCS, SECTIONS, navigation, title_of

FILE = DOCS / "llms.txt"
_LONGEST = 200


def render() -> str:
    """Return the file: a heading, a summary, and a list of pages for each section of the site."""
    start = (DOCS / "index.md").read_text().split("\n\n")
    lines = ["# builder", "", f"> {' '.join(start[1].split())}", ""]
    for section in navigation()[1:]:
        ((name, entries),) = section.items()
        assert name in SECTIONS
        rows = [_row(DOCS / entry) for entry in entries if isinstance(entry, str)]
        lines += [f"## {name}", "", *(row for row in rows if row), ""]
    return "\n".join(lines).rstrip() + "\n"


def _row(page: Path) -> str:
    """The title of a page, and its first sentence; nothing for pages that are made with the site."""
    if not page.exists():
        return ""
    return f"- [{title_of(page)}]({page.relative_to(DOCS)}): {_summary(page.read_text())}"


def _summary(text: str) -> str:
    body = text.partition("\n# ")[2] if not text.startswith("# ") else text
    paragraphs = [" ".join(part.split()) for part in re.split(r"\n\s*\n", body)[1:]]
    prose = next((part for part in paragraphs if part and part[0] not in "#|`!-<*"), "")
    plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", prose)
    sentence = re.split(r"(?<=[.:]) ", plain)[0].rstrip(":")
    return sentence if len(sentence) <= _LONGEST else f"{sentence[:_LONGEST]}…"


if __name__ == "__main__":
    Path(FILE).write_text(render(), encoding="utf-8")
