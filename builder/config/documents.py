"""YAML files read with the position of every key and value, strictly: no duplicate keys, no tags, YAML 1.2 scalars."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path as FilePath
from typing import Any

import yaml

from builder.errors import Diagnostic, SourceSpan
from builder.util.reading import MOST_OF_RECIPE, UnfitFileError, read_regular

Path = tuple[str, ...]
"""The keys (and indices) that lead to a value."""

MOST_NODES = 50_000
"""More values than this come from aliases that multiply, or from a program, not from a person."""


@dataclass(frozen=True, kw_only=True)
class Origin:
    """Where a value was written: its key, where it has one, and the value itself."""

    key: SourceSpan | None
    value: SourceSpan

    @property
    def start(self) -> SourceSpan:
        """The key, or the value where there is no key (items of lists)."""
        return self.key or self.value


@dataclass(frozen=True, kw_only=True)
class Document:
    """One YAML file: plain data, and where each part of it is written."""

    file: FilePath
    data: Any
    origins: Mapping[Path, Origin]
    first_line: SourceSpan
    findings: tuple[Diagnostic, ...] = ()
    broken: bool = False
    """Whether the file could not be read or parsed at all, so that `data` says nothing."""


MOST_LEVELS = 64
"""Each token takes time by the levels around it, so that a file with more of them could take minutes."""


class _Loader(yaml.SafeLoader):
    """PyYAML's parser with the scalars of YAML 1.2: `yes` and `on` are text, `1e-3` is a number.

    Raises _TooLargeError and RecursionError as soon as a file has too many values or levels, before it is read whole.
    """

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._nodes = self._levels = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        """Compose a value, and count it and its level."""
        self._nodes += 1
        if self._nodes > MOST_NODES:
            raise _TooLargeError
        if self._levels >= MOST_LEVELS:
            raise RecursionError
        self._levels += 1
        try:
            return super().compose_node(parent, index)
        finally:
            self._levels -= 1


_Loader.yaml_implicit_resolvers = {}
for _tag, _pattern, _first in [
    ("bool", r"^(?:true|True|TRUE|false|False|FALSE)$", "tTfF"),
    ("int", r"^(?:[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+)$", "-+0123456789"),
    ("float", r"^[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?$", "-+0123456789."),
    ("float", r"^(?:[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$", "-+."),
    ("null", r"^(?:~|null|Null|NULL|)$", ["~", "n", "N", ""]),
    ("merge", r"^<<$", "<"),
]:
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(_pattern), list(_first))


_TOO_LARGE = f"the file has more than {MOST_NODES:,} values, written out or by aliases that multiply"


def read_document(file: FilePath) -> Document:
    """Read a YAML file; whatever is wrong with it is in the document's findings."""
    try:
        text = read_regular(file, most=MOST_OF_RECIPE).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        column = error.start - error.object.rfind(b"\n", 0, error.start)
        span = SourceSpan(file=file, line=line, column=column, length=1, text="")
        return _unreadable(
            file, f"the file is not UTF-8 text (byte 0x{error.object[error.start]:02x})", span, code="B0201"
        )
    except UnfitFileError as error:
        what = "this is a directory, not a file" if file.is_dir() else f"the file {error.strerror}"
        return _unreadable(file, what, SourceSpan(file=file, line=1, column=1, length=1, text=""), code="B0201")
    except OSError as error:
        what = f"the file cannot be read: {error.strerror}"
        return _unreadable(file, what, SourceSpan(file=file, line=1, column=1, length=1, text=""), code="B0201")
    return _parse(file, text)


def _unreadable(file: FilePath, message: str, span: SourceSpan, hint: str | None = None, *, code: str) -> Document:
    finding = Diagnostic(code=code, message=message, span=span, hint=hint)
    return Document(file=file, data=None, origins={}, first_line=span, findings=(finding,), broken=True)


def _parse(file: FilePath, text: str) -> Document:
    lines = text.splitlines()
    walk = _Walk(file=file, lines=lines)
    try:
        node = _Loader(text).get_single_node()
        data = None if node is None else walk.value(node, (), None)
    except yaml.reader.ReaderError as error:
        before = text[: error.position]
        line, column = before.count("\n"), error.position - (before.rfind("\n") + 1)
        what = str(error.reason)
        if isinstance(error.character, int):
            what = f"the character U+{error.character:04X} is not allowed in YAML"
        return _unreadable(file, what, walk.span(line, column, 1), code="B0202")
    except yaml.MarkedYAMLError as error:
        return _syntax_error(walk, error)
    except RecursionError:
        return _unreadable(file, "the file is nested too deeply", walk.span(0, 0, 1), code="B0203")
    except _TooLargeError:
        return _unreadable(file, _TOO_LARGE, walk.span(0, 0, 1), code="B0203")
    first = next((i for i, line in enumerate(lines) if line.strip() and not line.startswith("#")), 0)
    first_line = walk.span(first, 0, len(lines[first]) if lines else 1)
    return Document(file=file, data=data, origins=walk.origins, first_line=first_line, findings=tuple(walk.findings))


def _syntax_error(walk: _Walk, error: yaml.MarkedYAMLError) -> Document:
    mark = error.problem_mark or error.context_mark
    if error.context_mark and ("end of stream" in str(error.problem) or "<stream end>" in str(error.problem)):
        mark = error.context_mark  # what was opened there is never closed
    line, column = (mark.line, mark.column) if mark else (0, 0)
    line = min(line, max(0, len(walk.lines) - 1))
    text = walk.lines[line] if walk.lines else ""
    problem = (error.problem or "cannot be parsed").replace("<stream end>", "the end of the file")
    context = f" ({error.context})" if error.context else ""
    hint = None
    if "\t" in text and "'\\t'" in problem:
        hint = "indent with spaces: YAML allows no tabs"
        column = text.index("\t")
    elif "mapping values are not allowed" in problem:
        hint = "a text with `: ` in it needs quotes; or the line above is not closed"
    elif "<block end>" in problem:
        hint = "the indentation does not fit the lines above"
    elif "single document" in str(error.context):
        problem, context = "a second document begins (`---`), and a file holds one", ""
    return _unreadable(walk.file, f"YAML syntax: {problem}{context}", walk.span(line, column, 1), hint, code="B0202")


class _TooLargeError(Exception):
    """There are more values than a person writes."""


@dataclass(kw_only=True)
class _Walk:
    """Turns nodes into plain data and notes where each is written."""

    file: FilePath
    lines: list[str]
    origins: dict[Path, Origin] = field(default_factory=dict)
    findings: list[Diagnostic] = field(default_factory=list)
    nodes: int = 0
    open_nodes: set[int] = field(default_factory=set)

    def span(self, line: int, column: int, length: int) -> SourceSpan:
        """Return a place, from PyYAML's line and column that begin with 0."""
        text = self.lines[line] if line < len(self.lines) else ""
        return SourceSpan(file=self.file, line=line + 1, column=column + 1, length=max(1, length), text=text)

    def mark(self, node: yaml.Node) -> SourceSpan:
        """Return where `node` begins, as far as it goes on its first line."""
        start, end = node.start_mark, node.end_mark
        line_end = len(self.lines[start.line]) if start.line < len(self.lines) else start.column
        return self.span(start.line, start.column, (end.column if end.line == start.line else line_end) - start.column)

    def value(self, node: yaml.Node, path: Path, key: SourceSpan | None) -> Any:
        """Return the plain value of `node` and note its origin and those below it."""
        self.nodes += 1
        if self.nodes > MOST_NODES:
            raise _TooLargeError
        if id(node) in self.open_nodes:
            self.complain("an alias refers to what contains it", node, path)
            return None
        self.origins[path] = Origin(key=key, value=self.mark(node))
        self.open_nodes.add(id(node))
        try:
            if isinstance(node, yaml.MappingNode):
                return self.mapping(node, path)
            if isinstance(node, yaml.SequenceNode):
                return [self.value(item, (*path, str(i)), None) for i, item in enumerate(node.value)]
            return self.scalar(node, path)
        finally:
            self.open_nodes.discard(id(node))

    def mapping(self, node: yaml.MappingNode, path: Path) -> dict[str, Any]:
        """Return a mapping; what `<<` merges in is overridden by the keys beside it."""
        result: dict[str, object] = {}
        merges = [(key, value) for key, value in node.value if key.tag.endswith(":merge")]
        for key, _ in merges[1:]:
            message = f"the key `<<` is written twice, first in line {self.mark(merges[0][0]).line}"
            self.findings.append(
                Diagnostic(code="B0203", message=message, span=self.mark(key), hint="write `<<: [*one, *other]`")
            )
        for key, value in merges:
            for part in value.value if isinstance(value, yaml.SequenceNode) else [value]:
                merged = self.value(part, path, None)
                if isinstance(merged, dict):
                    result = {**merged, **result}
                else:
                    message = "`<<` merges mappings, such as `<<: *anchor`, and this is none"
                    self.findings.append(Diagnostic(code="B0203", message=message, span=self.mark(key)))
        seen: dict[str, SourceSpan] = {}
        for key, value in node.value:
            if key.tag.endswith(":merge"):
                continue
            name, span = self.key(key), self.mark(key)
            if name in seen:
                self.findings.append(
                    Diagnostic(
                        code="B0203",
                        message=f"the key `{name}` is written twice, first in line {seen[name].line}",
                        span=span,
                    )
                )
            seen[name] = span
            result[name] = self.value(value, (*path, name), span)
        return result

    def key(self, node: yaml.Node) -> str:
        """Return a key as text; keys of other types are noted as wrong."""
        if not isinstance(node, yaml.ScalarNode):
            self.findings.append(Diagnostic(code="B0203", message="a key must be text", span=self.mark(node)))
            return "?"
        if node.tag != "tag:yaml.org,2002:str":
            message, hint = f"a key must be text, and {node.value} is not", f'write it in quotes: "{node.value}"'
            self.findings.append(Diagnostic(code="B0203", message=message, span=self.mark(node), hint=hint))
        return str(node.value)

    def scalar(self, node: yaml.Node, path: Path) -> Any:
        """Return text, a number, a truth value or None."""
        text, kind = str(node.value), node.tag.removeprefix("tag:yaml.org,2002:")
        try:
            match kind:
                case "str":
                    return text
                case "null":
                    return None
                case "bool":
                    return {"true": True, "false": False}[text.lower()]
                case "int":
                    return int(text, 0) if text[:2] in ("0x", "0o") else int(text)
                case "float":
                    return float(re.sub(r"\.(inf|nan)$", r"\1", text.lower()))
        except (ValueError, KeyError):
            self.complain(f"{text!r} is no {kind}", node, path)
            return None
        self.complain(f"tags such as {node.tag.replace('tag:yaml.org,2002:', '!!')} are not read", node, path)
        return None

    def complain(self, message: str, node: yaml.Node, path: Path) -> None:
        """Note what is wrong with the value at `path`."""
        self.findings.append(Diagnostic(code="B0203", path=path, message=message, span=self.mark(node)))
