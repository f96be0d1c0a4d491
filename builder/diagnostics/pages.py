"""The page of each code: `python -m builder.diagnostics.pages FOLDER` writes them, `explain` prints one."""

from __future__ import annotations

import shlex
import sys
import textwrap
from collections.abc import Iterator, Mapping
from pathlib import Path

from builder.diagnostics.code import Code, Example
from builder.diagnostics.table import CODES

INDEX = "README.md"
_WRITTEN = "Written by `python -m builder.diagnostics.pages docs/reference/errors`; do not edit.\n"
_EXITS = {
    2: "The recipe or the command line is wrong",
    3: "The model, its weights or its data cannot be loaded",
    4: "Capture, conversion or compression fails",
    5: "A check missed its limit",
    6: "A release is refused, or not what it should be",
    7: "The machine or its installation does not fit",
    0: "Warnings",
}
_INTRODUCTION = """# Codes of errors and warnings

Each error says its code, `error[B0211]`, and so does each warning. The two digits after B are the exit code of the
command; they are 00 for warnings, after which it goes on. A code keeps its meaning in later versions; messages may be
worded anew. `python -m builder explain B0211` prints a page.
"""


def pages() -> Mapping[str, str]:
    """The Markdown of every page by the name of its file."""
    return {INDEX: _index(), **{f"{code.code}.md": _page(code) for code in CODES.values()}}


def plain_page(code: Code) -> str:
    """What `explain` prints: the page as plain text."""
    ends = f"exit code {code.exit_code}" if code.exit_code else "a warning"
    lines = [f"{code.code}: {code.title} ({ends})", "", *textwrap.wrap(code.text, 100)]
    if code.example is None:
        return "\n".join(lines)
    for name, content in _files(code.example):
        lines += ["", f"  {name}:", textwrap.indent(content.rstrip(), "    ")]
    return "\n".join([*lines, "", *(f"  $ {command}" for command in _commands(code.example))])


def _index() -> str:
    parts = [_INTRODUCTION, _WRITTEN]
    for number, title in _EXITS.items():
        rows = [code for code in CODES.values() if code.exit_code == number]
        parts.append(f"## {title} (exit code {number})\n" if number else f"## {title}\n")
        parts.append("".join(f"- [{code.code}]({code.code}.md): {code.title}\n" for code in rows))
    return "\n".join(parts)


def _page(code: Code) -> str:
    parts = [f"# {code.code}: {code.title}\n", f"{textwrap.fill(code.text, 100)}\n"]
    if code.example is None:
        return "\n".join([*parts, "A warning that depends on the machine, so there is no example.\n", _WRITTEN])
    ends = f"Exit code {code.exit_code}" if code.exit_code else "A warning"
    parts.append(f"{ends}. An example that ends with this code:\n")
    for name, content in _files(code.example):
        kind = "python" if name.endswith(".py") else "yaml" if name.endswith((".yaml", ".lock")) else "text"
        parts.append(f"`{name}`\n\n```{kind}\n{content.rstrip()}\n```\n")
    parts.append("```sh\n" + "\n".join(_commands(code.example)) + "\n```\n")
    if code.example.without:
        parts.append(f"where {' and '.join(code.example.without)} is not installed.\n")
    return "\n".join([*parts, _WRITTEN])


def _files(example: Example) -> Iterator[tuple[str, str]]:
    for name, content in sorted(example.files.items()):
        yield name, content or ("(a folder)" if name.endswith("/") else "(empty)")


def _commands(example: Example) -> list[str]:
    variables = "".join(f"{name}={shlex.quote(value)} " for name, value in sorted(example.environment.items()))
    return [variables + (c if c.startswith("python ") else f"python -m builder {c}") for c in example.commands]


if __name__ == "__main__":
    for name, text in pages().items():
        (Path(sys.argv[1]) / name).write_text(text, encoding="utf-8")
