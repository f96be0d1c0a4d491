"""`--json`: each verb's document fits its schema, errors are documents too, and the reference page does not drift."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from builder.__main__ import main
from builder.cli.answers import ANSWERS, answer_schema
from builder.cli.answers_page import render_page

ROOT = Path(__file__).parents[3]
MODEL = """
import torch

def make():
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(12, 4), torch.nn.ReLU())

class Odd(torch.nn.Module):
    def forward(self, x):
        return torch.linalg.eig(x)[0].real

def odd():
    return Odd()
"""
RECIPE = """# A tiny model. With a comment.
defaults: [{precision: fp32}, {tracking: none}]
source: {kind: python, factory: "tiny:make"}
input: {x: {kind: tensor, shape: [1, 12]}}
checks: {parity: {samples: 2}}
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A folder with a recipe that can be built, and one that cannot."""
    folder = tmp_path_factory.mktemp("project")
    (folder / "recipes").mkdir()
    (folder / "tiny.py").write_text(MODEL)
    (folder / "recipes" / "tiny.yaml").write_text(RECIPE)
    (folder / "recipes" / "odd.yaml").write_text(RECIPE.replace("tiny:make", "tiny:odd").replace("[1, 12]", "[4, 4]"))
    return folder


@pytest.fixture
def ask(project, monkeypatch, capsys):
    """Run a verb with --json and return its exit code and document, which fits the schema."""
    from jsonschema import Draft202012Validator  # takes seconds, of each worker at the top

    monkeypatch.chdir(project)
    monkeypatch.syspath_prepend(str(project))

    def answer(*arguments):
        code = main([*arguments, "--json"])
        document = json.loads(capsys.readouterr().out)
        kind = "error" if "errors" in document else arguments[0]
        Draft202012Validator(answer_schema(kind)).validate(document)
        assert document["schema"] == 1
        assert document["verb"] == arguments[0]
        return code, document

    return answer


def test_a_built_recipe(ask, capsys):
    assert main(["recipe=tiny", "-q"]) == 0
    assert capsys.readouterr().out
    code, document = ask("list")
    assert code == 0
    (mine,) = (recipe for recipe in document["recipes"] if recipe["name"] == "tiny")
    assert mine["description"] == "A tiny model."
    code, document = ask("plan", "recipe=tiny")
    assert (code, document["state"], document["artifact"]) == (0, "up to date", "outputs/tiny/default/tiny.mlpackage")
    assert {stage["state"] for stage in document["stages"]} == {"hit"}
    code, document = ask("plan", "recipe=tiny", "checks.parity.samples=3")
    assert (code, document["state"], document["stages"][-1]["name"]) == (0, "changed", "verify")
    assert document["stages"][-1]["changes"]
    code, document = ask("show", "recipe=tiny", "precision=fp16")
    assert document["config"]["precision"]["kind"] == "fp16"
    assert document["origins"]["checks.parity.samples"].startswith("recipes/tiny.yaml:5:")
    code, document = ask("lint", "outputs/tiny/default/tiny.mlpackage")
    assert code == 0
    assert document["headroom"][0]["domain"]


def test_doctor(ask):
    code, document = ask("doctor", "recipe=tiny")
    assert (code, document["is_fit"], document["recipe"]["converts"]) == (0, True, True)
    code, document = ask("doctor", "recipe=odd")
    assert (code, document["is_fit"]) == (4, False)
    assert document["recipe"]["obstacles"][0]["places"][0]["file"].endswith("tiny.py")
    code, document = ask("doctor")
    assert code in (0, 7)
    assert document["is_fit"] == (code == 0) == all(each["is_fit"] for each in document["installation"])


def test_failures_are_documents(ask, project):
    # given recipes and command lines that are wrong
    code, document = ask("plan", "recipe=tiny", "precison=fp16")
    assert code == document["exit_code"] == 2
    assert document["errors"][0]["code"] == "B0206" or "precision" in str(document["errors"][0])
    (project / "recipes" / "wrong.yaml").write_text(RECIPE.replace("samples: 2", "sampels: 2"))
    code, document = ask("show", "recipe=wrong")
    (error,) = document["errors"]
    assert (code, error["file"], error["line"], error["key"]) == (2, "recipes/wrong.yaml", 5, "checks.parity.sampels")
    assert ask("lint", "nothing.mlpackage")[0] == 2
    assert ask("verify", "nowhere")[0] == 2
    assert ask("list", "--nonsense")[0] == 2


def test_verify(ask, project, monkeypatch):
    # given a release, as far as verify looks at it: the release itself is another test's
    from builder.release import verify

    release = verify.Release(
        folder=Path("release"), artifact=Path("release/a.mlpackage"), digest="sha256:0", files=3, signed=True,
        build={}, entry={},
    )  # fmt: skip
    monkeypatch.setattr(verify, "verify_release", lambda folder, public_key: release)
    code, document = ask("verify", "release")
    assert (code, document["signature"], document["artifact"]) == (0, "not checked", "release/a.mlpackage")


def test_schemas_can_be_had(capsys):
    for verb in ANSWERS:
        assert main(["schema", "--of", verb]) == 0
        assert json.loads(capsys.readouterr().out) == answer_schema(verb)
    assert main(["schema", "--of", "build"]) == 2


def test_the_page_is_made_of_the_answers():
    page = ROOT / "docs" / "reference" / "json.md"
    assert page.read_text() == render_page(), "python -m builder.cli.answers_page > docs/reference/json.md"


def test_quiet_prints_the_path_alone(project, monkeypatch, capfd):
    # given a recipe that has to be built
    monkeypatch.chdir(project)
    monkeypatch.syspath_prepend(str(project))
    assert main(["recipe=tiny", "checks.parity.samples=1", "-q"]) == 0
    first = capfd.readouterr()
    # then -q prints the path and nothing else, and the same when it is up to date
    assert main(["recipe=tiny", "checks.parity.samples=1", "-q"]) == 0
    second = capfd.readouterr()
    assert first.out == second.out == "outputs/tiny/default/tiny.mlpackage\n"
    assert first.err == second.err == ""
