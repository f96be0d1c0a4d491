"""Data that a recipe names once under `data`: where it is referred to, and a spec in which it stands in place."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from builder.errors import Diagnostic
from builder.spec import BuildSpec
from builder.spec.checks import AccuracyCheck
from builder.spec.data import UNLABELLED, FolderData
from builder.spec.inputs import ImageInput
from builder.spec.problems import Path
from builder.util.suggest import did_you_mean

_REFERRING = ("checks", "compression")
"""Sections whose entries may have `data`."""


def spec_of(config: Mapping[str, object]) -> BuildSpec:
    """Return the BuildSpec of a composed configuration, with named data in the places that refer to it.

    So the key of a stage has the data that the stage reads, and no other. Raises pydantic's ValidationError.
    """
    return with_named_data(BuildSpec.model_validate(config))


def with_named_data(spec: BuildSpec) -> BuildSpec:
    """Return `spec` with each name of data replaced by what it names."""
    sections = {section: dict(getattr(spec, section)) for section in _REFERRING}
    for (section, name, _), data in references(spec):
        sections[section][name] = sections[section][name].model_copy(update={"data": spec.data[data]})
    return spec.model_copy(update=sections)


def references(spec: BuildSpec) -> Iterator[tuple[tuple[str, str, str], str]]:
    """Yield every place that refers to named data, with the name."""
    for section in _REFERRING:
        for name, entry in getattr(spec, section).items():
            data = getattr(entry, "data", None)
            if isinstance(data, str):
                yield (section, name, "data"), data


def data_problems(spec: BuildSpec) -> Iterator[Diagnostic]:
    """Yield every name that names nothing, and all data that cannot be what it is used for."""
    for place, name in references(spec):
        if name not in spec.data:
            yield Diagnostic(
                code="B0255",
                path=place,
                message=f"no data is named {name}",
                hint=did_you_mean(name, spec.data) or f"name it: `data: {{{name}: {{kind: folder, folder: …}}}}`",
            )
    placed: list[tuple[Path, object]] = [(("data", name), data) for name, data in spec.data.items()]
    for section in _REFERRING:
        for name, entry in getattr(spec, section).items():
            data = getattr(entry, "data", None)
            if data is not None and not isinstance(data, str):
                placed.append(((section, name, "data"), data))
    for path, data in placed:
        if isinstance(data, FolderData):
            yield from _folder_problems(spec, path, data)
    yield from _unlabelled(spec)


def _folder_problems(spec: BuildSpec, path: Path, data: FolderData) -> Iterator[Diagnostic]:
    others = [name for name, given in spec.artifact_inputs.items() if not isinstance(given, ImageInput)]
    if len(spec.artifact_inputs) != 1 or others:
        yield Diagnostic(
            code="B0255",
            path=(*path, "kind"),
            message=f"a folder of pictures fits one image input, and the inputs are {', '.join(spec.artifact_inputs)}",
            hint="write `kind: tensors` or `kind: python`, which give all inputs",
        )
    if data.interpolation is not None and data.resize is None:
        yield Diagnostic(
            code="B0255",
            path=(*path, "interpolation"),
            message="nothing is scaled without `resize`",
            hint="write `resize: crop`, or leave interpolation out",
        )


def _unlabelled(spec: BuildSpec) -> Iterator[Diagnostic]:
    """Checks that count right answers need data that has them."""
    for name, check in spec.checks.items():
        if not isinstance(check, AccuracyCheck):
            continue
        data = spec.data.get(check.data) if isinstance(check.data, str) else check.data
        path: Path = ("checks", name, "data") if not isinstance(check.data, str) else ("data", check.data)
        if isinstance(data, UNLABELLED):
            yield Diagnostic(code="B0255", path=path, message=f"accuracy needs labels, and {data.kind} has none")
        elif isinstance(data, FolderData) and data.labels is None:
            yield Diagnostic(
                code="B0255",
                path=path,
                message="accuracy needs labels, and this folder says none",
                hint="write `labels: folders`, or `labels: labels.csv` with a CSV file of file and label",
            )
