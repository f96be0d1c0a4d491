"""The body of the page: sizes, operators, substitutions, stages, recipe and where the artifact came from."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping

from builder.analysis.costs.screen import percent
from builder.artifacts.findings import LintFinding
from builder.artifacts.record import BuildRecord, LayerWeights
from builder.artifacts.stages import SubstitutionEffect
from builder.reports.markup import Content, Markup, bar, bars, code, details, element, facts, join, section, table
from builder.reports.plain import duration, leaves, number, plain, scalar, size

_LAYERS_SHOWN, _OPERATORS_SHOWN = 20, 25


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
    return section("Bytes", *parts) if parts else None


def operators(record: BuildRecord) -> Markup | None:
    """Operators by type, without the constants."""
    counted = {name: count for name, count in record.op_counts.items() if name != "const"}
    if not counted:
        return None
    counts = sorted(counted.items(), key=lambda item: (-item[1], item[0]))
    rows = [(name, float(count), str(count)) for name, count in counts[:_OPERATORS_SHOWN]]
    rest = counts[_OPERATORS_SHOWN:]
    message = f"{sum(counted.values())} operators of {len(counts)} types"
    more = [_quiet("and " + ", ".join(f"{count} {name}" for name, count in rest))] if rest else []
    return section("Operators", element("p", message), bars(rows, label=message), *more)


def lowerings(record: BuildRecord) -> Markup | None:
    """Which operators coremltools did not convert itself, and why."""
    if not record.lowerings:
        return None
    rows = [(code(used.operator), str(used.times), used.why) for used in record.lowerings]
    return section("Lowerings of the builder's own", table(("operator", "times", "why"), rows))


def neural_engine(record: BuildRecord) -> Markup:
    """What probably keeps the artifact off the Neural Engine, or slows it there."""
    numeric = {finding.rule for headroom in record.headroom for finding in headroom.findings}
    found = [finding for finding in record.lint if finding.rule not in numeric]
    if not found:
        return section("Neural Engine", _quiet("Nothing is known that would keep this model off the Neural Engine."))
    head = ("rule", "confidence", "found", "what to do", "source")
    shares = [f"{percent(each.clear_share)} of the MACs" for each in record.costs if each.clear_share is not None]
    clear = [element("p", f"{' and '.join(shares)} are in operators with no known obstacle.")] if shares else []
    note = "Warnings from the file alone, for want of a list that Apple publishes; measure on a device before you act."
    return section("Neural Engine", *clear, table(head, [finding_row(finding) for finding in found]), _quiet(note))


def substitutions(record: BuildRecord) -> Markup | None:
    """What was replaced in the model, and what that alone changed."""
    if not record.substitutions:
        return None
    head = ("name", "kind", "replaced", "declared", "largest change", "SNR")
    return section("Substitutions", table(head, [_substitution(effect) for effect in record.substitutions]))


def stages(record: BuildRecord) -> Markup:
    """What each stage did and how long it took."""
    most = max((stage.seconds for stage in record.stages), default=0.0)
    rows = [
        (
            stage.name,
            element("span", "cached" if stage.cached else duration(stage.seconds), class_="number"),
            element("span", bar(stage.seconds / (most or 1.0)), class_="track-cell"),
            stage.result,
            element("code", stage.key.removeprefix("sha256:")[:12]),
        )
        for stage in record.stages
    ]
    failures = record.capture.get("failures") or {}
    return section(
        "Stages",
        table(("stage", "time", "", "what it did", "key"), rows, class_="stages"),
        _quiet(f"Captured by {record.capture.get('method', 'an unknown method')}."),
        *(_quiet(f"{method} did not work: {reason}") for method, reason in failures.items()),
        *(
            _quiet(f"The trace recorded as constants what the first example held: {frozen}")
            for frozen in record.capture.get("frozen") or ()
        ),
    )


def recipe(record: BuildRecord) -> Markup:
    """The composed recipe, each value with the place where it was written."""
    rows = [
        (element("code", line), element("span", origin, class_="origin") if origin else "")
        for line, origin in _config_lines(record)
    ]
    body = [element("tr", element("td", line), element("td", origin)) for line, origin in rows]
    overrides = (
        [_quiet(f"On the command line: {' '.join(record.request.overrides)}")] if record.request.overrides else []
    )
    listing = element("div", element("table", element("tbody", *body), class_="listing"), class_="scroll")
    return section("Recipe as composed", *overrides, listing)


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
        *((f"Source: {key}", code(scalar(value))) for key, value in leaves(plain(record.source))),
    ]
    versions = [(tool, code(version)) for tool, version in sorted(record.versions.items())]
    return section("Provenance", facts(pairs), element("h3", "Tools"), facts(versions))


def _quiet(text: str) -> Markup:
    return element("p", text, class_="quiet")


def _layers(record: BuildRecord) -> Markup:
    totals: Counter[str] = Counter()
    for weight in record.weights:
        totals[_layer(weight)] += weight.bytes
    ordered = sorted(totals.items(), key=lambda item: (-item[1], item[0]))
    rows = [(layer, float(total), size(total)) for layer, total in ordered[:_LAYERS_SHOWN]]
    rest = [total for _, total in ordered[_LAYERS_SHOWN:]]
    more = [_quiet(f"and {len(rest)} smaller ones: {size(sum(rest))}")] if rest else []
    every = [(_layer(w), code(w.name), element("span", size(w.bytes), class_="number")) for w in record.weights]
    shown = details("every weight, by its name in the artifact", table(("layer", "weight", "bytes"), every))
    return join(bars(rows, label="bytes by layer"), *more, shown)


def _layer(weight: LayerWeights) -> str:
    """The PyTorch module where it is known, else the operator's output; what belongs to no operator by its own name."""
    name = weight.module or weight.output or weight.name
    return f"{name} ({weight.operator})" if weight.operator else name


def finding_row(finding: LintFinding) -> tuple[Content, ...]:
    """A rule of the lint with what it found, and what to do."""
    share = "" if finding.share is None else f" ({percent(finding.share)} of the MACs)"
    found = details(f"{finding.count}{share}", *(element("p", example, class_="quiet") for example in finding.examples))
    done = finding.advice if finding.ignored is None else f"accepted: {finding.ignored}"
    return code(finding.rule), finding.confidence, found, done, "; ".join(finding.sources)


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

    def lines(value: Mapping[str, object], prefix: str, depth: int) -> Iterator[tuple[str, str]]:
        for key, entry in value.items():
            path = f"{prefix}.{key}" if prefix else str(key)
            if isinstance(entry, Mapping) and entry:
                yield "  " * depth + f"{key}:", origins.get(path, "")
                yield from lines(entry, path, depth + 1)
            else:
                yield "  " * depth + f"{key}: {scalar(entry)}", origins.get(path, "")

    return lines(plain(record.request.config), "", 0)
