"""Completion of command lines: what may stand there, by real shells too, and quickly."""

from __future__ import annotations

import importlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from builder.__main__ import main
from builder.cli.candidates import candidates
from builder.cli.main import VERBS
from builder.config.folders import GROUPS, MODELINE, head_comment, open_library, shipped
from builder.config.recipe_keys import SCHEMA_FILE, keys_in, values_of
from builder.spec import BuildSpec

ROOT = Path(__file__).parents[3]
HEAVY = ("torch", "coremltools", "hydra", "omegaconf", "pydantic", "mlflow", "numpy", "yaml")


def words(line: str) -> list[str]:
    return [word for word, _ in candidates(line)]


def test_the_shipped_schema_is_what_the_verb_writes(tmp_path, monkeypatch, capsys):
    # given a folder without recipes or options of a user
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("BUILDER_RECIPES", raising=False)
    assert main(["schema"]) == 0
    # then the file beside the recipes is that: `python -m builder schema --output recipes/recipe.schema.json` mends it
    assert json.loads(capsys.readouterr().out) == json.loads((shipped("recipes") / SCHEMA_FILE).read_text())


def test_every_shipped_recipe_names_the_schema_and_fits_it():
    from jsonschema import Draft202012Validator  # takes seconds, of each worker at the top

    # given the schema beside the recipes, and what editors read in their first line
    schema = Draft202012Validator(json.loads((shipped("recipes") / SCHEMA_FILE).read_text()))
    files = sorted(shipped("recipes").glob("*.yaml"))
    assert len(files) > 30
    for file in files:
        first, _, rest = file.read_text().partition("\n")
        assert first == f"{MODELINE} $schema={SCHEMA_FILE}", f"{file.name} has another first line"
        schema.validate(yaml.safe_load(rest))
        # then the line is not what people read of it
        assert "schema" not in head_comment(file)


def test_init_names_a_schema_that_is_there(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("recipes").mkdir()
    assert main(["schema", "--output", f"recipes/{SCHEMA_FILE}"]) == 0
    assert main(["init", "torchvision:resnet18"]) == 0
    text = Path("recipes/resnet18_2.yaml").read_text()
    assert text.startswith(f"{MODELINE} $schema={SCHEMA_FILE}\n# ")
    capsys.readouterr()


def test_verbs_options_recipes_groups_keys_and_values(tmp_path, monkeypatch):
    # given a project with a recipe and an option of its own
    monkeypatch.chdir(tmp_path)
    Path("recipes").mkdir()
    Path("recipes/mine.yaml").write_text("# A model of mine. And more.\nschema: 1\n")
    Path("conf/precision").mkdir(parents=True)
    Path("conf/precision/odd.yaml").write_text("kind: fp16\n")
    # then each is completed where it may stand, and nowhere else
    assert {*VERBS, "recipe="} <= set(words("builder "))
    assert words("python -m builder pl") == ["plan"]
    assert words("/usr/bin/python3 -m builder verify --k") == ["--key"]
    assert ("recipe=mine", "A model of mine.") in candidates("builder plan recipe=m")
    assert not set(VERBS) & set(words("builder plan "))
    assert words("builder recipe=mine precision=o") == ["precision=odd"]
    assert words("builder -m recipe=mine precision=fp16,fp3") == ["precision=fp16,fp32"]
    assert "checks.parity.samples=" in words("builder recipe=mine checks.parity.")
    assert words("builder recipe=mine +checks.parity.sam") == ["+checks.parity.samples="]
    assert words("builder tracking.required=") == ["tracking.required=true", "tracking.required=false"]
    assert words("builder completion ba") == ["bash"]
    assert words("builder explain B0301") == ["B0301"]
    assert "search=classifier" in words("builder search recipe=mine search=")
    # and an open quote, or a section that is not there, gives what it can
    assert words("builder 'recipe=mi") == ["recipe=mine"]
    assert words("builder nonsense.") == []


def test_paths_are_of_the_kind_that_is_asked_for(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("out/a.mlpackage").mkdir(parents=True)
    Path("out/b.mlmodel").touch()
    Path("out/c.txt").touch()
    assert words("builder lint o") == ["out/"]
    assert words("builder lint out/") == ["out/a.mlpackage", "out/b.mlmodel"]
    assert words("builder plan --outputs out/") == ["out/a.mlpackage/"]
    assert words("builder plan --outputs=ou") == ["--outputs=out/"]
    assert words("builder predict out/a.mlpackage image=out/c") == ["image=out/c.txt"]


def test_every_verb_has_a_parser_whose_values_are_completed():
    from builder.cli.candidates import _KINDS

    for verb in VERBS:
        for action in importlib.import_module(f"builder.cli.{verb}").parser()._actions:
            if not action.option_strings:
                assert str(action.metavar or action.dest) in _KINDS, f"{verb}: {action.metavar or action.dest}"


def test_keys_are_those_of_the_spec():
    names = {field.alias or name for name, field in BuildSpec.model_fields.items()}
    assert {key.name for key in keys_in(())} == names
    assert set(GROUPS) <= names
    assert values_of(("precision", "kind")) == ["fp32", "fp16", "mixed", "auto"]
    assert "parity" in {key.name for key in keys_in(("checks",))}


def test_it_imports_nothing_heavy():
    # given every verb, since the parser of the one on the line is imported
    code = f"""
import sys
from builder.cli.candidates import candidates
for verb in {sorted(VERBS)}:
    candidates(f"builder {{verb}} ")
print([name for name in {HEAVY} if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "[]"


@pytest.fixture
def shell_environment(tmp_path, monkeypatch):
    """`builder` and `python` on the path, in a folder of their own."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name, rest in (("builder", " -m builder"), ("python", "")):
        script = folder / name
        script.write_text(f'#!/bin/sh\nexec "{sys.executable}"{rest} "$@"\n')
        script.chmod(0o755)
    return {**os.environ, "PATH": f"{folder}{os.pathsep}{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}


def shell(command: list[str], environment: dict[str, str]) -> list[str]:
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env=environment, stdin=subprocess.DEVNULL
    )
    assert done.returncode == 0, done.stderr
    assert not done.stderr
    return done.stdout.splitlines()


def test_bash(shell_environment):
    # given bash with the completion, in which `=` ends a word (as it does unless somebody changes it)
    script = """
        eval "$(python -m builder completion bash)"
        try() {
            COMP_LINE=$1 COMP_POINT=${#1} COMP_WORDS=($1) COMP_CWORD=$(( ${#COMP_WORDS[@]} - 1 ))
            "$2" "${COMP_WORDS[0]}"
            printf '[%s]' "${COMPREPLY[@]}"; echo
        }
        try "builder recipe=digits_m" _builder_command
        try "python -m builder plan precision=fp3" _builder_module
        COMP_WORDBREAKS=${COMP_WORDBREAKS//=}
        try "builder plan precision=fp3" _builder_command
        try "builder plan checks.parity.samp" _builder_command
        complete -p builder python
    """
    first, second, third, fourth, *registered = shell(["bash", "--norc", "-c", script], shell_environment)
    # then what is behind the last `=` is replaced, and a blank follows what is complete
    assert first == "[digits_mobilenet][digits_mobilenet_joint]"
    assert second == "[fp32 ]"
    assert third == "[precision=fp32 ]"
    assert fourth == "[checks.parity.samples=]"
    assert len(registered) == 2


@pytest.mark.skipif(shutil.which("fish") is None, reason="fish is not installed")
def test_fish(shell_environment):
    script = """
        python -m builder completion fish | source
        complete -C "builder recipe=digits_m"
        complete -C "python -m builder plan precision=fp3"
    """
    found = shell(["fish", "--no-config", "-c", script], shell_environment)
    assert [line.partition("\t")[0] for line in found] == [
        "recipe=digits_mobilenet",
        "recipe=digits_mobilenet_joint",
        "precision=fp32",
    ]


@pytest.mark.skipif(shutil.which("zsh") is None, reason="zsh is not installed")
def test_zsh(shell_environment):
    # given zsh with the completion, where `compadd` says what it is given
    script = """
        autoload -U compinit; compinit -D -u
        eval "$(python -m builder completion zsh)"
        compadd() { local given="${@[-1]}"; print -rl -- ${(P)given} }
        words=(python -m builder recipe=digits_m); CURRENT=4; PREFIX=recipe=digits_m; _builder_module
        words=(builder checks.parity.samp); CURRENT=2; PREFIX=checks.parity.samp; _builder
    """
    assert shell(["zsh", "-f", "-c", script], shell_environment) == [
        "recipe=digits_mobilenet",
        "recipe=digits_mobilenet_joint",
        "checks.parity.samples=",
    ]


def test_what_cannot_be_completed(tmp_path, monkeypatch, capsys):
    # given two recipes of one name
    monkeypatch.chdir(tmp_path)
    for folder in ("recipes", "other"):
        Path(folder).mkdir()
        Path(folder, "same.yaml").write_text(f"# {folder}.\n")
    monkeypatch.setenv("BUILDER_RECIPES", "other")
    # then the tab key is silent, and an unknown shell is named
    assert main(["completion", "bash", "--line", "builder recipe=same"]) == 0
    assert capsys.readouterr().out == ""
    assert main(["completion", "tcsh"]) == 2
    assert "B0225" in capsys.readouterr().err
    assert open_library().recipe_names()
