"""Runs ONNX's own backend tests through a build: python -m tests.conformance.onnx_nodes [--only relu] [--seconds 600].

Each test is built from its file in fp32 and in fp16, executed, and compared with onnxruntime, on its own input and on
others. Verdicts are kept as they are made: a run that is cut off goes on where it was, one of other code begins anew.
"""

import argparse
import hashlib
import json
import os
import signal
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

from tests.conformance.onnx_cases import Case, cases
from tests.conformance.onnx_judge import BROKEN, PRECISIONS, Verdict, judge
from tests.conformance.onnx_page import page, totals

_ROOT = Path(__file__).parents[2]
_PAGE = _ROOT / "docs" / "conformance_onnx.md"
_TOTALS = _ROOT / "docs" / "conformance_onnx.json"
_STORED = _ROOT / "outputs" / "conformance" / "onnx_nodes"
_LONGEST = 120
"""Seconds that one test may take."""


def state() -> str:
    """A digest of what decides about the verdicts: the builder's code, this suite, and the packages."""
    names = ("coremltools", "torch", "numpy", "onnx", "onnxruntime", "onnxsim")
    code = hashlib.sha256(repr([version(name) for name in names]).encode())
    for folder in (_ROOT / "builder", Path(__file__).parent):
        for file in sorted(folder.rglob("*.py")):
            code.update(file.relative_to(_ROOT).as_posix().encode() + file.read_bytes())
    return code.hexdigest()[:12]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.conformance.onnx_nodes", description=__doc__)
    parser.add_argument("--only", default="", help="tests whose name contains this")
    parser.add_argument("--seconds", type=float, default=7200, help="stop after this long; the next run goes on")
    parser.add_argument("--every", type=int, default=1, help="each n-th test only")
    parser.add_argument("--file", type=Path, help="where verdicts are kept, instead of outputs/conformance")
    chosen = parser.parse_args()
    os.nice(10)
    stored = chosen.file or _STORED / f"{state()}.jsonl"
    stored.parent.mkdir(parents=True, exist_ok=True)
    verdicts = _read(stored)
    done = {verdict["case"] for verdict in verdicts}
    every = list(cases())
    found = [case for case in every if chosen.only in case.name][:: chosen.every]
    started, complete = time.monotonic(), True
    with stored.open("a", encoding="utf-8") as file:
        for case in found:
            if case.name in done:
                continue
            if time.monotonic() - started > chosen.seconds:
                complete = False
                break
            for verdict in _judged(case):
                verdicts.append(verdict)
                file.write(json.dumps(verdict) + "\n")
            file.flush()
    shown = totals(verdicts, of=len(every))
    print(json.dumps(shown["counts"]), file=sys.stderr)
    if complete and not chosen.only:
        _TOTALS.write_text(json.dumps(shown, indent=1, sort_keys=True) + "\n", encoding="utf-8")
        _PAGE.write_text(page(shown), encoding="utf-8")
    bad = [verdict for verdict in verdicts if verdict["verdict"] in ("wrong", BROKEN)]
    if bad:
        sys.exit(f"{len(bad)} verdicts are wrong or broken, first {bad[0]['case']} in {bad[0]['precision']}")


def _judged(case: Case) -> list[dict[str, Any]]:
    """The verdicts on a case; one that takes too long is broken."""

    def too_long(*_: object) -> None:
        raise TimeoutError(f"more than {_LONGEST} seconds")

    signal.signal(signal.SIGALRM, too_long)
    signal.alarm(_LONGEST)
    try:
        return [verdict.as_json() for verdict in judge(case)]
    except TimeoutError as error:
        return [
            Verdict(case=case.name, precision=precision, verdict=BROKEN, reason=str(error)).as_json()
            for precision in PRECISIONS
        ]
    finally:
        signal.alarm(0)


def _read(file: Path) -> list[dict[str, Any]]:
    """The verdicts in a file; the last line of a run that was killed may be cut off, and is left out."""
    if not file.exists():
        return []
    return [json.loads(line) for line in file.read_text("utf-8").split("\n") if line.endswith("}")]


if __name__ == "__main__":
    main()
