"""The command line's `key=value` arguments: Hydra's grammar, read into choices, values and deletions."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, Quote, QuotedString, RangeSweep
from hydra.errors import HydraException

from builder.config.documents import Origin, Path
from builder.config.folders import SUFFIX, Library
from builder.config.hydra.defaults import Choice, choice_findings
from builder.diagnostics.spans import command_line_span
from builder.errors import Diagnostic, SourceSpan, path_of
from builder.util.reading import is_plain_name
from builder.util.suggest import nearest

RESERVED = ("broken", "mlflow.db", "mlartifacts", "releases", "search", "sweeps")
"""What lies in `outputs/` beside the folders of recipes (builder.util.paths); so do names that begin with a dot."""

MOST_JOBS = 10_000
"""Jobs of a sweep, counted before any of them is made."""

LONGEST_NAME = 200
"""File systems allow 255 bytes, and suffixes and digests follow the name."""


@dataclass(frozen=True, kw_only=True)
class Setting:
    """One value that the command line sets (or deletes, with `deletes`)."""

    path: Path
    value: Any
    origin: Origin
    deletes: bool = False

    @property
    def span(self) -> SourceSpan:
        """Where the key is written."""
        return self.origin.start


@dataclass(frozen=True, kw_only=True)
class CommandLine:
    """What the arguments say: the recipe, choices of groups, and values; and what is wrong with them."""

    arguments: tuple[str, ...]
    recipe: str | None
    """Its name; empty where it is named wrongly, None where it is not named."""
    recipe_span: SourceSpan | None
    choices: tuple[Choice, ...]
    removed_groups: Mapping[str, SourceSpan]
    settings: tuple[Setting, ...]
    hydra: tuple[str, ...]
    """The arguments that Hydra needs for the defaults list."""
    findings: tuple[Diagnostic, ...]


def parse(argument: str, loader: ConfigLoaderImpl | None = None) -> Override | Diagnostic:
    """Return one argument as Hydra reads it, or what is wrong with it."""
    try:
        return OverridesParser.create(config_loader=loader).parse_overrides([_with_quotes_where_due(argument)])[0]
    except (HydraException, ValueError) as error:
        lines = str(error).partition(" expecting {")[0].splitlines()
        reason = next((text for text in lines if not text.startswith("Error parsing override")), "it is not key=value")
        reason = "it has characters that need quotes" if reason.startswith("LexerNoViableAlt") else reason
    hint = "values with spaces or other special characters need quotes inside the shell's quotes: key='\"a b\"'"
    if "=" not in argument:
        hint, reason = "a setting is written KEY=VALUE, such as recipe=NAME or precision=fp16", "there is no `=`"
    elif re.search(r"\s=|=\s", argument):
        hint, reason = "write it without spaces around `=`", "there is a space beside `=`"
    elif "==" in argument:
        hint = "one `=` is enough"
    elif any(argument.count(opening) != argument.count(closing) for opening, closing in ("[]", "{}", "()")):
        hint = "a bracket is not closed, or not opened"
    return Diagnostic(code="B0221", message=f"cannot be read: {reason}", span=command_line_span(argument), hint=hint)


def _with_quotes_where_due(argument: str) -> str:
    """Quote a single value with letters that Hydra's grammar does not know (`metadata.author=José`)."""
    key, _, value = argument.partition("=")
    if value.isascii() or any(mark in value for mark in "'\"\\,=:()[]{}$\n"):
        return argument
    return f"{key}={with_single_quotes(value)}"


def read_command_line(arguments: Sequence[str], library: Library) -> CommandLine:
    """Read the arguments of one build (no sweeps)."""
    reader = _Reader(library)
    for argument in arguments:
        parsed = parse(argument)
        if isinstance(parsed, Diagnostic):
            reader.findings.append(parsed)
            reader.names_recipe = reader.names_recipe or argument.startswith("recipe")
        else:
            reader.names_recipe = reader.names_recipe or parsed.key_or_group == "recipe"
            reader.read(parsed, argument)
    return CommandLine(
        arguments=tuple(arguments),
        recipe="" if reader.recipe is None and reader.names_recipe else reader.recipe,
        recipe_span=reader.recipe_span,
        choices=tuple(reader.choices),
        removed_groups=reader.removed,
        settings=tuple(reader.settings),
        hydra=tuple(reader.hydra),
        findings=tuple(reader.findings),
    )


class _Reader:
    """Sorts arguments into what they mean."""

    def __init__(self, library: Library) -> None:
        self.library = library
        self.groups = library.group_names()
        self.recipe: str | None = None
        self.recipe_span: SourceSpan | None = None
        self.choices: list[Choice] = []
        self.removed: dict[str, SourceSpan] = {}
        self.settings: list[Setting] = []
        self.hydra: list[str] = []
        self.findings: list[Diagnostic] = []
        self.seen: dict[str, str] = {}
        self.names_recipe = False

    def read(self, override: Override, argument: str) -> None:
        """Read one argument."""
        key = override.key_or_group.removeprefix("/")
        span = command_line_span(argument)
        if not key.strip("."):
            self.findings.append(Diagnostic(code="B0221", message="there is no key before the `=`", span=span))
        elif override.is_sweep_override():
            self.findings.append(
                Diagnostic(
                    code="B0223",
                    path=path_of(key),
                    message="several values need `-m`: each is a build of its own",
                    span=span,
                )
            )
        elif override.package is not None:
            self.findings.append(
                Diagnostic(code="B0221", path=path_of(key), message="packages (`@`) are for recipes only", span=span)
            )
        elif override.is_hydra_override():
            message = "Hydra's own settings are builder's: it decides where outputs and logs go"
            self.findings.append(
                Diagnostic(
                    code="B0221", path=path_of(key), message=message, span=span, hint="see `--outputs`, `-q` and `-v`"
                )
            )
        elif key in self.seen:
            self.findings.append(
                Diagnostic(
                    code="B0222", path=path_of(key), message=f"is given twice, first as `{self.seen[key]}`", span=span
                )
            )
        else:
            self.seen[key] = argument
            self.sort(override, key, argument)

    def sort(self, override: Override, key: str, argument: str) -> None:
        """Tell recipe, choice, deletion and value apart."""
        value = plain(override.value())
        span = command_line_span(argument, argument.partition("=")[2] or None)
        if key == "recipe":
            if not isinstance(value, str | list | dict):
                value = argument.partition("=")[2].strip()  # a name such as 1.10 is not a number
            self.read_recipe(value, span, override)
        elif key in self.groups and override.is_delete():
            self.removed[key] = span
            self.hydra.append(f"~{key}")
        elif key in self.groups and not isinstance(value, dict):
            self.choose(key, value, span)
        else:
            path = tuple(key.split("."))
            origin = Origin(key=command_line_span(argument, key, first=True), value=span)
            self.settings.append(Setting(path=path, value=value, origin=origin, deletes=override.is_delete()))

    def choose(self, group: str, value: object, span: SourceSpan) -> None:
        """Read the choice of one option of a group, or of a list of them."""
        names = tuple(str(v) if v is not None else "null" for v in (value if isinstance(value, list) else [value]))
        choice = Choice(group=group, options=names, span=span, group_span=span)
        wrong = list(choice_findings(choice, self.library))
        self.findings += wrong
        self.choices.append(choice)
        if not wrong:
            quoted = [with_single_quotes(name) for name in names]
            self.hydra.append(f"{group}={quoted[0]}" if len(names) == 1 else f"{group}=[{','.join(quoted)}]")

    def read_recipe(self, value: object, span: SourceSpan, override: Override) -> None:
        """Read which recipe is built: a name, or the path of a file in a recipe folder."""
        if override.is_delete() or not isinstance(value, str):
            hint = "several recipes need `-m recipe=one,other`"
            self.findings.append(
                Diagnostic(code="B0206", path=("recipe",), message="must be one name", span=span, hint=hint)
            )
            self.recipe = ""
            return
        self.recipe, self.recipe_span = value, span
        name = self.recipe
        if "/" in name or name.endswith((SUFFIX, ".yml")):
            self.recipe = self.name_of_path(name, span) or ""
        elif not name or self.library.recipe(name) is None:
            self.findings.append(no_recipe(name, span, self.library))
            self.recipe = ""
        if reason := why_unfit(self.recipe):
            self.findings.append(
                Diagnostic(code="B0206", path=("recipe",), message=reason, span=span, hint="rename the file")
            )
            self.recipe = ""

    def name_of_path(self, given: str, span: SourceSpan) -> str | None:
        """Return the name of the recipe at a path, if that lies in a recipe folder."""
        from pathlib import Path as FilePath

        file = FilePath(given).expanduser()
        for candidate in (file, file.with_name(f"{file.name}{SUFFIX}")):
            if candidate.suffix == SUFFIX and candidate.exists():
                name, folder = candidate.name.removesuffix(SUFFIX), candidate.parent.resolve()
                if any(folder == known.resolve() for known in self.library.recipes):
                    return name
                message, hint = "is not in a recipe folder", f"`BUILDER_RECIPES={candidate.parent}` makes it one"
                self.findings.append(
                    Diagnostic(code="B0206", path=("recipe",), message=f"{given} {message}", span=span, hint=hint)
                )
                return None
        self.findings.append(no_recipe(given, span, self.library))
        return None


def why_unfit(name: str) -> str | None:
    """Say why `outputs/` cannot have a folder of this recipe, or None."""
    if name.casefold() in RESERVED or name.startswith("."):  # some file systems know no case
        return (
            f"`{name}` is not a name for a recipe: in `outputs/`, where each recipe has its folder, it is builder's own"
        )
    if name and not is_plain_name(name):
        return f"{name!r} is not a name for a recipe: it names files and folders, and has to be printed"
    if len(name.encode(errors="surrogateescape")) > LONGEST_NAME:
        return f"a recipe's name has at most {LONGEST_NAME} bytes, for it names files and folders"
    return None


def no_recipe(name: str, span: SourceSpan | None, library: Library) -> Diagnostic:
    """Return the finding that a recipe does not exist."""
    names = library.recipe_names()
    stem = name.rpartition("/")[2].removesuffix(SUFFIX).removesuffix(".yml")
    other = next((f / f"{stem}.yml" for f in library.recipes if (f / f"{stem}.yml").exists()), None)
    return Diagnostic(
        code="B0206",
        path=("recipe",),
        message=f"there is no recipe `{name}`" if name else "no recipe is named",
        span=span,
        allowed=names,
        nearest=nearest(stem, names),
        hint=f"{other} must end in .yaml" if other else None if name else "write `recipe=NAME`",
    )


def plain(value: object) -> Any:
    """Return a value of Hydra's grammar as plain data."""
    if isinstance(value, QuotedString):
        return value.text
    if isinstance(value, dict):
        return {str(plain(k)): plain(v) for k, v in value.items()}
    if isinstance(value, list):
        return [plain(v) for v in value]
    return value


def expand_sweep(arguments: Sequence[str], loader: ConfigLoaderImpl) -> Iterator[tuple[str, ...]] | list[Diagnostic]:
    """Return the arguments of every job of a sweep, in the order of the command line, or what is wrong."""
    axes: list[list[str]] = []
    findings: list[Diagnostic] = []
    for argument in arguments:
        parsed = parse(argument, loader)
        if isinstance(parsed, Diagnostic):
            findings.append(parsed)
        elif not parsed.is_sweep_override():
            axes.append([argument])
        elif not parsed.is_discrete_sweep():
            message = "an interval has no end of values: use choice, range or glob"
            findings.append(Diagnostic(code="B0223", message=message, span=command_line_span(argument)))
        elif reason := why_unbounded(parsed.value()):
            findings.append(Diagnostic(code="B0223", message=reason, span=command_line_span(argument)))
        else:
            values = [f"{parsed.get_key_element()}={value}" for value in parsed.sweep_string_iterator()]
            if not values:
                group = parsed.key_or_group
                allowed = loader.get_group_options(group)
                findings.append(
                    Diagnostic(
                        code="B0223",
                        path=path_of(group),
                        message="nothing matches",
                        span=command_line_span(argument),
                        allowed=allowed,
                    )
                )
            axes.append(values)
    if (jobs := math.prod(map(len, axes))) > MOST_JOBS:
        message = f"a sweep has at most {MOST_JOBS} jobs, and these arguments make more"
        findings.append(
            Diagnostic(
                code="B0223", message=message, span=command_line_span(max(arguments, key=len)), hint=f"{jobs} or more"
            )
        )
    return findings or itertools.product(*axes)


def why_unbounded(values: object) -> str | None:
    """Say why the values of a sweep's axis cannot be counted or are more than any sweep has, or None."""
    if not isinstance(values, RangeSweep):
        return None  # the others are written down one by one
    numbers = [float(number) for number in (values.start, values.stop, values.step) if number is not None]
    if not all(map(math.isfinite, numbers)) or values.step == 0:
        return "a range has finite ends and a step that is not 0"
    start, stop, step = numbers
    if (stop - start) / step > MOST_JOBS:
        return f"a sweep has at most {MOST_JOBS} jobs, and this range alone makes more"
    return None


def with_single_quotes(text: str) -> str:
    """Return `text` quoted for Hydra's grammar."""
    return str(QuotedString(text=text, quote=Quote.single).with_quotes())
