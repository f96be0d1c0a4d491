"""Turns the results of a suite into totals and the page that shows them."""

from collections import Counter, defaultdict
from collections.abc import Iterable
from typing import Any

from tests.conformance import results
from tests.conformance.exceptions import EXCEPTIONS, known_reason
from tests.conformance.suites import SUITES, Suite
from tests.conformance.tolerance import LIMITS

_EXAMPLES = 3


def grouped(found: Iterable[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    """Results of a kind by reason, the most frequent first, with a few examples."""
    by_reason: dict[str, list[str]] = defaultdict(list)
    for result in found:
        if result["kind"] == kind:
            by_reason[result["reason"]].append(result["test"])
    order = sorted(by_reason.items(), key=lambda item: (-len(item[1]), item[0]))
    return [{"reason": reason, "count": len(tests), "examples": sorted(tests)[:_EXAMPLES]} for reason, tests in order]


def totals(suite: Suite, found: list[dict[str, Any]]) -> dict[str, Any]:
    """Counts by kind, groups by reason, and whether the goal is reached: passes among tests that predict or should."""
    counts = Counter(result["kind"] for result in found)
    passed, failed = counts[results.PREDICTED], counts[results.FAILED]
    share = passed / (passed + failed) if passed + failed else 0.0
    operators = sorted(
        {name for result in found if result["kind"] == results.PREDICTED for name in result["operators"]}
    )
    reasons = (
        results.EXPLAINED,
        results.CONVERT_FAILED,
        results.TEST_FAILED,
        results.EXPECTED_FAILURE,
        results.SKIPPED,
    )
    return {
        "tests": len(found),
        "counts": {kind: counts[kind] for kind in results.KINDS},
        "share": round(share, 5),
        "goal": suite.goal,
        "reached": share >= suite.goal,
        "operators": [name for name in operators if not name.startswith(("nn:", "pipeline:"))],
        "layers": [name.removeprefix("nn:") for name in operators if name.startswith("nn:")],
        "seconds": round(sum(result["seconds"] for result in found)),
        "failures": sorted((r["test"], r["detail"] or r["reason"]) for r in found if r["kind"] == results.FAILED),
        "reasons": {kind: grouped(found, kind) for kind in reasons if counts[kind]},
    }


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ").replace("<", "&lt;")


def _table(data: dict[str, Any]) -> list[str]:
    head = ["suite", "tests", *results.KINDS, "share", "goal"]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for suite in SUITES:
        if suite.name not in data["suites"]:
            continue
        entry = data["suites"][suite.name]
        counts = [str(entry["counts"][kind]) for kind in results.KINDS]
        share = [f"{100 * entry['share']:.2f} %", f"{100 * entry['goal']:.1f} %"]
        lines.append("| " + " | ".join([suite.title, str(entry["tests"]), *counts, *share]) + " |")
    return lines


def markdown(data: dict[str, Any]) -> str:
    """The page docs/conformance.md."""
    versions = ", ".join(f"{name} {number}" for name, number in sorted(data["versions"].items()))
    lines = [
        "# Conformance",
        "",
        "The last run of Apple's own tests on the runtime, written by `make conformance`; do not edit.",
        f"Python {data['python']} on {data['machine']}, {versions}.",
        "",
        f"An output may differ by {LIMITS['fp32']:g} of its range in fp32 and {LIMITS['fp16']:g} in fp16. A test "
        "counts as passed only if a prediction was executed.",
        "The share is that of passes among tests that passed with a prediction or failed.",
        "",
        *_table(data),
    ]
    for suite in SUITES:
        entry = data["suites"].get(suite.name)
        if entry is not None:
            lines += _suite_section(suite, entry)
    lines += ["", "## Tests with a wider limit", ""]
    lines += [f"- `{pattern}` ({precision}, {limit:g}): {reason}." for pattern, precision, limit, reason in EXCEPTIONS]
    return "\n".join(lines) + "\n"


def _failures(failures: Iterable[tuple[str, str]]) -> list[str]:
    """A row for each test function and reason, with what one of its variants says."""
    rows: dict[tuple[str, str], list[str]] = defaultdict(list)
    for test, detail in failures:
        rows[test.partition("[")[0].rpartition("/")[2], known_reason(test) or ""].append(detail)
    order = sorted(rows.items(), key=lambda item: (-len(item[1]), item[0]))
    return [
        f"| {len(details)} | `{_cell(function)}` | {_cell(details[0].strip())} | {_cell(reason)} |"
        for (function, reason), details in order
    ]


def _suite_section(suite: Suite, entry: dict[str, Any]) -> list[str]:
    lines = [
        "",
        f"## {suite.title}",
        "",
        f"{len(entry['operators'])} operators and {len(entry['layers'])} layer kinds ran.",
    ]
    if entry["failures"]:
        lines += ["", "Failures:", "", "| count | test | what it says | what is known |", "|---|---|---|---|"]
        lines += _failures(entry["failures"])
    for kind, groups in entry["reasons"].items():
        lines += ["", f"{kind[0].upper()}{kind[1:]}:", "", "| count | reason |", "|---|---|"]
        lines += [f"| {group['count']} | {_cell(group['reason'])} |" for group in groups]
    return lines
