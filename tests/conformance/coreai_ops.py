"""torch's own operator tests by Core AI and Apple's interpreter: python -m tests.conformance.coreai_ops [operator …].

As `tests.conformance.torch_ops`, by export and in float32. A line of JSON for each operator goes to
outputs/conformance/coreai_ops.jsonl, and what is there already does not run again; the totals are part of
docs/conformance_coreai_ops.json.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from builder.backends.coreai import engine
from builder.backends.coreai.conversion import Declared, convert
from builder.errors import BuilderError
from tests.conformance.op_samples import DTYPES, Case, cases
from tests.conformance.op_verdict import Together, first_line, judged, summary

_ROOT = Path(__file__).parents[2]
_KEPT = _ROOT / "outputs" / "conformance" / "coreai_ops.jsonl"
_TOTALS = _ROOT / "docs" / "conformance_coreai_ops.json"
_SECONDS = 120.0


class _Asset:
    """An asset under the judge's interface."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def predict(self, given: Mapping[str, np.ndarray]) -> Mapping[str, np.ndarray]:
        (found,), _ = engine.predict(self._path, [given], seconds=_SECONDS)
        return found


def verdicts(made: Sequence[Case]) -> list[dict[str, Any]]:
    """The verdict on each case: from one program that holds all, or from its own where that is not right."""
    found = _verdicts(made)
    if len(made) == 1:
        return found
    return [own if own["verdict"] == "right" else _verdicts([case])[0] for own, case in zip(found, made, strict=True)]


def _verdicts(made: Sequence[Case]) -> list[dict[str, Any]]:
    module = Together(made).eval()
    inputs = tuple(x for case in made for x in case.inputs)
    types = {f"x{i}": str(x.dtype).removeprefix("torch.") for i, x in enumerate(inputs)}
    try:
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            program = torch.export.export(module, inputs).run_decompositions({})
    except Exception as error:
        return [{"verdict": "refused", "why": f"export failed: {first_line(error)}"}] * len(made)
    outputs = {f"y{i}": None for i in range(sum(case.outputs for case in made))}
    with tempfile.TemporaryDirectory() as folder:
        asset = Path(folder) / "m.aimodel"
        try:
            convert(program, asset, Declared(inputs=types, outputs=outputs), None)
        except BuilderError as error:
            return [{"verdict": "refused", "why": str(error)[:200]}] * len(made)
        except Exception as error:
            return [{"verdict": "breaks", "why": first_line(error)}] * len(made)
        return judged(_Asset(asset), made, half=False)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.conformance.coreai_ops", description=__doc__)
    parser.add_argument("operators", nargs="*", help="names as of op_db; all unless given")
    parser.add_argument("--samples", type=int, default=2)
    parser.add_argument("--dtypes", default="float32,int32")
    chosen = parser.parse_args()
    import torch.testing._internal.common_methods_invocations as invocations

    _KEPT.parent.mkdir(parents=True, exist_ok=True)
    rows = [json.loads(line) for line in _KEPT.read_text().splitlines()] if _KEPT.exists() else []
    rows = [row for row in rows if row["operator"] not in chosen.operators]
    known = {row["operator"] for row in rows}
    for operator in sorted(invocations.op_db, key=lambda each: each.formatted_name):
        wanted = not chosen.operators or operator.name in chosen.operators
        if not wanted or operator.formatted_name in known:
            continue
        row = {"operator": operator.formatted_name, **_of(operator, chosen.dtypes.split(","), chosen.samples)}
        rows.append(row)
        if row["verdict"] != "right":
            print(f"{row['verdict']:8} {row['operator']}: {row['why']}", flush=True)
        with _KEPT.open("a", encoding="utf-8") as out:
            out.write(json.dumps(row) + "\n")
    totals = {
        "counts": Counter(row["verdict"] for row in rows),
        "not right": [r for r in rows if r["verdict"] != "right"],
    }
    _TOTALS.write_text(json.dumps(totals, indent=1, sort_keys=True) + "\n", encoding="utf-8")


def _of(operator: Any, dtypes: Sequence[str], count: int) -> dict[str, Any]:
    results = []
    for dtype in dtypes:
        if not operator.supports_dtype(DTYPES[dtype], "cpu"):
            continue
        try:
            made = cases(operator, DTYPES[dtype], count)
        except Exception:  # an operator whose samples do not run here
            continue
        results += verdicts(made) if made else []
    worst = summary(results)
    return {"verdict": worst, "why": next((r.get("why", "") for r in results if r["verdict"] == worst), "")}


if __name__ == "__main__":
    main()
