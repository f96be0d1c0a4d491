"""Many architectures, converted by the builder and by the script that people write: what works, and how right it is.

    python -m benchmarks.zoo [--family torchvision|timm|transformers] [--half HALF] [--again] [names …]
    python -m benchmarks.zoo --write

The first line runs what docs/zoo.json has no result for (`--again`: all that is named; `--failed`: what failed before),
each architecture in a process of its own that is ended after `--timeout` seconds of processor time, and keeps every
result at once, so that a run which was broken off goes on. The second writes docs/zoo.md. Weights are seeded
(builder/model/sources/seeded.py), precision is fp32, the target iOS 17; the script is `torch.jit.trace` and
`ct.convert` on the same module. It leaves dictionary outputs as they are, which coremltools refuses: a script
that unwraps them was measured to convert more, 20 of 27 architectures of torchvision and 12 of 17 small ones of
transformers.

SNR is of the artifact, executed by our runtime, against the PyTorch model: the worst output of two samples (of one for
the script). Goal: over 80 dB, and no architecture that the script converts and we do not. Where it is missed, the page
tells how far PyTorch in float32 is from itself in float64. Seconds are processor time in a process that has already
imported torch and coremltools, checks included in the builder's. "by" is the method that `capture.method: auto` took.

Core AI has two halves of its own: `aimodel` is the same recipe in `format: aimodel`, `coreai-torch` is `torch.export`,
its decompositions and `TorchConverter`, as Apple's guide has it. Their SNR is by Apple's interpreter, of one sample for
the script; ours is by our runtime. They run smallest first, with every second architecture of timm.
"""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing
import os
import platform
import resource
import sys
import tempfile
import warnings
from collections.abc import Iterator
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks.zoo_models import FAMILIES, OF_CORE_AI

ROOT = Path(__file__).resolve().parents[1]
RESULTS, TABLE = ROOT / "docs" / "zoo.json", ROOT / "docs" / "zoo.md"
CORE_ML = ("builder", "script")
CORE_AI = ("aimodel", "coreai-torch")
HALVES = (*CORE_ML, *CORE_AI)
GOAL_DB = 80.0
_BUSY = 20
"""How many times its processor time a job may take on a machine that is busy with others."""
TOOLS = ("torch", "torchvision", "coremltools", "numpy", "timm", "transformers")
TOOLS_OF_CORE_AI = ("coreai-core", "coreai-torch")

Results = dict[str, dict[str, Any]]
"""By `family/name/half`."""


def main() -> None:
    """Run what is asked for, or write the table."""
    options = _options()
    results: Results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    if options.write:
        TABLE.write_text(table(results), encoding="utf-8")
        return
    import_all()
    for key, family, name, half in _jobs(options, results):
        print(f"{key} …", end=" ", flush=True, file=sys.stderr)
        result = {**run_alone(half, family, name, options.timeout), **_stamp(half)}
        results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}  # another run may have added to it
        results[key] = result
        _save(results)
        print(_line(results[key]), file=sys.stderr)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("names", nargs="*")
    parser.add_argument("--family", choices=FAMILIES)
    parser.add_argument("--half", choices=HALVES)
    parser.add_argument("--again", action="store_true")
    parser.add_argument("--failed", action="store_true")
    parser.add_argument("--timeout", type=float, default=600.0)
    parser.add_argument("--write", action="store_true")
    return parser.parse_args()


def _jobs(options: argparse.Namespace, results: Results) -> Iterator[tuple[str, str, str, str]]:
    known = {name for models in FAMILIES.values() for name in models}
    if unknown := set(options.names) - known:
        raise SystemExit(f"the zoo has no {', '.join(sorted(unknown))}")
    for half in [options.half] if options.half else HALVES:
        for family in [options.family] if options.family else FAMILIES:
            for name in _in_order(family, half, results):
                key = f"{family}/{name}/{half}"
                wanted = not options.names or name in options.names
                again = options.again or (options.failed and key in results and not is_good(results[key]))
                if wanted and (again or key not in results):
                    yield key, family, name, half


def _in_order(family: str, half: str, results: Results) -> list[str]:
    """The names of a family; for Core AI those of its sample, what took the builder least time first."""
    if half in CORE_ML:
        return list(FAMILIES[family])
    seconds = {name: results.get(f"{family}/{name}/builder", {}).get("seconds", math.inf) for name in FAMILIES[family]}
    return sorted(OF_CORE_AI[family], key=seconds.__getitem__)


def import_all() -> None:
    """Import once what every job needs: their processes are copies of this one."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    import torch

    torch.set_num_threads(1)
    from builder.backends.coreml.importing import import_coremltools
    from builder.model.torchvision_import import import_torchvision

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import_torchvision()
        import_coremltools()
        import timm  # noqa: F401
        import transformers  # noqa: F401

        import benchmarks.zoo_job  # noqa: F401


def run_alone(half: str, family: str, name: str, timeout: float) -> dict[str, Any]:
    """Run one job in a process of its own; one that takes too long or dies is a result too."""
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe(duplex=False)
    with tempfile.TemporaryDirectory(prefix="zoo-", ignore_cleanup_errors=True) as folder:
        process = context.Process(target=_job, args=(half, name, FAMILIES[family][name], Path(folder), timeout, theirs))
        process.start()
        theirs.close()
        try:
            result = ours.recv() if ours.poll(_BUSY * timeout) else {"error": f"not done after {_BUSY * timeout:g} s"}
        except EOFError:
            process.join()
            result = {"error": f"the process ended with {process.exitcode}"}
        process.kill()
        process.join()
    return {"converts": False, **result}


def _job(half: str, name: str, recipe: dict[str, Any], folder: Path, timeout: float, answer: Any) -> None:
    from benchmarks.zoo_job import run_job

    resource.setrlimit(resource.RLIMIT_CPU, (math.ceil(timeout), math.ceil(timeout)))
    answer.send(run_job(half, name, recipe, folder))


def _stamp(half: str) -> dict[str, Any]:
    tools = TOOLS if half in CORE_ML else (*TOOLS, *TOOLS_OF_CORE_AI)
    return {"date": datetime.now(UTC).date().isoformat(), "versions": {name: version(name) for name in tools}}


def _save(results: Results) -> None:
    beside = RESULTS.with_suffix(".part")
    beside.write_text(json.dumps(dict(sorted(results.items())), indent=1) + "\n", encoding="utf-8")
    beside.replace(RESULTS)


def is_good(result: dict[str, Any]) -> bool:
    """Whether it converts, and computes what the model computes."""
    return bool(result["converts"]) and (result.get("snr_db") or 0.0) > GOAL_DB


def _line(result: dict[str, Any]) -> str:
    if not result["converts"]:
        return f"no: {result.get('error')}"
    return f"{result['snr_db']} dB, {result.get('seconds')} s, {result.get('lowerings', [])}"


def table(results: Results) -> str:
    """The page: one table a family, counts on top, and the reasons of what does not convert."""
    lines = [
        "# Zoo",
        "",
        "Generated by `python -m benchmarks.zoo --write`; do not edit. What each column means is explained in",
        f"`benchmarks/zoo.py`. Run with {_tools(results)} on {platform.system()} {platform.machine()}",
        f"({_dates(results)}); seeded weights, fp32, iOS 17, and iOS 27 for Core AI. What has no number was not run.",
    ]
    for family, models in FAMILIES.items():
        lines += ["", f"## {family}", "", *_counts(family, list(models), CORE_ML, results), ""]
        lines += ["| architecture | script | SNR | s | MB | builder | SNR | s | MB | by | lowerings of ours |"]
        lines += ["|---|---|---|---|---|---|---|---|---|---|---|"]
        lines += [_row(family, name, results) for name in models]
        lines += _reasons(family, list(models), "builder", results)
        lines += ["", f"### {family} for Core AI", ""]
        ran = sum(_ran(family, name, results) for name in OF_CORE_AI[family])
        lines += [f"{ran} of {len(OF_CORE_AI[family])} ran.", ""]
        lines += [*_counts(family, list(OF_CORE_AI[family]), CORE_AI, results), ""]
        lines += ["| architecture | coreai-torch | SNR | s | MB | builder | SNR | s | MB | ours | by | ours instead |"]
        lines += ["|---|---|---|---|---|---|---|---|---|---|---|---|"]
        lines += [_core_ai_row(family, name, results) for name in OF_CORE_AI[family] if _ran(family, name, results)]
        lines += _reasons(family, list(OF_CORE_AI[family]), "aimodel", results)
    return "\n".join(lines) + "\n"


def _ran(family: str, name: str, results: Results) -> bool:
    """Whether there is anything of an architecture for Core AI."""
    return any(f"{family}/{name}/{half}" in results for half in CORE_AI)


def _reasons(family: str, names: list[str], half: str, results: Results) -> list[str]:
    failed = [(name, results.get(f"{family}/{name}/{half}")) for name in names]
    reasons = [f"- {name}: {_reason(result)}" for name, result in failed if result is not None and not is_good(result)]
    return ["", *reasons] if reasons else []


def _counts(family: str, names: list[str], halves: tuple[str, ...], results: Results) -> list[str]:
    summaries = []
    for half in halves:
        ran = [results[key] for name in names if (key := f"{family}/{name}/{half}") in results]
        converted, good = sum(bool(r["converts"]) for r in ran), sum(is_good(r) for r in ran)
        what = "builder" if half == "aimodel" else half
        summaries.append(f"{what}: {converted} of {len(ran)} convert, {good} with over {GOAL_DB:g} dB")
    return ["; ".join(summaries) + "."]


def _row(family: str, name: str, results: Results) -> str:
    script, ours = (results.get(f"{family}/{name}/{half}") for half in ("script", "builder"))
    used = ", ".join((ours or {}).get("lowerings", []))
    return "| " + " | ".join([name, *_cells(script), *_cells(ours), (ours or {}).get("method", ""), used]) + " |"


def _core_ai_row(family: str, name: str, results: Results) -> str:
    script, ours = (results.get(f"{family}/{name}/{half}") for half in ("coreai-torch", "aimodel"))
    found = ours or {}
    runtime = found.get("runtime_db")
    more = ["" if runtime is None else f"{runtime:.0f}", found.get("method", ""), ", ".join(found.get("lowerings", []))]
    return "| " + " | ".join([name, *_cells(script), *_cells(ours), *more]) + " |"


def _cells(result: dict[str, Any] | None) -> list[str]:
    if result is None:
        return [""] * 4
    if not result["converts"]:
        return ["no", "", f"{result['seconds']:.0f}" if "seconds" in result else "", ""]
    snr = result["snr_db"]
    return ["yes", "" if snr is None else f"{snr:.0f}", f"{result['seconds']:.0f}", f"{result['bytes'] / 1e6:.1f}"]


def _reason(result: dict[str, Any]) -> str:
    if result["converts"] and result.get("torch_db") is not None:
        return (
            f"{result['snr_db']:.0f} dB; PyTorch in float32 is {result['torch_db']:.0f} dB from itself in float64 "
            "on the same weights and samples, which amplify rounding"
        )
    if result["converts"]:
        return f"{result['snr_db']:.0f} dB" if result["snr_db"] is not None else str(result.get("reason"))
    return " ".join(str(result.get("error")).split())[:400]


def _tools(results: Results) -> str:
    found = sorted({f"{name} {value}" for r in results.values() for name, value in r["versions"].items()})
    return ", ".join(found)


def _dates(results: Results) -> str:
    dates = sorted({r["date"] for r in results.values()})
    return dates[0] if len(dates) == 1 else f"{dates[0]} to {dates[-1]}" if dates else "not run"


if __name__ == "__main__":
    main()
