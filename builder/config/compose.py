"""compose(arguments) -> BuildRequest: from a command line to a validated build, with every mistake told at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from hydra._internal.config_repository import CachingConfigRepository
from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException

from builder.artifacts.stages import BuildRequest
from builder.config.documents import Path
from builder.config.files import find_files
from builder.config.folders import Library, open_library, shipped
from builder.config.hydra.defaults import Choice, entries
from builder.config.hydra.overrides import CommandLine, expand_sweep, no_recipe, read_command_line, with_single_quotes
from builder.config.hydra.sources import RECIPE_GROUP, config_loader, document, merge_order, option_files
from builder.config.interpolation import resolve
from builder.config.layers import Tree
from builder.config.recipes import Lineage, read_lineage, replaced_sections
from builder.config.schema import fields
from builder.config.validation import validate
from builder.config.variant import variant_of
from builder.diagnostics.render import DiagnosticsError
from builder.errors import Diagnostic, SourceSpan, path_of
from builder.spec import BuildSpec
from builder.spec.named_data import references, spec_of
from builder.spec.rules.compatibility import find_incompatibilities

MAIN = "config"
"""The configuration in `conf/` that names every group."""


@dataclass(frozen=True, kw_only=True)
class Composition:
    """A composed and validated recipe."""

    recipe: str
    spec: BuildSpec
    data: dict[str, Any]
    tree: Tree
    choices: Mapping[str, Choice]
    """By group, the choice that won."""


def compose(arguments: Sequence[str]) -> BuildRequest:
    """Return the build that the command line's `key=value` arguments describe.

    Raises DiagnosticsError with everything that is wrong.
    """
    library = open_library()
    files = option_files()
    composition = compose_spec(arguments, library, files)
    values = {
        ".".join(path): str(origin.start)
        for path, origin in composition.tree.origins.items()
        if composition.tree.get(path)[0] == {} or not isinstance(composition.tree.get(path)[0], dict)
    }
    origins = {**{group: str(choice.span) for group, choice in composition.choices.items()}, **values}
    return BuildRequest(
        recipe=composition.recipe,
        variant=variant_of(arguments, composition.spec, lambda fewer: compose_spec(fewer, library, files).spec),
        spec=composition.spec,
        overrides=tuple(arguments),
        config=composition.data,
        origins=origins,
    )


def sweep(arguments: Sequence[str]) -> list[tuple[str, ...]]:
    """Return the arguments of every job that a sweep's command line describes."""
    jobs = expand_sweep(arguments, config_loader())
    if isinstance(jobs, list):
        raise DiagnosticsError(jobs)
    return list(jobs)


def compose_spec(
    arguments: Sequence[str], library: Library, files: CachingConfigRepository | None = None, *, compatible: bool = True
) -> Composition:
    """Compose and validate, without naming the variant; unless `compatible`, what does not go together may pass.

    Compositions of the same `files` read each of them once.
    """
    line = read_command_line(arguments, library)
    if line.recipe is None:
        raise DiagnosticsError([*line.findings, no_recipe("", None, library)])
    lineage = read_lineage(line.recipe, library)
    early = [*line.findings, *lineage.findings]
    if lineage.stuck or not line.recipe or not lineage.documents:
        raise DiagnosticsError(early)
    tree = Tree()
    early += _merge(tree, line, lineage, library, files or option_files())
    early += [finding for setting in line.settings if (finding := tree.apply(setting))]
    data, unresolved = resolve(tree)
    early += unresolved
    result = validate(data, tree, lineage.documents[0].first_line)
    choices = _effective_choices(line, lineage, library)
    if isinstance(result, list):
        late = [finding for finding in result if not _follows(finding, early)]
        raise DiagnosticsError([*early, *(_where_it_was_decided(finding, line, choices) for finding in late)])
    if early:
        raise DiagnosticsError(early)
    return _finish(line.recipe, result, data, tree, choices, library, compatible=compatible)


def _follows(late: Diagnostic, early: Sequence[Diagnostic]) -> bool:
    """Whether a finding about values only follows from an earlier one about how they came to be."""
    return any(f"{late.key}.".startswith(f"{finding.key}.") for finding in early if finding.key)


def _where_it_was_decided(finding: Diagnostic, line: CommandLine, choices: Mapping[str, Choice]) -> Diagnostic:
    """Return a finding that points at what the user wrote: a deletion, or the choice of a shipped option."""
    deleted = {**{".".join(s.path): s.span for s in line.settings if s.deletes}, **line.removed_groups}
    group = finding.key.partition(".")[0]
    file = finding.span.file if finding.span else None
    if finding.key in deleted:
        return replace(finding, span=deleted[finding.key])
    if group in choices and file is not None and file.is_relative_to(shipped("conf")):
        return replace(finding, span=choices[group].span)
    return finding


def _finish(
    recipe: str,
    spec: BuildSpec,
    data: dict[str, object],
    tree: Tree,
    choices: dict[str, Choice],
    library: Library,
    *,
    compatible: bool,
) -> Composition:
    """Check what goes together and find the files."""
    files, findings = find_files(spec, tree)
    for problem in find_incompatibilities(spec) if compatible else ():
        span = _span_of_problem(problem.path, tree, choices, library)
        findings.append(replace(problem, span=span))
    if findings:
        raise DiagnosticsError(findings)
    for path, file in files.items():
        node: Any = data
        for key in path[:-1]:
            node = node[int(key)] if isinstance(node, list) else node[key]
        node[path[-1]] = file
    for path, name in references(spec):
        tree.borrow(path, ("data", name))
    ordered = {key: data[key] for key in fields(BuildSpec) if key in data}
    return Composition(recipe=recipe, spec=spec_of(data), data=ordered, tree=tree, choices=choices)


def _merge(
    tree: Tree, line: CommandLine, lineage: Lineage, library: Library, files: CachingConfigRepository
) -> list[Diagnostic]:
    """Merge all files in the order that Hydra's defaults list gives; returns Hydra's own complaint, if any."""
    assert line.recipe is not None
    try:
        overrides = (f"{RECIPE_GROUP}={with_single_quotes(line.recipe)}", *line.hydra)
        order = merge_order(MAIN, overrides, files)
    except (HydraException, OmegaConfBaseException, ValueError) as error:
        message = " ".join(str(error).split("\nConfig search path")[0].split())
        return [Diagnostic(code="B0208", message=message, span=lineage.documents[0].first_line)]
    dropped = replaced_sections(lineage, line.choices)
    by_file = {read.file: dropped.get(level, frozenset()) for level, read in enumerate(lineage.documents)}
    findings: list[Diagnostic] = []
    for entry in order:
        group, _, name = (entry.config_path or "").rpartition("/")
        file = library.recipe(name) if group == RECIPE_GROUP else library.option(group, name)
        if file is None:
            continue
        read = document(file)
        if group != RECIPE_GROUP:
            findings += [replace(finding, path=path_of(group)) for finding in read.findings]
            if read.data is not None and not isinstance(read.data, Mapping):
                message = "an option is a mapping of keys to values"
                findings.append(Diagnostic(code="B0204", path=path_of(group), message=message, span=read.first_line))
        package = tuple((entry.package or "").split(".")) if entry.package else ()
        tree.add(read, package, without=by_file.get(file, frozenset()))
    return findings


def _effective_choices(line: CommandLine, lineage: Lineage, library: Library) -> dict[str, Choice]:
    """Return, for each group, the choice that won: on the command line, in the recipes, or the default."""
    main = library.option("", MAIN)
    defaults = [entry.choice for entry in entries(document(main)) if entry.choice] if main else []
    makers = [*line.choices, *(choice for _, choice in lineage.choices()), *defaults]
    return {choice.group: choice for choice in reversed(makers)}


def _span_of_problem(path: Path, tree: Tree, choices: dict[str, Choice], library: Library) -> SourceSpan | None:
    """Return where to point: at the value, or where an option of `conf/` was chosen that holds it."""
    origin = tree.origin(path)
    if origin is None:  # a default that the recipe does not write: the target is what it does not go with
        choice = choices.get(path[0], choices.get("target"))
        return choice.span if choice else None
    file = origin.value.file
    in_option = file is not None and any(file.is_relative_to(folder) for folder in library.options)
    if in_option and path[0] in choices:
        return choices[path[0]].span
    return origin.start if isinstance(tree.get(path)[0], Mapping) else origin.value
