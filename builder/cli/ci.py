"""`python -m builder ci`: builds the recipes of a repository, and compares them with those of another branch."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from builder.cli.arguments import Parser, outputs_folder, verbosity
from builder.errors import ConfigurationError
from builder.util.text import visible

if TYPE_CHECKING:
    from builder.cli.answers import BuiltFacts, CiRecipe
    from builder.jobs.jobs import Job, Outcome
    from builder.util.reading import JsonObject

DESCRIPTION = """Build the recipes in ./recipes, or those that are named, and compare each with the same recipe of
another checkout: its verdicts, size and signal-to-noise ratio. Results in the store are not made again; a recipe that
is wrong or broken does not end the others. The table goes to stdout as Markdown, and with --summary to the end of a
file. The exit code is that of the first recipe that failed.

  python -m builder ci
  python -m builder ci recipe=digits,detector tracking=none --base ../main --report ci.json
"""


def parser() -> Parser:
    """Return the parser of this verb."""
    made = Parser("ci", DESCRIPTION, usage="ci [recipe=NAME,…] [key=value …] [--base FOLDER] [--summary FILE]")
    made.add_argument("overrides", nargs="*", metavar="key=value", help="recipes, and what to change in all of them")
    made.add_argument("--base", metavar="FOLDER", help="a checkout of what to compare with")
    made.add_argument("--summary", metavar="FILE", help="where to append the table, such as $GITHUB_STEP_SUMMARY")
    made.add_argument("--report", metavar="FILE", help="where to write all of it as JSON (`schema --of ci`)")
    made.add_argument("--outputs", default="outputs", metavar="FOLDER", help="where artifacts go (default: outputs)")
    return made


def run(arguments: Sequence[str]) -> int:
    """Build, compare, report; returns the exit code."""
    given = parser().read(arguments)
    outputs = outputs_folder(given)
    names, overrides = _names(given.overrides)
    base = None if given.base is None else Path(given.base)
    if base is not None and not base.is_dir():
        raise ConfigurationError(f"--base {base} is not a folder", code="B0226")
    from builder.cli.answers import CiAnswer, render
    from builder.cli.ci_summary import summary_table

    plans, outcomes = _built(names, overrides, outputs, verbosity(given))
    now = {name: facts(outcome) for name, outcome in zip(names, outcomes, strict=True)}
    before = {} if base is None else _facts_of_base(base, names, overrides, verbosity(given))
    answer = CiAnswer(
        exit_code=next((each.exit_code for each in now.values() if each.exit_code), 0),
        recipes=tuple(_recipe(name, plans[name], now[name], before.get(name)) for name in names),
    )
    table = visible(summary_table(answer, compared=base is not None))
    print(table, end="", flush=True)
    if given.report is not None:
        _write(Path(given.report), render(answer) + "\n")
    if given.summary is not None:
        _write(Path(given.summary), table, append=True)
    return answer.exit_code


def _names(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """The recipes that are meant, and the other arguments."""
    named = [argument for argument in arguments if argument.startswith("recipe=")]
    others = [argument for argument in arguments if argument not in named]
    names = [name for argument in named for name in argument.removeprefix("recipe=").split(",")]
    if not named:
        names = sorted(file.stem for file in Path("recipes").glob("*.yaml"))
    if not names:
        raise ConfigurationError("there is no recipe in ./recipes", code="B0226", hint="name some: `recipe=a,b`")
    return list(dict.fromkeys(names)), others


def _built(
    names: Sequence[str], overrides: Sequence[str], outputs: Path, verbosity: int
) -> tuple[dict[str, str], list[Outcome]]:
    """Build each recipe; what `plan` said of it before, and what became of it."""
    from builder.cli.sweep import composed_job, run_jobs

    jobs = [composed_job(number, (f"recipe={name}", *overrides), name)[0] for number, name in enumerate(names, start=1)]
    plans = {name: _state(job, outputs) for name, job in zip(names, jobs, strict=True)}
    if verbosity >= 0:
        changed = [name for name, state in plans.items() if state == "changed"]
        print(
            visible(f"{len(changed)} of {len(names)} recipes changed: {', '.join(changed) or 'none'}"), file=sys.stderr
        )
    return plans, run_jobs(jobs, ["ci", *overrides], outputs=outputs, verbosity=verbosity)


def _state(job: Job, outputs: Path) -> str:
    from builder.cli.plan import Warnings, state_of
    from builder.engine.plan import plan

    return "wrong" if job.request is None else state_of(plan(job.request, outputs=outputs, progress=Warnings()))


def facts(outcome: Outcome) -> BuiltFacts:
    """What is compared of a build."""
    from builder.cli.answers import BuiltFacts

    document: JsonObject = outcome.document or {}
    artifact, checks = document.get("artifact", {}), document.get("checks", [])
    return BuiltFacts(
        status=outcome.status,
        exit_code=outcome.exit_code,
        message=outcome.message,
        artifact=outcome.artifact or None,
        bytes=artifact.get("bytes"),
        digest=artifact.get("digest"),
        snr_db=_least_snr(checks),
        verdicts={check["name"]: check["verdict"] for check in checks},
    )


def _least_snr(checks: Sequence[JsonObject]) -> float | None:
    """The worst signal-to-noise ratio in dB of any output in any check on the artifact; None where none is measured."""
    measured = [
        float(values["snr_db"])  # `inf` is a text in JSON
        for check in checks
        if check["name"] != "capture"
        for values in check["values"].values()
        if isinstance(values, Mapping) and values.get("snr_db") is not None
    ]
    return min(measured, default=None)


def _facts_of_base(base: Path, names: Sequence[str], overrides: Sequence[str], verbosity: int) -> dict[str, BuiltFacts]:
    """The same of the other checkout, by a process of its own there; a failure there is no failure here."""
    from builder.cli.answers import BuiltFacts

    there = [name for name in names if (base / "recipes" / f"{name}.yaml").exists()]
    if not there:
        return {}
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        command = [sys.executable, "-m", "builder", "ci", f"recipe={','.join(there)}", *overrides, "-q"]
        subprocess.run(
            [*command, "--report", str(report), "--outputs", str(Path(folder) / "outputs")],
            cwd=base,
            check=False,
            stdout=subprocess.DEVNULL,
            stderr=None if verbosity > 0 else subprocess.DEVNULL,
        )
        try:
            document = json.loads(report.read_text(encoding="utf-8"))
        except FileNotFoundError:  # it ended before it could report
            return {}
    return {recipe["name"]: BuiltFacts.model_validate(recipe["now"]) for recipe in document["recipes"]}


def _recipe(name: str, plan: str, now: BuiltFacts, base: BuiltFacts | None) -> CiRecipe:
    from builder.cli.answers import CiRecipe

    return CiRecipe.model_validate({"name": name, "plan": plan, "now": now, "base": base})


def _write(file: Path, text: str, *, append: bool = False) -> None:
    try:
        with file.open("a" if append else "w", encoding="utf-8") as stream:
            stream.write(text)
    except OSError as error:
        raise ConfigurationError(f"{file} cannot be written: {error.strerror}", code="B0227") from error
