"""Takes a sweep's own settings (`sweep.jobs=4`) out of a command line; what is left are the builds' arguments."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, get_args, get_origin

from pydantic import ValidationError

from builder.config.hydra.overrides import parse, plain
from builder.diagnostics.render import DiagnosticsError
from builder.diagnostics.spans import command_line_span
from builder.errors import Diagnostic, path_of
from builder.jobs.settings import LAUNCHERS, SweepSettings
from builder.search.configuration import is_about_search
from builder.util.suggest import nearest

ROOM = "sweep"


def is_setting(argument: str) -> bool:
    """Whether an argument is about the sweep rather than about a build."""
    key = argument.lstrip("+~").partition("=")[0]
    return key == ROOM or key.startswith(f"{ROOM}.")


def refuse_settings(arguments: Sequence[str]) -> None:
    """Raise DiagnosticsError where the command line of one build has settings of a sweep or of a search."""
    about = [
        (is_setting, "is about a sweep", "a sweep is asked for by `-m`"),
        (is_about_search, "is about a search", "a search is asked for by `python -m builder search recipe=…`"),
    ]
    findings = [
        Diagnostic(
            code="B0231",
            path=path_of(argument.partition("=")[0]),
            message=message,
            span=command_line_span(argument),
            hint=hint,
        )
        for argument in arguments
        for is_about, message, hint in about
        if is_about(argument)
    ]
    if findings:
        raise DiagnosticsError(findings)


def read_settings(arguments: Sequence[str]) -> SweepSettings:
    """Return the settings that these arguments give; raises DiagnosticsError with all that is wrong with them."""
    given: dict[str, object] = {}
    written: dict[str, str] = {}
    findings: list[Diagnostic] = []
    for argument in arguments:
        found = _read(argument)
        if isinstance(found, Diagnostic):
            findings.append(found)
            continue
        (name, *rest), value = found
        dotted = ".".join([name, *rest])
        if dotted in written:
            message = f"is given twice, first as `{written[dotted]}`"
            findings.append(
                Diagnostic(
                    code="B0231", path=path_of(f"{ROOM}.{dotted}"), message=message, span=command_line_span(argument)
                )
            )
        written[dotted] = argument
        if rest:
            group = given.setdefault(name, {})
            if isinstance(group, dict):
                group[".".join(rest)] = value
        else:
            given[name] = value
    launcher = given.get("launcher", "local")
    if launcher not in LAUNCHERS:
        span = command_line_span(written["launcher"], str(launcher))
        message = f"{launcher!r} is not allowed"
        near = nearest(str(launcher), LAUNCHERS)
        findings.append(
            Diagnostic(
                code="B0231",
                path=path_of(f"{ROOM}.launcher"),
                message=message,
                span=span,
                allowed=list(LAUNCHERS),
                nearest=near,
            )
        )
        raise DiagnosticsError(findings)
    try:
        settings = LAUNCHERS[launcher].model_validate(given)
    except ValidationError as error:
        findings += _findings(error, launcher, written)
    if findings:
        raise DiagnosticsError(findings)
    return settings


def _read(argument: str) -> tuple[list[str], Any] | Diagnostic:
    override = parse(argument)
    if isinstance(override, Diagnostic):
        return override
    key, span = override.key_or_group, command_line_span(argument)
    names = key.split(".")[1:]
    if override.is_delete() or override.is_add() or override.package is not None or not all(names) or not names:
        return Diagnostic(code="B0231", path=path_of(key), message="must be written as `sweep.NAME=VALUE`", span=span)
    if override.is_sweep_override():
        return Diagnostic(
            code="B0231", path=path_of(key), message="must have one value: it is about the whole sweep", span=span
        )
    return names, plain(override.value())


def _findings(error: ValidationError, launcher: str, written: dict[str, str]) -> list[Diagnostic]:
    found = []
    for details in error.errors(include_url=False):
        name = str(details["loc"][0])
        argument = next(text for key, text in written.items() if key == name or key.startswith(f"{name}."))
        key = f"{ROOM}.{'.'.join(str(part) for part in details['loc'])}"
        if details["type"] == "extra_forbidden":
            found.append(_unknown(name, argument, launcher))
            continue
        names = _allowed(launcher, name)
        message = details["msg"].removeprefix("Value error, ").replace("Input should be", "must be")
        near = nearest(str(details["input"]), names)
        span = command_line_span(argument, argument.partition("=")[2] or None)
        found.append(Diagnostic(code="B0231", path=path_of(key), message=message, span=span, nearest=near))
    return found


def _unknown(name: str, argument: str, launcher: str) -> Diagnostic:
    names = list(LAUNCHERS[launcher].model_fields)
    others = [other for other, model in LAUNCHERS.items() if name in model.model_fields]
    hint = f"it goes with {' or '.join(f'sweep.launcher={other}' for other in others)}" if others else None
    return Diagnostic(
        code="B0231",
        path=path_of(f"{ROOM}.{name}"),
        message=f"does nothing with sweep.launcher={launcher}" if others else "unknown key",
        span=command_line_span(argument, f"{ROOM}.{name}", first=True),
        allowed=[f"{ROOM}.{known}" for known in names],
        nearest=None if others or nearest(name, names) is None else f"{ROOM}.{nearest(name, names)}",
        hint=hint,
    )


def _allowed(launcher: str, name: str) -> list[str]:
    """The words that a setting may be, if it is one of some words."""
    field = LAUNCHERS[launcher].model_fields.get(name)
    annotation = field.annotation if field else None
    return [str(word) for word in get_args(annotation)] if str(get_origin(annotation)) == "typing.Literal" else []
