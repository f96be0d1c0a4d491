"""Values of the environment that recipes name are in no record, and secrets among them in no text at all."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from builder import noop
from builder.cli.composed import compose_once
from builder.cli.main import run
from builder.errors import VerificationError
from builder.progress import Silent
from builder.release.portable import Resolved, write_resolved
from builder.spec.tracking import MlflowTracking
from builder.store.actions import ActionResult, Store
from builder.store.digests import digest_of
from builder.tracking import outbox
from builder.tracking.run import TrackedRun
from builder.util import redact
from builder.util.redact import hide_environment, redacted, redacted_values
from builder.util.text import csv_cell, visible, visible_json

RECIPE = """\
schema: 1
defaults: [precision: fp32, target: ios16, checks: none, tracking: none]
source:
  kind: python
  factory: net:make
  arguments: {one: "${oc.env:INNOCENT}", other: "x ${oc.env:API_TOKEN}", third: "${source.arguments.one}"}
input:
  x: {kind: tensor, shape: [1, 8]}
metadata: {author: "${oc.env:AUTHOR}"}
"""
VALUES = {"INNOCENT": "Zg8kQ2mNb5vX7pL1", "API_TOKEN": "open sesame", "AUTHOR": "Ada Lovelace"}


@pytest.fixture(autouse=True)
def nothing_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redact, "_SECRETS", {})
    monkeypatch.setattr(redact, "_WRITTEN", {})


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    (tmp_path / "recipes").mkdir()
    (tmp_path / "recipes/r.yaml").write_text(RECIPE)
    (tmp_path / "net.py").write_text("def make(one, other, third):\n    raise ValueError(one + other)\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BUILDER_CACHE", str(tmp_path / "cache"))
    for name, value in VALUES.items():
        monkeypatch.setenv(name, value)
    return tmp_path


@pytest.mark.parametrize(
    "arguments", [["show", "recipe=r"], ["plan", "recipe=r"], ["recipe=r"], ["doctor", "recipe=r"]]
)
def test_no_verb_shows_or_writes_them(arguments: list[str], project: Path, capfd: pytest.CaptureFixture[str]) -> None:
    code = run(arguments)
    out, err = capfd.readouterr()
    assert code in (0, 3), err
    for value in VALUES.values():
        assert value not in out + err
        for file in (file for file in project.rglob("*") if file.is_file()):
            assert value.encode() not in file.read_bytes(), file
    assert arguments[0] != "show" or "one: ${oc.env:INNOCENT}" in out.replace('"', "")


def test_a_request_is_not_remembered_with_them(project: Path) -> None:
    request = compose_once(["recipe=r"], started=2**62)
    assert request.config["metadata"]["author"] == VALUES["AUTHOR"]  # the artifact has it
    for file in (file for file in (project / "cache").rglob("*") if file.is_file()):
        assert file.name == "remembered.json", "digests of files, and the variables that they name"
        assert not any(value.encode() in file.read_bytes() for value in VALUES.values())


def test_what_a_build_depended_on_has_digests_of_variables(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    manifest = {"environment": {"API_TOKEN": noop.variable_digest("API_TOKEN"), "ABSENT": None}, "missing": []}
    rest = {"packages": [], "folders": [], "files": [], "fallback": None}
    assert noop.is_current({**manifest, **rest}, paranoid=False) is False
    monkeypatch.setenv("API_TOKEN", "another")
    assert noop.is_current({**manifest, **rest}, paranoid=False) is None
    monkeypatch.setenv("http_proxy", "http://me:pass4word@127.0.0.1:1")
    assert "pass4word" not in json.dumps(noop.network_state(None))


def test_a_stored_result_has_inputs_without_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_PASSWORD", "correct horse")
    hide_environment("${oc.env:MY_PASSWORD}", "correct horse")
    digest = digest_of("x")
    action = ActionResult(
        stage="load", key=digest, inputs={"source": {"a": "correct horse"}}, output=digest, line="", record={}
    )
    store = Store(tmp_path, Silent())
    store.put(action)
    found = next(action for _, action in store.actions())
    assert found.inputs == {"source": {"a": "${oc.env:MY_PASSWORD}"}}


def test_no_run_that_is_tracked_has_a_password(tmp_path: Path) -> None:
    word = "pass4word"
    said = f"recipe=x tracking.uri=http://me:{word}@host/?token={word} source.seed=1,2"
    run_of_a_sweep = TrackedRun(
        name="s", status="FINISHED", started_ms=0, ended_ms=0, params={"arguments": said}, metrics={}, tags={"a": said}
    )
    tracking = MlflowTracking(kind="mlflow", uri="sqlite:///a.db")
    identifier = outbox.put_run(run_of_a_sweep, tracking, tmp_path, collect=lambda _: None)
    written = outbox.entry_path(tmp_path, identifier).read_text()
    assert word not in written
    assert "source.seed=1,2" in written


def test_a_release_does_not_give_them_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_PASSWORD", "correct horse")
    hide_environment("${oc.env:MY_PASSWORD}", "correct horse")
    names = dict.fromkeys(Resolved.__dataclass_fields__, "")
    resolved = Resolved(**{**names, "spec": {"a": "correct horse"}, "overrides": (), "python_path": ()})  # type: ignore[arg-type]
    with pytest.raises(VerificationError, match="secret of the environment"):
        write_resolved(resolved, tmp_path)
    assert not list(tmp_path.iterdir())


@settings(deadline=None, suppress_health_check=list(HealthCheck))
@given(
    st.sampled_from(["TOKEN", "MY_API_KEY", "db_password", "AWS_SECRET_ACCESS", "GITHUB_AUTH"]),
    st.text(
        st.characters(codec="utf-8", exclude_categories=["C", "Z"], exclude_characters="${}…"), min_size=8, max_size=40
    ),
    st.text("ab :=/", max_size=5),
)
def test_no_text_has_a_secret_wherever_it_stands(name: str, value: str, around: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(redact, "_SECRETS", {})
        patch.setattr(redact, "_WRITTEN", {})
        patch.setenv(name, value)
        hide_environment(f"a${{oc.env:{name}}}b", f"a{value}b")
        text = f"{around}{value}{around}"
        assert value not in visible(text)
        assert value not in visible_json(text)
        assert value not in redacted(text)
        assert value not in str(csv_cell(text))
        assert value not in json.dumps(redacted_values({"x": [text]}), ensure_ascii=False)


@pytest.mark.parametrize("value", ["/data/models", "12", "fp16", ""])
def test_paths_and_short_words_stay(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLACE", value)
    hide_environment("${oc.env:PLACE}", value)
    assert redacted_values({"a": value}) == {"a": value}


def test_the_password_of_an_address_is_hidden_alone_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SERVER", "http://me:p%40ss-word@host/x?token=t0ken-value")
    hide_environment("${oc.env:SERVER}", "http://me:p%40ss-word@host/x?token=t0ken-value")
    said = visible("refused: p@ss-word, p%40ss-word, t0ken-value at http://me:p%40ss-word@host/x?a=b")
    assert said == "refused: …, …, … at http://host/x"


@settings(deadline=None)
@given(st.recursive(st.text() | st.none(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)))
def test_json_that_is_made_visible_has_the_same_values(value: object) -> None:
    text = json.dumps(value, ensure_ascii=False)
    made = visible_json(text)
    assert json.loads(made) == value
    assert visible(made) == made


@given(
    st.lists(
        st.sampled_from(["a", "://", ":", "@", "/", "#", "?", "token", " ", "1", "=", "cookie"]), min_size=1, max_size=6
    )
)
@settings(max_examples=60, deadline=None)
def test_a_long_text_is_redacted_in_time_that_grows_with_its_length(parts: list[str]) -> None:
    text = "".join(parts) * (60_000 // len(parts))
    began = time.process_time()
    redacted(text)
    redacted(text + "://")
    assert time.process_time() - began < 4  # a tenth of a second, where each start looked at all that follows: hours


WORDS = st.text("abcXYZ019-_.", min_size=4, max_size=12)


@given(WORDS, WORDS, st.sampled_from(["", "?", "/", "#", ":"]), st.sampled_from(["", "http://proxy:8080/", "x#"]))
def test_no_password_stays_in_an_address(user: str, secret: str, odd: str, before: str) -> None:
    password = f"Hunter2{odd}{secret}"
    assert f"Hunter2{odd}" not in redacted(f"see {before}https://{user}:{password}@host.example/path?key={secret} now")
    assert "https://host.example/path" in redacted(f"https://{user}:{password}@host.example/path")
