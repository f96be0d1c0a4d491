"""The body of the page: interface, Swift, sizes, operators, substitutions, stages, recipe and where it came from."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from builder.artifacts import BuildRecord, SubstitutionEffect
from builder.reports.markup import Content, Markup, bars, code, details, element, facts, join, section, table
from builder.reports.plain import duration, leaves, number, plain, size
from builder.reports.swift import swift_snippet

_LAYERS_SHOWN, _OPERATORS_SHOWN, _LABELS_SHOWN = 20, 25, 6


def interface(record: BuildRecord) -> Markup:
    """Inputs and outputs as the app sees them."""
    head = ("name", "kind", "what the app gives")
    back = ("name", "kind", "what the app gets")
    return section(
        "interface",
        "Inputs and outputs",
        table(head, [(code(f["name"]), f["kind"], _feature(f)) for f in record.inputs]),
        table(back, [(code(f["name"]), f["kind"], _feature(f)) for f in record.outputs]),
        *_labels(record),
    )


def swift(record: BuildRecord) -> Markup:
    """The snippet, and what is known of it."""
    note = "Written from the artifact's own description; it was not compiled here."
    return section("swift", "Call it from Swift", element("pre", element("code", swift_snippet(record))), _quiet(note))


def weight(record: BuildRecord) -> Markup | None:
    """Where the bytes are: against the source, and by layer."""
    parts: list[Content] = []
    if record.source_bytes:
        rows = [
            ("source", float(record.source_bytes), size(record.source_bytes)),
            ("artifact", float(record.artifact.size_bytes), size(record.artifact.size_bytes)),
        ]
        parts += [element("h3", "Against the source"), bars(rows, label="bytes of source and artifact")]
    if record.weights:
        parts += [element("h3", "By layer"), _layers(record)]
    if record.skipped_layers:
        rows_ = [(layer.step, code(layer.name), layer.reason) for layer in record.skipped_layers]
        shown = table(("step", "layer", "reason"), rows_)
        parts += [
            element("h3", f"Left uncompressed ({len(rows_)})"),
            shown if len(rows_) <= 12 else details("all", shown),
        ]
    return section("weights", "Bytes", *parts) if parts else None


def operators(record: BuildRecord) -> Markup | None:
    """Operators by type, without the constants."""
    counted = {name: count for name, count in record.op_counts.items() if name != "const"}
    if not counted:
        return None
    counts = sorted(counted.items(), key=lambda item: (-item[1], item[0]))
    rows = [(name, float(count), str(count)) for name, count in counts[:_OPERATORS_SHOWN]]
    rest = counts[_OPERATORS_SHOWN:]
    said = f"{sum(counted.values())} operators of {len(counts)} types"
    more = [_quiet("and " + ", ".join(f"{count} {name}" for name, count in rest))] if rest else []
    return section("operators", "Operators", element("p", said), bars(rows, label=said), *more)


def lowerings(record: BuildRecord) -> Markup | None:
    """Which operators coremltools did not convert itself, and why."""
    if not record.lowerings:
        return None
    rows = [(code(used.operator), str(used.times), used.why) for used in record.lowerings]
    return section("lowerings", "Lowerings of the builder's own", table(("operator", "times", "why"), rows))


def substitutions(record: BuildRecord) -> Markup | None:
    """What was replaced in the model, and what that alone changed."""
    if not record.substitutions:
        return None
    head = ("name", "kind", "replaced", "declared", "largest change", "SNR")
    return section(
        "substitutions", "Substitutions", table(head, [_substitution(effect) for effect in record.substitutions])
    )


def stages(record: BuildRecord) -> Markup:
    """What each stage did and how long it took."""
    most = max((stage.seconds for stage in record.stages), default=0.0)
    rows = [(s.name, s.seconds, "cached" if s.cached else duration(s.seconds)) for s in record.stages]
    results = [(stage.name, stage.result, code(stage.key.removeprefix("sha256:")[:12])) for stage in record.stages]
    failures = record.capture.get("failures") or {}
    return section(
        "stages",
        "Stages",
        bars(rows, label="seconds by stage", most=most),
        table(("stage", "result", "key"), results),
        _quiet(f"Captured by {record.capture.get('method', 'an unknown method')}."),
        *(_quiet(f"{method} did not work: {reason}") for method, reason in failures.items()),
    )


def recipe(record: BuildRecord) -> Markup:
    """The composed recipe, each value with the place where it was written."""
    rows = [(element("code", line), element("span", origin, class_="origin")) for line, origin in _config_lines(record)]
    body = [element("tr", element("td", line), element("td", origin)) for line, origin in rows]
    overrides = (
        [_quiet(f"On the command line: {' '.join(record.request.overrides)}")] if record.request.overrides else []
    )
    listing = element("div", element("table", element("tbody", *body), class_="listing"), class_="scroll")
    return section("recipe", "Recipe as composed", *overrides, listing)


def provenance(record: BuildRecord) -> Markup:
    """What made this artifact: source, digests, commit, tools."""
    git = record.git
    commit = f"{git.get('commit', 'outside a repository')}{' with uncommitted changes' if git.get('dirty') else ''}"
    pairs: list[tuple[str, Content]] = [
        ("Artifact", code(record.artifact.path.name)),
        ("Digest", code(record.artifact.digest)),
        ("Semantic digest", code(record.artifact.semantic_digest)),
        ("Key", code(record.key)),
        ("Commit", code(commit)),
        ("Started", record.started),
        *((f"Source: {key}", code(_scalar(value))) for key, value in leaves(plain(record.source))),
    ]
    versions = [(tool, code(version)) for tool, version in sorted(record.versions.items())]
    return section("provenance", "Provenance", facts(pairs), element("h3", "Tools"), facts(versions))


def _quiet(text: str) -> Markup:
    return element("p", text, class_="quiet")


def _feature(feature: Mapping[str, Any]) -> Content:
    kind = feature["kind"]
    if kind == "image":
        return f"{feature.get('width', '?')} × {feature.get('height', '?')} pixels, {feature.get('color_layout', '')}"
    if kind == "string":
        return "the best label"
    if kind == "dictionary":
        return "a probability for each label"
    rest = {k: v for k, v in feature.items() if k not in ("name", "kind", "shape", "dtype")}
    shape = " × ".join(str(d) for d in feature.get("shape", ()))
    more = f" ({', '.join(f'{k} {_scalar(v)}' for k, v in rest.items())})" if rest else ""
    return f"{feature.get('dtype', '')} {shape}{more}"


def _labels(record: BuildRecord) -> Iterator[Markup]:
    if not record.labels:
        return
    first = ", ".join(record.labels[:_LABELS_SHOWN])
    if len(record.labels) <= _LABELS_SHOWN:
        yield element("p", f"{len(record.labels)} labels: {first}")
    else:
        yield details(
            f"{len(record.labels)} labels: {first}, …", element("p", ", ".join(record.labels), class_="quiet")
        )


def _layers(record: BuildRecord) -> Markup:
    ordered = sorted(record.weights, key=lambda layer: (-layer.bytes, layer.name))
    rows = [(layer.name, float(layer.bytes), size(layer.bytes)) for layer in ordered[:_LAYERS_SHOWN]]
    rest = ordered[_LAYERS_SHOWN:]
    more = [_quiet(f"and {len(rest)} smaller ones: {size(sum(layer.bytes for layer in rest))}")] if rest else []
    return join(bars(rows, label="bytes by layer"), *more)


def _substitution(effect: SubstitutionEffect) -> tuple[Content, ...]:
    count = f"{len(effect.replaced)} module{'s' if len(effect.replaced) != 1 else ''}"
    return (
        effect.name,
        effect.kind,
        details(count, element("p", ", ".join(effect.replaced) or "none", class_="quiet")),
        "exact" if effect.exact else "approximate",
        number(effect.max_abs),
        "not defined" if effect.snr_db is None else f"{number(effect.snr_db)} dB",
    )


def _config_lines(record: BuildRecord) -> Iterator[tuple[str, str]]:
    origins = record.request.origins

    def lines(value: Mapping[str, Any], prefix: str, depth: int) -> Iterator[tuple[str, str]]:
        for key, entry in value.items():
            path = f"{prefix}.{key}" if prefix else str(key)
            if isinstance(entry, Mapping) and entry:
                yield "  " * depth + f"{key}:", origins.get(path, "")
                yield from lines(entry, path, depth + 1)
            else:
                yield "  " * depth + f"{key}: {_scalar(entry)}", origins.get(path, "")

    return lines(plain(record.request.config), "", 0)


def _scalar(value: Any) -> str:
    """A value as YAML would show it in one line, long lists cut."""
    if isinstance(value, str):
        return (
            value if value and value == value.strip() and "\n" not in value else json.dumps(value, ensure_ascii=False)
        )
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 200 else f"{text[:160]} … ({len(value)} entries)"
