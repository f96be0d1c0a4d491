"""Reads the variants that a sweep names one by one: `sweep=NAME`, for `conf/sweep/NAME.yaml`.

A file maps the name of each variant to the overrides that make it: what no product of lists can say, such as a method
that is two settings, or a precision for one row of a table.
"""

from __future__ import annotations

from collections.abc import Sequence

from builder.config.folders import SWEEPS, Library
from builder.config.hydra.overrides import parse, plain
from builder.config.hydra.sources import document
from builder.diagnostics.render import DiagnosticsError
from builder.diagnostics.spans import command_line_span
from builder.errors import Diagnostic, path_of
from builder.util.suggest import nearest


def names_variants(argument: str) -> bool:
    """Whether an argument is `sweep=NAME`."""
    return argument.lstrip("+~").partition("=")[0] == SWEEPS


def read_variants(arguments: Sequence[str], library: Library) -> dict[str, tuple[str, ...]]:
    """By the name of each variant, in the file's order, its overrides; empty where no argument names a file.

    Raises DiagnosticsError with everything that is wrong with the arguments and the file.
    """
    if len(arguments) > 1:
        message = f"is given twice, first as `{arguments[0]}`"
        raise DiagnosticsError(
            [Diagnostic(code="B0222", path=(SWEEPS,), message=message, span=command_line_span(arguments[1]))]
        )
    return _read(arguments[0], library) if arguments else {}


def _read(argument: str, library: Library) -> dict[str, tuple[str, ...]]:
    override = parse(argument)
    if isinstance(override, Diagnostic):
        raise DiagnosticsError([override])
    span = command_line_span(argument, argument.partition("=")[2] or None)
    name = None if override.is_sweep_override() or override.is_delete() else plain(override.value())
    if not isinstance(name, str):
        message = "must be the name of one file of variants, or `sweep.NAME=VALUE`"
        raise DiagnosticsError([Diagnostic(code="B0232", path=(SWEEPS,), message=message, span=span)])
    file = library.option(SWEEPS, name)
    if file is None:
        names = library.option_names(SWEEPS)
        message = f"there are no variants `{name}`"
        finding = Diagnostic(
            code="B0232", path=(SWEEPS,), message=message, span=span, allowed=names, nearest=nearest(name, names)
        )
        raise DiagnosticsError([finding])
    read = document(file)
    findings = list(read.findings)
    if not read.broken and (not isinstance(read.data, dict) or not read.data):
        findings.append(
            Diagnostic(
                code="B0232", path=(SWEEPS,), message="variants are a mapping of names to lists", span=read.first_line
            )
        )
    variants = {}
    for variant, overrides in read.data.items() if isinstance(read.data, dict) else ():
        if _are_overrides(overrides):
            variants[str(variant)] = tuple(overrides)
        else:
            message = "a variant is a list of overrides, such as [precision=fp16, compression=int8]"
            where = read.origins[(variant,)].start
            findings.append(Diagnostic(code="B0232", path=path_of(f"{SWEEPS}.{variant}"), message=message, span=where))
    if findings:
        raise DiagnosticsError(findings)
    return variants


def _are_overrides(value: object) -> bool:
    return isinstance(value, list) and all(
        isinstance(each, str) and ("=" in each or each.startswith("~")) for each in value
    )
