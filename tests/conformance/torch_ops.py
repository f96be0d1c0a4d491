"""torch's own operator tests through conversion and the runtime: python -m tests.conformance.torch_ops [operator …].

Every operator runs in a child with a time limit, by trace first, which finds most, then by export. Its results are
kept under a digest of what they depend on: the versions, these tests, and the lowerings and runtime operators that took
part. Only what changed runs again, and a run that breaks off goes on where it was; several shards may run at once.
`--samples 500` takes every sample of every operator, which takes hours.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

_ROOT = Path(__file__).parents[2]
_KEPT = _ROOT / "outputs" / "conformance" / "torch_ops"
_TOTALS = _ROOT / "docs" / "conformance_torch.json"
_PAGE = _ROOT / "docs" / "conformance_torch.md"


def run_operator(operator: Any, wanted: Mapping[str, Any], pipe: Any) -> None:
    """Send one result after the other: of each dtype, sample, method of capture and precision."""
    import torch

    from tests.conformance.op_samples import DTYPES, cases
    from tests.conformance.op_verdict import verdicts

    torch.set_num_threads(1)
    for dtype in wanted["dtypes"]:
        if not operator.supports_dtype(DTYPES[dtype], "cpu"):
            continue
        try:
            made = cases(operator, DTYPES[dtype], wanted["samples"])
        except Exception as error:
            pipe.send({"verdict": "none", "why": f"no samples: {type(error).__name__}", "dtype": dtype})
            continue
        for index, way, found in verdicts(made, wanted["methods"]):
            pipe.send(found | {"dtype": dtype, "sample": index, "way": way})
    pipe.send(None)


def _results(operator: Any, wanted: Mapping[str, Any], limit: float) -> list[dict[str, Any]]:
    context = multiprocessing.get_context("fork")
    receive, send = context.Pipe(duplex=False)
    child = context.Process(target=run_operator, args=(operator, wanted, send))
    child.start()
    send.close()
    found: list[dict[str, Any]] = []
    begun = time.monotonic()
    try:
        while (left := limit - (time.monotonic() - begun)) > 0 and receive.poll(left):
            if (result := receive.recv()) is None:
                return found
            found.append(result)
        found.append({"verdict": "timeout", "why": f"took more than {limit:g} s"})
    except EOFError:
        found.append({"verdict": "timeout", "why": "the process ended"})
    finally:
        child.kill()
        child.join()
    return found


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.conformance.torch_ops", description=__doc__)
    parser.add_argument("operators", nargs="*", help="names as of op_db; all unless given")
    parser.add_argument("--samples", type=int, default=6, help="of each operator and dtype at most, spread over all")
    parser.add_argument("--dtypes", default="float32,int32,bool")
    parser.add_argument("--methods", default="trace,export")
    parser.add_argument("--shard", default="0/1", help="which of how many parts, counted from 0")
    parser.add_argument("--limit", type=float, default=300.0, help="seconds for one operator")
    parser.add_argument("--show", action="store_true", help="print each result that is not right")
    parser.add_argument("--page", action="store_true", help="run nothing: write the page of what is kept")
    parser.add_argument("--kept", type=Path, default=_KEPT)
    chosen = parser.parse_args()
    import torch._dynamo  # noqa: F401 - before a lighter one stands in for it, which cannot export

    from builder.backends.coreml.importing import import_coremltools

    import_coremltools()
    import torch.testing._internal.common_methods_invocations as invocations

    import tests.conformance.op_verdict  # noqa: F401 - loaded once, before the children are forked
    from tests.conformance.op_report import fingerprint, page, totals

    if not chosen.page:
        _warm(chosen.methods.split(","))
    index, count = map(int, chosen.shard.split("/"))
    operators = [op for op in invocations.op_db if not chosen.operators or op.name in chosen.operators]
    operators = sorted(operators, key=lambda op: op.formatted_name)[index::count]
    ways = [] if chosen.page else [(method, operator) for method in chosen.methods.split(",") for operator in operators]
    for method, operator in ways:
        wanted = {"samples": chosen.samples, "dtypes": chosen.dtypes.split(","), "methods": [method]}
        file = chosen.kept / method / f"{operator.formatted_name}.json"
        if not chosen.show and file.exists() and _is_known(json.loads(file.read_text()), wanted):
            continue
        results = _results(operator, wanted, chosen.limit)
        _write(file, {**wanted, "state": fingerprint(results), "results": results})
        _show(operator.formatted_name, results, each=chosen.show)
    if not chosen.operators and count == 1:
        data = totals(_kept(chosen.kept), of=len(operators))
        _TOTALS.write_text(json.dumps(data, indent=1, sort_keys=True) + "\n", encoding="utf-8")
        _PAGE.write_text(page(data), encoding="utf-8")
        if data["counts"].get("wrong"):
            sys.exit("operators are silently wrong: see docs/conformance_torch.md")


def _warm(methods: Sequence[str]) -> None:
    """Import once what capture and conversion import as they go, before the children are forked."""
    import torch

    from tests.conformance.op_samples import Case, Operator
    from tests.conformance.op_verdict import verdicts

    class _Sample:
        input, args, kwargs = torch.ones(2), (), {}

    module = Operator(torch.exp, _Sample()).eval()
    list(verdicts([Case(name="exp", module=module, inputs=(torch.ones(2),), others={}, outputs=1)], methods))


def _kept(folder: Path) -> dict[str, Any]:
    """By operator what was run of it by every method."""
    found: dict[str, Any] = {}
    for file in sorted(folder.glob("*/*.json")):
        entry = json.loads(file.read_text())
        other = found.setdefault(file.stem, {"samples": 0, "dtypes": [], "results": []})
        other["samples"] = max(other["samples"], entry["samples"])
        other["dtypes"] = sorted({*other["dtypes"], *entry["dtypes"]})
        other["results"] += entry["results"]
    return found


def _show(name: str, results: Sequence[Mapping[str, Any]], *, each: bool) -> None:
    from tests.conformance.op_verdict import summary

    print(f"{name}: {summary(results)}", flush=True)
    for result in results:
        if each and result["verdict"] != "right":
            print("   ", json.dumps({key: result[key] for key in result if key not in ("lowerings", "types")}))


def _is_known(before: Mapping[str, Any], wanted: Mapping[str, Any]) -> bool:
    """Whether an operator was run with at least these samples, and nothing that decided about it has changed."""
    from tests.conformance.op_report import fingerprint

    return (
        before["samples"] >= wanted["samples"]
        and set(before["dtypes"]) >= set(wanted["dtypes"])
        and before["state"] == fingerprint(before["results"])
    )


def _write(path: Path, kept: Mapping[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_suffix(f".{os.getpid()}")
    new.write_text(json.dumps(kept, indent=0, sort_keys=True))
    new.replace(path)


if __name__ == "__main__":
    main()
