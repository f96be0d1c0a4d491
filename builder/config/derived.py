"""A recipe written from a command line: it inherits the recipe that is named there, and says the rest itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import yaml

from builder.config.folders import Library
from builder.config.hydra.defaults import DEFAULTS
from builder.config.hydra.overrides import CommandLine, read_command_line
from builder.config.layers import Tree
from builder.diagnostics.render import DiagnosticsError
from builder.errors import Diagnostic, path_of
from builder.spec import SCHEMA_VERSION


def derived_recipe(arguments: Sequence[str], head: str, library: Library) -> str:
    """Return the text of a recipe that composes to what `arguments` do, under the comment `head`.

    Raises DiagnosticsError for what a recipe cannot say: a deletion.
    """
    return decided_recipe(arguments, {}, head, library)


def decided_recipe(arguments: Sequence[str], decided: Mapping[str, object], head: str, library: Library) -> str:
    """Return the text of a recipe that composes to what `arguments` do, with the sections `decided` in place of theirs.

    Raises DiagnosticsError for what a recipe cannot say: a deletion.
    """
    line = read_command_line(arguments, library)
    findings = [*line.findings, *deletions(line)]
    if findings:
        raise DiagnosticsError(findings)
    tree = Tree()
    for setting in line.settings:
        if setting.path[0] not in decided:
            tree.apply(setting)
    choices: dict[str, list[str]] = {c.group: list(c.options) for c in line.choices if c.group not in decided}
    choices |= {group: [_EMPTIED[group]] for group in decided}  # so that nothing of an inherited section is left
    chosen = [line.recipe, *({group: o[0] if len(o) == 1 else o} for group, o in choices.items())]
    document = {"schema": SCHEMA_VERSION, DEFAULTS: chosen, **tree.data, **{k: v for k, v in decided.items() if v}}
    comment = "".join(f"# {text}".rstrip() + "\n" for text in head.splitlines())
    return comment + yaml.safe_dump(document, sort_keys=False, allow_unicode=True, width=120)


_EMPTIED = {"precision": "fp16", "compression": "none"}
"""By group, an option with nothing that a decided section does not say itself."""


def deletions(line: CommandLine) -> list[Diagnostic]:
    """What is wrong with a command line from which a recipe shall be written: `~key` has no form there."""
    spans = {".".join(s.path): s.span for s in line.settings if s.deletes} | dict(line.removed_groups)
    hint = "write a recipe without it, and search that one"
    return [
        Diagnostic(
            code="B0209", path=path_of(key), message="a recipe that inherits cannot delete", span=span, hint=hint
        )
        for key, span in spans.items()
    ]
