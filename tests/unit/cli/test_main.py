"""The entry: help, version, verbs, and what each kind of failure exits with."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from builder import __version__, errors
from builder.cli.main import VERBS
from builder.util.paths import write_atomically
from tests.unit.cli.conftest import Run


def test_bare_shows_help_and_recipes_and_exits_2(run: Run) -> None:
    code, out, err = run()
    assert (code, out) == (2, "")
    assert "verbs:" in err
    assert "mobilenet_v2_fp16" in err


def test_help_lists_every_verb_on_stdout(run: Run) -> None:
    code, out, err = run("--help")
    assert (code, err) == (0, "")
    assert all(f"  {verb} " in out for verb in VERBS)


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help(verb: str, run: Run) -> None:
    code, out, _ = run(verb, "--help")
    assert code == 0
    assert out.startswith("usage: python -m builder")


@pytest.mark.parametrize("position", [0, 1])
def test_help_of_a_verb_may_stand_anywhere(position: int, run: Run) -> None:
    arguments = ["show", "recipe=x"]
    arguments.insert(position, "--help")
    assert run(*arguments)[0] == 0


def test_version(run: Run) -> None:
    assert run("--version") == (0, f"{__version__}\n", "")


@pytest.mark.parametrize(
    ("raised", "code"),
    [
        (errors.ConfigurationError("x", code="B0226"), 2),
        (errors.SourceError("x", code="B0301"), 3),
        (errors.ConversionError("x", code="B0401"), 4),
        (errors.VerificationError("x", code="B0606"), 6),
        (errors.UnfitEnvironmentError("x", code="B0706"), 7),
        (KeyboardInterrupt(), 130),
    ],
)
def test_failures_exit_with_their_code_and_no_traceback(
    raised: BaseException, code: int, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    # given a verb that fails
    def fail(arguments: object) -> int:
        raise raised

    monkeypatch.setattr("builder.cli.list.run", fail)

    # when it runs, then the code is the failure's, and only stderr speaks
    got, out, err = run("list")
    assert (got, out) == (code, "")
    assert "Traceback" not in err
    assert err.strip()


def test_a_hint_is_shown(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(arguments: object) -> int:
        raise errors.SourceError("it failed", code="B0301", hint="do that")

    monkeypatch.setattr("builder.cli.list.run", fail)
    assert run("list")[2] == "error[B0301]: it failed\n  hint: do that\n"


def test_a_bug_shows_its_traceback_and_exits_1(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(arguments: object) -> int:
        raise ZeroDivisionError("oops")

    monkeypatch.setattr("builder.cli.list.run", fail)
    code, out, err = run("list")
    assert (code, out) == (1, "")
    assert "ZeroDivisionError: oops" in err
    assert "this is a bug of builder" in err


def test_a_reader_that_goes_away_is_no_failure(tmp_path: Path) -> None:
    """`python -m builder list | true` ends quietly."""
    command = f"set -o pipefail; {sys.executable} -m builder schema | true"
    done = subprocess.run(["bash", "-c", command], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_verb_may_follow_options(run: Run) -> None:
    assert run("-q", "list")[0] == 0
    assert run("--outputs", "list", "recipe=nope")[0] == 2
    assert run("--output", "list", "list")[2].startswith("error[B0225]: there is no option `--output`")


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        (("export", "x", "--json"), "options: -h, --help"),  # dashes alone make `--to` no likely meaning
        (("lint", "x", "-json"), "did you mean `--json`?"),
        (("card",), "python -m builder card recipe=NAME"),
        (("plan",), "write `recipe=NAME`"),
        (("plan", "x.mlpackage"), "a setting is written KEY=VALUE, such as recipe=NAME"),
        (("validate", "recipe=x"), "name files, such as recipes/mine.yaml"),
        (("verify", "recipes"), "`python -m builder release recipe=NAME` makes one"),
    ],
)
def test_a_usual_mistake_has_a_hint_that_helps(arguments: tuple[str, ...], hint: str, run: Run) -> None:
    code, _, stderr = run(*arguments)
    assert code in (2, 6)
    assert f"hint: {hint}" in stderr


def test_a_file_is_not_written_in_the_place_of_a_folder(run: Run, tmp_path: Path) -> None:
    with pytest.raises(errors.ConfigurationError, match="recipes is a folder, not a file"):
        write_atomically(tmp_path / "recipes", "text")
    assert [file.name for file in tmp_path.iterdir()] == ["recipes"]


def test_help_survives_two_recipes_of_one_name(run: Run, tmp_path: Path) -> None:
    (tmp_path / "recipes" / "mobilenet_v2_fp16.yaml").write_text("seed: 1\n")
    code, out, _ = run("--help")
    assert code == 0
    assert "two files are the recipe mobilenet_v2_fp16" in out
    assert run("list")[0] == 2


@pytest.mark.parametrize(
    ("code", "said"),
    [
        (errno.EACCES, "error[B0706]: Permission denied: there/it"),
        (errno.ENOSPC, "error[B0706]: the disk is full: No space left"),
    ],
)
def test_what_the_system_refuses_is_no_bug(code: int, said: str, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> int:
        raise OSError(code, os.strerror(code), "there/it")

    monkeypatch.setattr("builder.cli.list.run", refuse)
    status, _, stderr = run("list")
    assert status == 7
    assert stderr.startswith(said)
    assert "Traceback" not in stderr


@pytest.mark.parametrize("arguments", [("flush",), ("search", "recipe=x", "search=default")])
def test_a_folder_that_takes_no_lock_is_named(
    arguments: tuple[str, ...], run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path) -> int:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))

    monkeypatch.setattr("builder.util.locks._open", refuse)
    (tmp_path / "outputs" / ".outbox" / "waits").mkdir(parents=True)
    monkeypatch.setattr("builder.tracking.outbox.waiting", lambda _: ["waits"])
    code, _, stderr = run(*arguments)
    assert code == 7
    assert "cannot write outputs/" in stderr
    assert "hint: make outputs writable" in stderr


@pytest.mark.parametrize(("choices", "code"), [("[int8]", 0), ("[int4]", 2)])
def test_a_choice_that_a_later_setting_lets_fit_is_left_to_the_trials(
    choices: str, code: int, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # given a compression that iOS 16 does not have as it is, and a search that also varies its dtype
    monkeypatch.setattr("builder.cli.search._Session.run", lambda _: 0)
    for folder in ("search", "compression"):
        (tmp_path / "conf" / folder).mkdir(parents=True)
    (tmp_path / "conf/compression/tiny.yaml").write_text("tiny: {kind: linear_quantize, dtype: int4}\n")
    (tmp_path / "conf/search/mine.yaml").write_text(
        "space:\n"
        "  method: {setting: compression, kind: choice, choices: [none, tiny]}\n"
        "  dtype: {setting: compression.tiny.dtype, kind: choice, when: {method: [tiny]}, choices: " + choices + "}\n"
        "objectives: {size: {measure: artifact.bytes, goal: minimize}}\n"
    )
    # when, then: it is refused only where no dtype lets it fit
    found, _, stderr = run("search", "recipe=x", "search=mine", "target=ios16", "precision=fp16", "tracking=none")
    assert found == code, stderr
    assert ("search.space.method" in stderr) == (code == 2)
