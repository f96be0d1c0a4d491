"""Builds trained models and judges them on realistic inputs: python -m tests.real [name …]; writes docs/real.md."""

from __future__ import annotations

import argparse
import datetime
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import yaml

import coreml_runtime as runtime
from tests.real.more_tasks import MORE_TASKS
from tests.real.packages import PACKAGES, lay_out
from tests.real.tasks import TASKS as FIRST_TASKS
from tests.real.tasks import Answer, Task

_ROOT = Path(__file__).parents[2]
_PAGE = _ROOT / "docs/real.md"
TASKS = {**FIRST_TASKS, **MORE_TASKS}


@dataclass(frozen=True, kw_only=True)
class Row:
    """What came of one recipe."""

    name: str
    verdict: str
    """What the build says: `passed`, or the first reason why not."""
    seconds: float
    agree: int
    of: int
    snr_db: float
    """On realistic inputs, the worst over samples and outputs; on the artifact of the build, or with the remedy."""
    remedy: str = ""
    """What was said to change, where it passed with that."""
    date: str = ""

    @property
    def outcome(self) -> str:
        """`good`, or what is wrong."""
        right = self.agree == self.of
        if self.verdict == "passed" or self.remedy:
            return "good" if right else "passed and wrong"
        return "refused, and no change helps" if not right else "right and refused"


def main() -> int:
    """Build and judge; returns 1 where something passed and is wrong, or was refused without a change that helps."""
    parser = argparse.ArgumentParser(prog="python -m tests.real", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="name", help="recipes, all of them unless given")
    names = parser.parse_args().names or list(TASKS)
    cache = Path(os.environ.get("BUILDER_REAL_MODELS", Path.home() / ".cache/builder-real-models"))
    known = cache / "results.json"
    rows = {}
    if known.exists():
        rows = {name: Row(**row) for name, row in json.loads(known.read_text()).items() if name in TASKS}
    with tempfile.TemporaryDirectory(prefix="builder-real-") as folder:
        project = Path(folder)
        lay_out(cache, project)
        for name in names:
            rows[name] = replace(judge(name, TASKS[name], project), date=_today())
            print(json.dumps({**asdict(rows[name]), "outcome": rows[name].outcome}), flush=True)
            known.write_text(json.dumps({each: asdict(row) for each, row in rows.items()}, indent=1))
    _PAGE.write_text(page([rows[name] for name in TASKS if name in rows]), encoding="utf-8")
    return int(any(rows[name].outcome != "good" for name in names))


def _today() -> str:
    return f"{datetime.date.today():%Y-%m-%d}"


def judge(name: str, task: Task, project: Path) -> Row:
    """Build as a user would, once more with the change that the build names, if it does, and compare."""
    samples = task.samples()
    if task.writes_data:
        (project / "data").mkdir(exist_ok=True)
        np.savez(project / f"data/{name}.npz", **{key: np.stack([s[key] for s in samples]) for key in samples[0]})
    began = time.perf_counter()
    code, said = _build(project, name)
    seconds, remedy = time.perf_counter() - began, ""
    verdict = "passed" if code == 0 else _reason(said)
    artifact = project / "outputs" / ("broken" if code else ".") / name / "default" / f"{name}.mlpackage"
    section = _pasted(said) if code == 5 else None
    if code == 5 and section is None:  # a build looks for a change for a minute, and `debug` for ten
        section = _pasted(_run(project, "debug", "--short", f"recipe={name}").stdout)
    if section is not None:
        recipe = {**yaml.safe_load((project / f"recipes/{name}.yaml").read_text()), **section}
        recipe["defaults"] = [each for each in recipe["defaults"] if not set(each) & set(section)]
        (project / f"recipes/{name}_mended.yaml").write_text(yaml.safe_dump(recipe, sort_keys=False))
        if _build(project, f"{name}_mended")[0] == 0:
            remedy = yaml.safe_dump(section, default_flow_style=True, width=1000).strip()
            artifact = project / f"outputs/{name}_mended/default/{name}_mended.mlpackage"
    if not artifact.exists():
        return Row(name=name, verdict=verdict, seconds=seconds, agree=0, of=len(samples), snr_db=0.0)
    original, model = task.original(project), runtime.load(artifact)
    pairs = [_pair(original(sample), model.predict(dict(sample))) for sample in samples]
    agree = sum(task.same(*pair) for pair in pairs)
    snr_db = min(_snr(one[key], other[key]) for one, other in pairs for key in one)
    return Row(name=name, verdict=verdict, seconds=seconds, agree=agree, of=len(samples), snr_db=snr_db, remedy=remedy)


def _build(project: Path, name: str) -> tuple[int, str]:
    done = _run(project, f"recipe={name}", "tracking=none")
    return done.returncode, done.stderr


def _run(project: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": f"{_ROOT}{os.pathsep}{project}"}
    command = [sys.executable, "-m", "builder", *arguments]
    return subprocess.run(command, cwd=project, env=environment, capture_output=True, text=True, check=False)


def _reason(said: str) -> str:
    found = [line for line in said.splitlines() if line.startswith("error[")]
    return found[-1].partition("]: ")[2].partition(". The new files")[0] if found else "no reason was given"


def _pasted(said: str) -> dict[str, Any] | None:
    """The section behind the last `->` of the output."""
    lines = [line.removeprefix("  ") for line in said.splitlines()]
    starts = [number for number, line in enumerate(lines) if line.startswith("-> ")]
    if not starts:
        return None
    rest = [line[3:] for line in lines[starts[-1] :]]
    end = next((n for n, line in enumerate(rest[1:], start=1) if not line.startswith(" ")), len(rest))
    section = yaml.safe_load("\n".join(rest[:end]))
    return section if isinstance(section, dict) else None


def _pair(expected: Answer, got: dict[str, Any]) -> tuple[Answer, Answer]:
    """Both by the original's names; outputs of torch have none, so they go by their order."""
    values = [np.asarray(value) for value in got.values()]
    ordered = [got[name] for name in expected] if all(name in got for name in expected) else values
    return expected, {
        name: np.asarray(value).reshape(wanted.shape)
        for (name, wanted), value in zip(expected.items(), ordered, strict=True)
    }


def _snr(expected: np.ndarray, got: np.ndarray) -> float:
    signal, noise = (float(np.square(v.astype(np.float64)).sum()) for v in (expected, got - expected))
    return float("inf") if noise == 0 else 10 * float(np.log10(max(signal, 1e-30) / noise))


def page(rows: list[Row]) -> str:
    """The page of the documentation."""
    packages = ", ".join(f"{name} {version}" for name, version in PACKAGES.items())
    lines = [
        "# Trained models",
        "",
        f"Written by `make real` on {_today()}. Models that packages on the index ship with their weights",
        f"({packages})",
        "are built in float16 as a user would, and judged by what they are for, on inputs as apps give them:",
        "speech-like sound, chords, lines and pages of text, photographs, letters, files. Where a build is refused,",
        "the change that it names is pasted, and the artifact with it is judged.",
        "",
        "| model | the build says | on realistic inputs | SNR, worst | outcome | measured |",
        "|---|---|---|---|---|---|",
    ]
    for row in rows:
        mended = f"; with `{row.remedy}` passed" if row.remedy else ""
        said = row.verdict if row.verdict == "passed" else f"failed{mended}"
        agree = f"{row.agree} of {row.of}: {TASKS[row.name].what}"
        lines.append(f"| {row.name} | {said} | {agree} | {row.snr_db:.1f} dB | {row.outcome} | {row.date} |")
    reasons = [row for row in rows if row.verdict != "passed"]
    if reasons:
        lines += ["", "What failed, and why:", "", *(f"- {row.name}: {row.verdict}" for row in reasons)]
    return "\n".join([*lines, ""])


if __name__ == "__main__":
    raise SystemExit(main())
