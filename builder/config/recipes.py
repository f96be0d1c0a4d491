"""A recipe with those that it inherits, and which of their settings a later choice replaces."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from builder.config.documents import Document
from builder.config.folders import Library
from builder.config.hydra.defaults import Choice, entries, list_findings
from builder.config.hydra.sources import document
from builder.errors import Diagnostic, SourceSpan
from builder.util.reading import MOST_OF_RECIPE, read_regular


@dataclass(frozen=True, kw_only=True)
class Lineage:
    """A recipe and all that it inherits, the recipe itself first; each wins over those after it."""

    documents: tuple[Document, ...]
    findings: tuple[Diagnostic, ...]
    stuck: bool
    """Whether a file cannot be parsed or inherits itself, so that nothing can be composed."""

    def choices(self) -> list[tuple[int, Choice]]:
        """Return all choices with the place in `documents` of the recipe that makes them."""
        return [
            (level, entry.choice)
            for level, document in enumerate(self.documents)
            for entry in entries(document)
            if entry.choice
        ]


def read_lineage(name: str, library: Library) -> Lineage:
    """Read a recipe and what it inherits."""
    documents: list[Document] = []
    findings: list[Diagnostic] = []
    stuck = _visit(name, library, (), documents, findings)
    return Lineage(documents=tuple(documents), findings=tuple(findings), stuck=stuck)


def _visit(
    name: str, library: Library, line: tuple[str, ...], documents: list[Document], findings: list[Diagnostic]
) -> bool:
    file = library.recipe(name)
    if file is None:
        return False
    read = document(file)
    documents.append(read)
    findings += [*read.findings, *_document_findings(read), *list_findings(read, library)]
    stuck = not isinstance(read.data, Mapping)
    for entry in reversed(list(entries(read))):
        if entry.parent is None:
            continue
        if entry.parent in (*line, name):
            circle = " -> ".join([*line, name, entry.parent])
            findings.append(Diagnostic(code="B0208", message=f"the recipe inherits itself: {circle}", span=entry.span))
            stuck = True
        else:
            stuck = _visit(entry.parent, library, (*line, name), documents, findings) or stuck
    return stuck


def _document_findings(read: Document) -> Iterator[Diagnostic]:
    """Yield what is wrong with a recipe file as a whole."""
    if read.broken:
        return
    if read.data is None:
        hint = "it needs at least a source and an input"
        yield Diagnostic(code="B0204", message="the recipe is empty", span=read.first_line, hint=hint)
    elif not isinstance(read.data, Mapping):
        what = "a list" if isinstance(read.data, list) else "a single value"
        yield Diagnostic(
            code="B0204", message=f"a recipe is a mapping of keys to values, and this is {what}", span=read.first_line
        )
    yield from _header_findings(read)


def _header_findings(read: Document) -> Iterator[Diagnostic]:
    """Yield a `@package` header other than `_global_`, which every recipe has without saying so."""
    content = read_regular(read.file, most=MOST_OF_RECIPE).decode("utf-8-sig")
    for number, text in enumerate(content.splitlines(), start=1):
        header = re.match(r"#\s*@package\s+(\S+)", text)
        if header and header[1] != "_global_":
            span = SourceSpan(file=read.file, line=number, column=1, length=len(text), text=text)
            yield Diagnostic(
                code="B0204", message="a recipe has no package", span=span, hint="remove the header: it needs none"
            )
        if text.strip() and not text.startswith("#"):
            return


def replaced_sections(lineage: Lineage, command_line: Sequence[Choice]) -> dict[int, frozenset[str]]:
    """Return, by place in the lineage, the sections that a choice made above it replaces.

    Choosing another option of a group replaces all that recipes below say of that group, so that the choice
    is never half ignored; choosing the option that they chose themselves changes nothing.
    """
    chosen: dict[str, list[tuple[int, Choice]]] = {}
    for level, choice in [*((-1, choice) for choice in command_line), *lineage.choices()]:
        chosen.setdefault(choice.group, []).append((level, choice))
    dropped: dict[int, set[str]] = {}
    for group, makers in chosen.items():
        for (level, choice), below in zip(makers, [*makers[1:], None], strict=True):
            if below is None or below[1].options != choice.options:
                for place in range(level + 1, len(lineage.documents)):
                    dropped.setdefault(place, set()).add(group)
    return {place: frozenset(groups) for place, groups in dropped.items()}
