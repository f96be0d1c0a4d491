"""Reads the search that a command line asks for: an option of `conf/search/`, changed by `search.…=` arguments."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from hydra.errors import HydraException

from builder.config.documents import Origin, Path
from builder.config.folders import SEARCHES, Library
from builder.config.hydra.overrides import Setting, parse, plain
from builder.config.hydra.sources import document, merge_order, option_files
from builder.config.interpolation import resolve
from builder.config.layers import Tree
from builder.config.validation import validate_as
from builder.diagnostics.render import DiagnosticsError
from builder.diagnostics.spans import command_line_span
from builder.errors import Diagnostic, SourceSpan, path_of
from builder.search.settings import Root, Search
from builder.util.suggest import nearest

DEFAULT = "default"


@dataclass(frozen=True, kw_only=True)
class ReadSearch:
    """A search, and where each part of it was written."""

    option: str
    search: Search
    tree: Tree
    arguments: tuple[str, ...]
    """What the command line changed in it."""

    def span(self, path: Path) -> SourceSpan | None:
        """Where the value at `path` below `search`, or the nearest that contains it, was written."""
        origin = self.tree.origin((SEARCHES, *path))
        return None if origin is None else origin.value if origin.value.text else origin.start


def is_about_search(argument: str) -> bool:
    """Whether an argument is about the search rather than about its builds."""
    key = argument.lstrip("+~").partition("=")[0]
    return key == SEARCHES or key.startswith(f"{SEARCHES}.")


def read_search(arguments: Sequence[str], library: Library) -> ReadSearch:
    """Return the search that these arguments ask for; raises DiagnosticsError with everything that is wrong with it."""
    findings: list[Diagnostic] = []
    option, span, settings = DEFAULT, None, []
    given: dict[str, str] = {}
    for argument in arguments:
        read = _read(argument, given)
        if isinstance(read, Diagnostic):
            findings.append(read)
        elif isinstance(read, Setting):
            settings.append(read)
        else:
            option, span = read, command_line_span(argument, read)
    tree = Tree()
    findings += _add_option(tree, option, span, library)
    if findings:
        raise DiagnosticsError(findings)
    findings = [finding for setting in settings if (finding := tree.apply(setting))]
    data, unresolved = resolve(tree)
    file = library.option(SEARCHES, option)
    assert file is not None  # the option was found
    result = validate_as(Root, data, tree, document(file).first_line)
    if isinstance(result, list) or findings or unresolved:
        raise DiagnosticsError([*findings, *unresolved, *(result if isinstance(result, list) else [])])
    return ReadSearch(option=option, search=result.search, tree=tree, arguments=tuple(arguments))


def _read(argument: str, given: dict[str, str]) -> str | Setting | Diagnostic:
    """The name of an option, or a setting of the search."""
    override = parse(argument)
    if isinstance(override, Diagnostic):
        return override
    key, span = override.key_or_group, command_line_span(argument, argument.partition("=")[2] or None)
    if key in given:
        return Diagnostic(
            code="B0222",
            path=path_of(key),
            message=f"is given twice, first as `{given[key]}`",
            span=command_line_span(argument),
        )
    given[key] = argument
    if override.is_sweep_override():
        hint = f"several values are a list: `{key}=[…]`"
        return Diagnostic(
            code="B0233",
            path=path_of(key),
            message="must have one value: it is about the whole search",
            span=span,
            hint=hint,
        )
    path, value = tuple(key.split(".")), plain(override.value())
    if len(path) > 1 and all(path):
        origin = Origin(key=command_line_span(argument, key, first=True), value=span)
        return Setting(path=path, value=value, origin=origin, deletes=override.is_delete())
    if key != SEARCHES or override.is_delete() or not isinstance(value, str):
        return Diagnostic(
            code="B0233", path=path_of(key), message="must be the name of an option, or `search.NAME=VALUE`", span=span
        )
    return value


def _add_option(tree: Tree, option: str, span: SourceSpan | None, library: Library) -> list[Diagnostic]:
    """Merge the option's file and those of its defaults list."""
    if library.option(SEARCHES, option) is None:
        names = library.option_names(SEARCHES)
        message = f"there is no search `{option}`"
        return [
            Diagnostic(
                code="B0233",
                path=(SEARCHES,),
                message=message,
                span=span,
                allowed=names,
                nearest=nearest(option, names),
            )
        ]
    try:
        order = merge_order(f"{SEARCHES}/{option}", (), option_files())
    except HydraException as error:
        return [Diagnostic(code="B0233", path=(SEARCHES,), message=" ".join(str(error).split()), span=span)]
    findings: list[Diagnostic] = []
    for entry in order:
        group, _, name = (entry.config_path or "").rpartition("/")
        file = library.option(group, name) if group == SEARCHES else None
        if file is None:
            continue
        read = document(file)
        findings += [replace(finding, path=(SEARCHES,)) for finding in read.findings]
        if not isinstance(read.data, dict) and not read.broken:
            message = "a search is a mapping of keys to values"
            findings.append(Diagnostic(code="B0233", path=(SEARCHES,), message=message, span=read.first_line))
        tree.add(read, (SEARCHES,), without=frozenset())
    return findings
