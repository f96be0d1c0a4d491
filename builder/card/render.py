"""The card: measured facts of one build, as Markdown with the Hub's header."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from builder.analysis.costs.screen import facts as cost_facts
from builder.analysis.costs.screen import notes as cost_notes
from builder.artifacts.devices import UNITS
from builder.artifacts.record import BuildRecord
from builder.card.header import base_model, header
from builder.card.usage import python_usage
from builder.errors import ConfigurationError
from builder.reports.page_devices import milliseconds
from builder.reports.page_interface import feature_text, swift_code
from builder.reports.plain import leaves, plain, scalar, size, system_name
from builder.reports.verdict import engine, headline, made_on, outcome, seeded_notice, synthetic_notice
from builder.spec.coverage import uncovered_inputs
from builder.util.text import visible

FILE_NAME = "README.md"


def render_card(record: BuildRecord, *, release: str = "") -> str:
    """The text of the card; `release` is the folder of a release that goes along, empty without one."""
    name = record.artifact.path.stem
    parts = [
        header(record, name),
        f"# {_text(name)}\n",
        *_introduction(record),
        *_section("Inputs and outputs", _interface(record)),
        *_section("Use it from Swift", _swift(record)),
        *_section("Use it from Python", _fenced("python", python_usage(record))),
        *_section("What it is", _sizes(record)),
        *_section("Checks", _checks(record)),
        *_section("Devices", _devices(record)),
        *_section("Limits", _limits(record)),
        *_section("Provenance", _provenance(record, release)),
    ]
    return "\n".join(parts).rstrip("\n") + "\n"


def _section(title: str, lines: Iterable[str]) -> Iterator[str]:
    found = list(lines)
    if found:
        yield f"## {title}\n"
        yield "\n".join(found) + "\n"


def _introduction(record: BuildRecord) -> Iterator[str]:
    notice = seeded_notice(record)
    if notice:
        yield f"> **{_text(notice)}**\n"
    spec = record.spec
    if spec.metadata.description:
        yield f"{_text(spec.metadata.description)}\n"
    made = f"`{record.artifact.format}` for {system_name(spec.system.name)} or later, computed in {spec.precision.kind}"
    steps = f", compressed by {', '.join(spec.compression)}" if spec.compression else ""
    yield f"A model in the format {made}{steps}. {_text(outcome(record))}.\n"


def _interface(record: BuildRecord) -> Iterator[str]:
    rows = [("input", feature["name"], feature_text(feature)) for feature in record.inputs]
    rows += [("state", name, f"{state.dtype}, kept between predictions") for name, state in record.spec.state.items()]
    rows += [("output", feature["name"], feature_text(feature)) for feature in record.outputs]
    yield from _table(("", "name", "what"), rows)
    if record.functions:
        yield f"\nFunctions: {', '.join(_code(name) for name in record.functions)}; above is the first."


def _swift(record: BuildRecord) -> Iterator[str]:
    """The interface of the package, or why there is none."""
    yield f"{_code(f'python -m builder package recipe={record.request.recipe}')} writes a Swift package around it:\n"
    try:
        yield from _fenced("swift", swift_code(record))
    except ConfigurationError as error:  # of a feature that no Swift is written for
        yield _text(error.message)


def _fenced(language: str, code: str) -> Iterator[str]:
    fence = "`" * max(3, 1 + max((len(run) for run in _backticks(code)), default=0))
    yield f"{fence}{language}\n{code.rstrip()}\n{fence}"


def _backticks(text: str) -> list[str]:
    return ["`" * len(run) for run in "".join(c if c == "`" else " " for c in text).split()]


def _sizes(record: BuildRecord) -> Iterator[str]:
    source = f" ({record.artifact.size_bytes / record.source_bytes:.0%} of the source's)" if record.source_bytes else ""
    rows = [("Size on disk", size(record.artifact.size_bytes) + source)]
    for costs in record.costs:
        prefix = f"{costs.function}: " if costs.function else ""
        rows += [(prefix + name, value) for name, value in cost_facts(costs)] if not costs.not_counted else []
    yield from _table(("what", "value"), rows)
    yield from (f"\n{_text(note)}" for costs in record.costs for note in cost_notes(costs))


def _checks(record: BuildRecord) -> Iterator[str]:
    if not record.checks:
        yield "No check was asked for: nothing is known about what the artifact computes."
        return
    rows = [
        (check.name, engine(check), check.verdict, headline(check), made_on(check) or "the file")
        for check in record.checks
    ]
    yield from _table(("check", "executed by", "verdict", "values and limits", "made on"), rows)
    yield "\n`runtime` is builder's own implementation of Core ML, on the CPU; `Core ML` is Apple's."


def _devices(record: BuildRecord) -> Iterator[str]:
    rows = [
        (f"{device.model} ({device.chip}, {device.system})", UNITS[unit], milliseconds(found.latency_ms),
         milliseconds(found.load_cold_ms), size(found.peak_bytes))
        for device in record.devices if not device.stand_in
        for unit, found in device.units.items()
    ]  # fmt: skip
    if rows:
        yield from _table(("device", "compute units", "prediction", "first load", "memory of the process"), rows)


def _limits(record: BuildRecord) -> Iterator[str]:
    """What is not proven, and what may go wrong."""
    notice = synthetic_notice(record) if uncovered_inputs(record.spec) else None
    if notice:
        yield f"- {_text(notice.split('. ')[0])}."
    if not any(check.engine == "coreml" for check in record.checks):
        yield "- No check ran on Apple's frameworks: the artifact was executed by builder's runtime."
    if not any(not device.stand_in for device in record.devices):
        yield "- It was not measured on a device."
    for check in record.checks:
        if check.passed is not True:
            yield f"- {_text(check.name)} is {check.verdict}: {_text(check.reason or 'no reason was given')}"
    for finding in record.lint:
        if finding.ignored is None:
            times = f", {finding.count} times" if finding.count > 1 else ""
            yield f"- {_code(finding.rule)} ({finding.confidence}{times}): {_text(finding.examples[0])}"


def _provenance(record: BuildRecord, release: str) -> Iterator[str]:
    license_ = record.spec.metadata.license
    base = base_model(record)
    git = record.git
    dirty = " with uncommitted changes" if git.get("dirty") else ""
    rows = [
        ("Licence", license_ or "the recipe says none"),
        ("Author", record.spec.metadata.author or "the recipe says none"),
        *([("Base model", base)] if base else []),
        *((f"Source: {key}", scalar(value)) for key, value in leaves(plain(record.source))),
        ("Recipe", f"{record.request.recipe} ({record.variant})"),
        ("Commit", f"{git.get('commit') or 'outside of a repository'}{dirty}"),
        ("Artifact", record.artifact.digest),
        ("Key of the build", record.key),
        ("Built", record.started),
        *sorted(record.versions.items()),
    ]
    yield from _table(("what", "value"), rows)
    if release:
        yield f"\nThe folder `{release}` is a release: `python -m builder verify {release}` checks every digest in it."


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    yield "| " + " | ".join(head) + " |"
    yield "|" + "---|" * len(head)
    for row in rows:
        yield "| " + " | ".join(_text(cell) for cell in row) + " |"


_SPECIAL = str.maketrans(
    {character: f"\\{character}" for character in "\\`*_[]|#"} | {"<": "&lt;", ">": "&gt;", "&": "&amp;", "\n": " "}
)


def _text(text: str) -> str:
    """Text that means itself in Markdown: whoever named a thing writes no links, tables or tags into the card."""
    return visible(str(text)).translate(_SPECIAL)


def _code(text: str) -> str:
    return f"`{visible(text).replace('`', '')}`"
