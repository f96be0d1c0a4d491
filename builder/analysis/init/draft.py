"""A recipe as `init` drafts it: what was found in a model, why each line is there, and the YAML text of it all."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from builder.spec.target import DEFAULT_FORMAT

if TYPE_CHECKING:
    from builder.util.reading import JsonObject

WIDTH = 100

OFFLINE = "Without network: build with UNTRAINED weights and say so loudly; `error` refuses instead."
"""Why a drafted recipe falls back to seeded weights."""


@dataclass(frozen=True, kw_only=True)
class Draft:
    """What is known about a model; `why` explains settings, by dotted key, and becomes comments."""

    name: str
    """Of the recipe: letters, digits, `_` and `-`."""
    title: str
    """One sentence that says what is built."""
    source: JsonObject
    """The section, `kind` first."""
    inputs: Mapping[str, JsonObject]
    outputs: Mapping[str, JsonObject | None] = field(default_factory=dict)
    states: JsonObject = field(default_factory=dict)
    classifier: JsonObject = field(default_factory=dict)
    detection: JsonObject = field(default_factory=dict)
    why: Mapping[str, str] = field(default_factory=dict)
    missing: Mapping[str, str] = field(default_factory=dict)
    """Settings of `source` that only a person knows: written as comments, and the recipe builds once they are given."""
    suggestions: tuple[str, ...] = ()
    """Further lines for the end of the recipe, as comments."""
    precision: str = "fp16"
    target: str = "ios15"
    format: str = "mlpackage"


def recipe_text(draft: Draft) -> str:
    """The recipe: head comment with the command, then every section with its reasons."""
    kind = draft.source["kind"]
    lines = [
        *_comment(f"{draft.title} Drafted by `python -m builder init`: read it, and change what you know better.", 0),
        "#",
        f"#     python -m builder recipe={draft.name}",
        "schema: 1",
        "defaults:",
        f"  - source: {kind}",
        "  - input: null",
        *_explained(draft, "precision", 2, f"- precision: {draft.precision}"),
        *_explained(draft, "target", 2, f"- target: {draft.target}"),
        "source:",
        *_mapping(draft, {k: v for k, v in draft.source.items() if k != "kind"}, ("source",)),
        *_missing(draft),
        "input:",
        *_mapping(draft, draft.inputs, ("input",)),
    ]
    if draft.states:
        lines += ["state:", *_mapping(draft, draft.states, ("state",))]
    if draft.outputs:
        lines += ["output:", *_mapping(draft, draft.outputs, ("output",))]
    if draft.classifier:
        lines += ["classifier:", *_mapping(draft, draft.classifier, ("classifier",))]
    if draft.detection:
        lines += ["detection:", *_mapping(draft, draft.detection, ("detection",))]
    lines += _place_of_data(draft.inputs)
    if draft.format != DEFAULT_FORMAT:
        lines += _explained(draft, "format", 0, f"format: {draft.format}")
    lines += [f"# {line}".rstrip() for line in draft.suggestions]
    return "\n".join(lines) + "\n"


def _place_of_data(inputs: Mapping[str, Mapping[str, object]]) -> Iterator[str]:
    """Where samples of arrays are named; without them checks draw noise, and nobody knows what real ones give."""
    arrays = [name for name, given in inputs.items() if given.get("kind") == "tensor"]
    if not arrays:
        return
    yield from _comment(
        f"TO BE GIVEN for {', '.join(arrays)}: real inputs, one array for each, samples along its first axis. Until "
        "then checks are made on synthetic inputs, and `release` refuses. `kind: sounds`, `text_ids`, `tables` and "
        "`text_boxes` come along.",
        0,
    )
    yield from ("# checks:", "#   parity:", "#     data: {kind: tensors, file: samples.npz}")


def _mapping(draft: Draft, section: Mapping[str, object], path: tuple[str, ...]) -> Iterator[str]:
    indent = 2 * len(path)
    for key, value in section.items():
        here = (*path, key)
        yield from _comment(draft.why.get(".".join(here), ""), indent)
        if isinstance(value, Mapping) and value and not _is_flow(here):
            yield f"{' ' * indent}{key}:"
            yield from _mapping(draft, value, here)
        else:
            yield f"{' ' * indent}{key}:{'' if value is None else ' ' + _flow(value)}"


def _is_flow(path: tuple[str, ...]) -> bool:
    """Whether a mapping is written on one line: arguments, and everything deep inside."""
    return path[-1] == "arguments" or len(path) > 2


def _missing(draft: Draft) -> Iterator[str]:
    for key, reason in draft.missing.items():
        yield from _comment(f"TO BE GIVEN: {reason}", 2)
        yield f"  # {key}: "


def _explained(draft: Draft, key: str, indent: int, line: str) -> list[str]:
    return [*_comment(draft.why.get(key, ""), indent), f"{' ' * indent}{line}"]


def _comment(text: str, indent: int) -> list[str]:
    prefix = " " * indent + "# "
    return [prefix + line for line in textwrap.wrap(text, WIDTH - len(prefix), break_on_hyphens=False)]


def _flow(value: object) -> str:
    """A value in YAML's flow style, on one line."""
    import yaml

    text: str = yaml.safe_dump(value, default_flow_style=True, sort_keys=False, width=10**6, allow_unicode=True)
    return text.strip().removesuffix("...").strip()
