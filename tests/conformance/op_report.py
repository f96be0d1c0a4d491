"""What the page of torch's operators says, and what a kept result depends on."""

from __future__ import annotations

import hashlib
import inspect
import textwrap
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

_HERE = Path(__file__).parent
_BUILDER = _HERE.parents[1] / "builder"


def fingerprint(results: Iterable[Mapping[str, Any]]) -> str:
    """A digest of the sources that decided about the results: common ones, lowerings used, runtime operators run.

    An operator that is refused runs again with every change to the lowerings, since a new one may take it.
    """
    results = list(results)
    digest = hashlib.sha256(_common().encode())
    lowerings = sorted({name for result in results for name in result.get("lowerings", ())})
    types = sorted({name for result in results for name in result.get("types", ())})
    for name in lowerings:
        digest.update(_of_lowering(name).encode())
    for name in types:
        digest.update(_of_runtime(name).encode())
    if any(result["verdict"] != "right" for result in results):
        digest.update(_digest(sorted((_BUILDER / "backends" / "coreml" / "lowerings").rglob("*.py"))).encode())
    return digest.hexdigest()[:16]


@cache
def _common() -> str:
    files = [_HERE / "op_samples.py", _HERE / "op_verdict.py"]
    return _digest(files) + repr([version(name) for name in ("coremltools", "torch", "numpy")])


def _digest(files: Sequence[Path]) -> str:
    whole = hashlib.sha256()
    for file in files:
        whole.update(file.read_bytes())
    return whole.hexdigest()


@cache
def _of_lowering(name: str) -> str:
    from builder.backends.coreml.lowerings.table import LOWERINGS

    lower = LOWERINGS[name].lower if name in LOWERINGS else None
    while hasattr(lower, "func"):
        lower = lower.func
    file = inspect.getsourcefile(lower) if lower is not None else None
    return "" if file is None else _digest([Path(file)])


@cache
def _of_runtime(name: str) -> str:
    from coreml_runtime.ops import operators

    kernel = operators().get(name)
    file = None if kernel is None else inspect.getsourcefile(inspect.unwrap(kernel))
    return "" if file is None else _digest([Path(file)])


def totals(kept: Mapping[str, Any], *, of: int) -> dict[str, Any]:
    """The verdict of each operator by way, what is wrong, and each refusal's message with how often it came.

    `of` is how many operators there are.
    """
    from tests.conformance.op_verdict import summary

    operators: dict[str, Any] = {}
    for name, entry in sorted(kept.items()):
        results = [result for result in entry["results"] if result["verdict"] != "none"]
        if not results:
            continue
        bad = [r for r in results if r["verdict"] in ("wrong", "breaks", "timeout")]
        refused = sorted({r["why"] for r in results if r["verdict"] == "refused"})
        operators[name] = {
            "verdict": summary(results),
            "right": sum(r["verdict"] == "right" for r in results),
            "tried": len(results),
            "wrong": sorted(
                {f"{r.get('way', '')} {r.get('dtype', '')} {r.get('values', '')}: {r['why']}" for r in bad}
            ),
            "refused": refused,
        }
    counts = Counter(entry["verdict"] for entry in operators.values())
    ways: dict[str, Counter[str]] = {}
    for entry in kept.values():
        for way in sorted({str(result["way"]) for result in entry["results"] if "way" in result}):
            of_this = [result for result in entry["results"] if result.get("way") == way]
            ways.setdefault(way, Counter()).update([summary(of_this)])
    versions = {name: version(name) for name in ("coremltools", "torch", "numpy")}
    return {
        "date": date.today().isoformat(),
        "versions": versions,
        "samples": max((entry["samples"] for entry in kept.values()), default=0),
        "dtypes": sorted({dtype for entry in kept.values() for dtype in entry["dtypes"]}),
        "results": sum(len(entry["results"]) for entry in kept.values()),
        "of": of,
        "counts": dict(sorted(counts.items())),
        "ways": {way: dict(sorted(count.items())) for way, count in sorted(ways.items())},
        "operators": operators,
    }


def _way(name: str, count: Mapping[str, int], of: int) -> str:
    """A row of the table. Operators without samples (`none`) have nothing to compare."""
    wrong, late = (sum(count.get(word, 0) for word in words) for words in (("wrong", "breaks"), ("timeout",)))
    tried = sum(count.values())
    return (
        f"| {name} | {tried} of {of} | {count.get('right', 0)} | {count.get('refused', 0)} | {wrong} | {late} | "
        f"{count.get('none', 0)} |"
    )


def page(data: Mapping[str, Any]) -> str:
    """The page as Markdown."""
    operators = data["operators"]
    lines = [
        "# torch's operators",
        "",
        "The last run of torch's own operator tests (`op_db`), written by `make conformance`; do not edit.",
        f"{data['date']}, " + ", ".join(f"{name} {number}" for name, number in data["versions"].items()) + ".",
        "",
        f"Up to {data['samples']} samples of each operator and dtype ({', '.join(data['dtypes'])}): "
        f"{data['results']} results.",
        "A sample is captured by trace or by export, converted in fp32 and fp16 for iOS 17, and compared with torch on",
        "its own values, a hundred, a thousand and a thousandth times them, zeros, and the ends of what half precision",
        "and 16 bits hold. `python -m tests.conformance.torch_ops --samples 500` takes all of them, in hours.",
        "",
        "| way | operators run | right | refused somewhere | wrong somewhere | took too long | without results |",
        "|---|---:|---:|---:|---:|---:|---:|",
        *(_way(name, count, data["of"]) for name, count in data["ways"].items()),
        "",
        "The tables below count an operator by the worst that came of it in any way in which it ran.",
        "",
        "What Core ML cannot hold, and what is therefore not asked:",
        "",
        "| what | why |",
        "|---|---|",
        "| values and sums of terms beyond 65504 in half precision | it has no such numbers; infinity is right there |",
        "| what torch itself gets wrong in half precision | the original would be no better on such a device |",
        "| integers beyond 2048 that become floats in half precision, beyond 2^24 in single | it rounds them |",
        "| in half precision: scores of attention, terms of Fourier transforms and losses beyond 65504 | as above |",
        "| integers beyond 32 bits | the dtype is int32 |",
        "| the sign of zero | it is specified nowhere |",
        "| which of several equal values is named | torch leaves it open too |",
        "| tensors without elements | an output has at least one |",
        "| complex numbers, strings and float64 at the border, more than five axes | there is no such dtype or rank |",
        "",
        "| verdict | operators |",
        "|---|---|",
        *(f"| {name} | {count} |" for name, count in data["counts"].items()),
        "",
    ]
    for title, names in (("Wrong", ("wrong", "breaks", "timeout")), ("Refused somewhere", ("refused",))):
        chosen = {name: entry for name, entry in operators.items() if entry["verdict"] in names}
        lines += [f"## {title}", "", "| operator | right of tried | why |", "|---|---|---|"]
        for name, entry in chosen.items():
            why = "; ".join([*entry["wrong"][:2], *entry["refused"][:2]]).replace("|", "\\|").replace("\n", " ")
            why = textwrap.shorten(why, 240, placeholder=" …")
            lines.append(f"| `{name}` | {entry['right']} of {entry['tried']} | {why} |")
        lines.append("")
    right = [f"`{name}`" for name, entry in operators.items() if entry["verdict"] == "right"]
    lines += ["## Right in every way", "", ", ".join(right) + ".", ""]
    return "\n".join(lines)
