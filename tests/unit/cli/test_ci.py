"""The action's steps, run by bash as the file has them, in a repository with three recipes; and the pre-commit hook."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

from builder.__main__ import main
from builder.cli.answers import BuiltFacts, CiAnswer, CiRecipe
from builder.cli.ci_summary import summary_table
from tests import warm
from tests.unit.cli.test_json import MODEL, RECIPE

ROOT = Path(__file__).parents[3]
ACTION = yaml.safe_load((ROOT / "action.yml").read_text())
BROKEN = RECIPE.replace("{samples: 2}", "{samples: 2, snr_db: {min: 500}}").replace("fp32", "fp16")


def git(folder: Path, *arguments: str) -> str:
    who = ("-c", "user.name=reader", "-c", "user.email=reader@example.org", "-c", "commit.gpgsign=false")
    done = subprocess.run(["git", *who, *arguments], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    """A clone with a branch in which one of three recipes is changed, and one is broken."""
    origin, clone = tmp_path_factory.mktemp("origin"), tmp_path_factory.mktemp("clone") / "repository"
    git(origin, "init", "--quiet", "--initial-branch=main")
    (origin / "recipes").mkdir()
    (origin / "tiny.py").write_text(MODEL)
    for name in ("changed", "failing", "same"):
        (origin / "recipes" / f"{name}.yaml").write_text(RECIPE)
    git(origin, "add", ".")
    git(origin, "commit", "--quiet", "-m", "recipes")
    git(origin.parent, "clone", "--quiet", str(origin), str(clone))
    (clone / "recipes" / "changed.yaml").write_text(RECIPE.replace("fp32", "fp16"))
    (clone / "recipes" / "failing.yaml").write_text(BROKEN)
    return clone


class Runner:
    """Runs the `run:` steps of the action in order, as the service does; those that use other actions are left out."""

    def __init__(self, repository: Path, temporary: Path, **inputs: str) -> None:
        self.repository, self.temporary = repository, temporary
        self.inputs = {name: str(given["default"]) for name, given in ACTION["inputs"].items()} | inputs
        self.outputs: dict[str, dict[str, str]] = {}
        self.summary = temporary / "summary.md"
        self.summary.write_text("")
        folder = temporary / "bin"
        folder.mkdir(exist_ok=True)
        script = folder / "python"
        script.write_text(f'#!/bin/sh\nexec "{warm.python()}" "$@"\n')
        script.chmod(0o755)

    def value(self, text: str) -> str:
        def replaced(found: re.Match[str]) -> str:
            place, *rest = found[1].split(".")
            if place == "inputs":
                return self.inputs[rest[0]]
            assert place == "steps"
            assert rest[1] == "outputs"
            return self.outputs.get(rest[0], {}).get(rest[2], "")

        return re.sub(r"\$\{\{\s*([\w.-]+)\s*\}\}", replaced, text)

    def run(self) -> tuple[int, list[str]]:
        """The exit code, and the names of the steps that ran."""
        code, names = 0, []
        for number, step in enumerate(ACTION["runs"]["steps"]):
            condition = step.get("if", "")
            wanted = all(self.inputs[name] for name in re.findall(r"inputs\.([\w-]+) != ''", condition))
            if "run" in step and wanted and (code == 0 or "always()" in condition):
                names.append(step["name"])
                code = self.step(number, step) or code
        return code, names

    def step(self, number: int, step: dict) -> int:
        assert step["shell"] == "bash"
        assert "${{" not in step["run"], "text of others must not become part of a script"
        script, output = self.temporary / f"{number}.sh", self.temporary / f"{number}.out"
        script.write_text(step["run"])
        output.write_text("")
        environment = {
            **os.environ,
            **{name: self.value(text) for name, text in step.get("env", {}).items()},
            "PATH": f"{self.temporary / 'bin'}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "runtime")]),
            "GITHUB_OUTPUT": str(output),
            "GITHUB_STEP_SUMMARY": str(self.summary),
            "RUNNER_TEMP": str(self.temporary),
        }
        done = subprocess.run(
            ["bash", "--noprofile", "--norc", "-e", "-o", "pipefail", str(script)],
            cwd=self.repository / self.value(step.get("working-directory", ".")),
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        self.text = done.stdout + done.stderr
        lines = output.read_text().splitlines()
        self.outputs[step.get("id", "")] = dict(line.split("=", 1) for line in lines)
        return done.returncode


def test_the_steps_of_the_action(repository, tmp_path, monkeypatch, capsys):
    # given a pull request, with builder installed
    runner = Runner(repository, tmp_path, install="", base="main")
    code, names = runner.run()
    # then the broken recipe fails it, after all were built, and the store is tidied all the same
    assert code == 5, runner.text
    assert names == ["Check out the base branch", "Build and compare", "Drop from the store what no build uses"]
    report = json.loads(Path(runner.outputs["build"]["report"]).read_text())
    assert {each["name"]: each["now"]["status"] for each in report["recipes"]} == {
        "failing": "broken", "changed": "built", "same": "built",
    }  # fmt: skip
    # and the summary has verdicts, and differences from the base branch
    lines = [line for line in runner.summary.read_text().splitlines() if line.startswith("| `")]
    rows = {line.split("|")[1].strip(" `"): line for line in lines}
    assert "parity failed" in rows["failing"]
    assert re.search(r"\([+-]\d+\.\d %\)", rows["changed"]), rows["changed"]
    assert "changed" in rows["changed"].split("|")[5]
    assert "the same bytes" in rows["same"]
    assert (repository / "outputs" / "broken" / "failing").is_dir()

    # and the store that is saved has what the next run needs, in a checkout without outputs
    shutil.rmtree(repository / "outputs")
    monkeypatch.chdir(repository)
    monkeypatch.syspath_prepend(str(repository))
    monkeypatch.setenv("BUILDER_CACHE", str(repository / runner.inputs["store"]))
    capsys.readouterr()
    for name, state in (("same", "stored"), ("changed", "stored"), ("failing", "changed")):
        assert main(["plan", f"recipe={name}", "tracking=none", "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["state"] == state


def test_recipes_that_are_wrong_do_not_end_the_others(tmp_path, monkeypatch, capsys):
    # given one recipe that says what is not allowed, and none that has to be built
    monkeypatch.chdir(tmp_path)
    Path("recipes").mkdir()
    Path("recipes/wrong.yaml").write_text(RECIPE.replace("samples", "sampels"))
    assert main(["ci", "--report", "ci.json"]) == 2
    table = capsys.readouterr().out
    assert "1 of 1 failed" in table
    assert "❌ wrong" in table
    assert CiAnswer.model_validate(json.loads(Path("ci.json").read_text())).recipes[0].plan == "wrong"
    # and a place that cannot be written, or a base that is not there, is exit code 2
    assert main(["ci", "--base", "nowhere"]) == 2
    Path("recipes/wrong.yaml").unlink()
    assert main(["ci"]) == 2


def test_the_table_is_the_result_also_where_little_is_said_or_a_file_cannot_be_written(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["ci", "recipe=nosuch", "-q", "--report", "."]) == 2
    out, err = capsys.readouterr()
    assert "| `nosuch` | ❌ wrong |" in out
    assert "error[B0227]: . cannot be written" in err


def test_what_the_table_says_against_the_base():
    def facts(status="built", **given) -> BuiltFacts:
        codes = {"built": 0, "broken": 5}
        known = {"message": "", "artifact": None, "bytes": 1000, "digest": "a", "snr_db": 40.0, "verdicts": {}} | given
        return BuiltFacts.model_validate({"status": status, "exit_code": codes[status], **known})

    cases = {
        "new": (facts(), None),
        "the same bytes": (facts(), facts()),
        "mended": (facts(), facts("broken")),
        "failed there too": (facts("broken", message="a | b <img>"), facts("broken")),
        "changed": (facts(bytes=1100, digest="b", snr_db=float("inf")), facts()),
    }
    recipes = tuple(
        CiRecipe(name=name.replace(" ", "_"), plan="changed", now=now, base=base) for name, (now, base) in cases.items()
    )
    table = summary_table(CiAnswer(exit_code=5, recipes=recipes), compared=True)
    for name in cases:
        row = next(line for line in table.splitlines() if line.startswith(f"| `{name.replace(' ', '_')}`"))
        assert row.endswith(f"| {name} |")
    assert "(+10.0 %)" in table
    assert "exact (from 40.0 dB)" in table
    assert "a \\| b &lt;img>" in table


def test_the_action_fits_the_published_schema():
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.github-actions", "action.yml"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_the_hook_validates_what_is_committed(tmp_path, monkeypatch, capsys):
    # given a repository with a recipe that is wrong in two places, and one that is right
    (hook,) = yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text())
    monkeypatch.chdir(tmp_path)
    Path("recipes").mkdir()
    Path("recipes/right.yaml").write_text(RECIPE)
    Path("recipes/wrong.yaml").write_text(RECIPE.replace("sampl", "smapl").replace("fp32", "fp23"))
    assert re.search(hook["files"], "recipes/right.yaml")
    python, *arguments = shlex.split(hook["entry"])
    assert (python, arguments[:2]) == ("python", ["-m", "builder"])
    # then the one passes, and all is said of the other
    assert main([*arguments[2:], "recipes/right.yaml"]) == 0
    capsys.readouterr()
    assert main([*arguments[2:], "recipes/right.yaml", "recipes/wrong.yaml"]) == 2
    said = capsys.readouterr().err
    assert "recipes/wrong.yaml:2:" in said
    assert "recipes/wrong.yaml:5:" in said
    # and an option that is committed checks all recipes
    Path("conf/precision").mkdir(parents=True)
    Path("conf/precision/mine.yaml").write_text("kind: fp16\n")
    assert main([*arguments[2:], "conf/precision/mine.yaml"]) == 2
    # and a recipe that lies elsewhere is found
    Path("elsewhere").mkdir()
    Path("elsewhere/other.yaml").write_text(RECIPE)
    assert main([*arguments[2:], "elsewhere/other.yaml"]) == 0
    assert main([*arguments[2:], "missing.yaml"]) == 2


def test_validating_imports_no_torch(tmp_path):
    (tmp_path / "recipes").mkdir()
    (tmp_path / "recipes" / "tiny.yaml").write_text(RECIPE)
    code = "import sys; from builder.cli.main import run; print(run(['validate']), 'torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["0", "False"]


def test_the_images_copy_what_is_there_and_do_not_run_as_root():
    # given the instructions of the Dockerfile by stage, with lines that go on joined
    text = (ROOT / "Dockerfile").read_text().replace("\\\n", " ")
    stages: dict[str, list[list[str]]] = {}
    for words in (line.split() for line in text.splitlines() if line and not line.startswith("#")):
        if words[0] == "FROM":
            stages[words[-1]] = []
            assert words[1] in stages or ":" in words[1]
        elif stages:
            stages[list(stages)[-1]].append(words)
    # then each file that is copied exists and is not ignored, and both images run as a user
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    for name in [word for stage in stages.values() for words in stage if words[0] == "COPY" for word in words[1:-1]]:
        if name.startswith("--from="):
            assert name.removeprefix("--from=") in stages
        elif not name.startswith("/"):
            assert (ROOT / name).exists()
            assert f"!{name}" in ignored
    for target in ("runtime", "builder"):
        kinds = [words[0] for words in stages[target]]
        assert kinds.index("USER") < kinds.index("ENTRYPOINT")
        assert ["USER", "user"] in stages[target]
    # and the wheel has all that it is made of
    forced = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]
    copied = {word for words in stages["builder-packages"] if words[0] == "COPY" for word in words[1:-1]}
    assert set(forced["force-include"]) <= copied | {"constraints.txt"}
