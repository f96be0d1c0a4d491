"""The lock: what it holds, and that a drift of each locked input is named with its old and new value."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from builder.__main__ import main
from builder.config.compose import compose
from builder.errors import ConfigurationError, UnfitEnvironmentError, VerificationError
from builder.release import lock
from builder.spec.source_kinds import kind_of
from tests.unit.release.project import commit

BUILT: dict[str, Any] = {
    "artifact": {"bytes": 7, "digest": "sha256:aa", "format": "mlpackage", "semantic_digest": "sha256:bb", "name": "t"},
    "source": {"kind": "python", "address": "python:net:make", "weights_digest": "sha256:cc", "path": "/somewhere"},
    "labels": ["ant", "bee", "cat"],
}


def _entry(project: Path, **changes: Any) -> dict[str, Any]:
    """The entry of a build that read the project's code and one file of data."""
    data = project.parent / "data.csv"
    if not data.exists():
        data.write_text("1,2\n")
    read = {"project_files": [str(project / "net.py"), str(project / "widths.py")], "data": {"data.csv": str(data)}}
    return lock.make_entry(compose(["recipe=tiny"]), {**BUILT, **read, **changes}, project.resolve())


def test_an_entry_holds_every_input(project: Path) -> None:
    # given a build, when its entry is made, then it has what the lock promises
    entry = _entry(project)
    assert set(entry["files"]) == {"net.py", "widths.py", "labels.txt"}
    assert entry["files"]["labels.txt"]["bytes"] == len("ant\nbee\ncat\n")
    assert set(entry["data"]) == {"data.csv", "labels"}
    assert entry["source"] == {"kind": "python", "address": "python:net:make", "weights_digest": "sha256:cc"}
    assert {"python", "builder", "torch", "coremltools", "numpy", "protobuf"} <= set(entry["tools"])
    assert entry["config"].startswith("sha256:")
    assert entry["artifact"]["digest"] == "sha256:aa"


def test_nothing_drifts_while_nothing_changes(project: Path) -> None:
    # given an entry, when nothing changed but settings that say nothing about the artifact, then nothing drifted
    entry = _entry(project)
    assert lock.drift_before(entry, compose(["recipe=tiny", "tracking=mlflow"]), project.resolve()) == []
    assert lock.drift_after(entry, _entry(project)) == []


@pytest.mark.parametrize("name", ["net.py", "widths.py", "labels.txt"])
def test_a_changed_file_is_named_with_both_digests(name: str, project: Path) -> None:
    # given an entry, when a file that the build read changes
    entry = _entry(project)
    (project / name).write_text("WIDTH = 5\n" if name.endswith(".py") else "ant\nbee\ndog\n")
    # then the drift has its name, the old and the new digest, and nothing else
    (line,) = lock.drift_before(entry, compose(["recipe=tiny"]), project.resolve())
    assert line.startswith(f"files: {name}: sha256: {entry['files'][name]['sha256']} -> ")


def test_a_missing_file_is_named(project: Path) -> None:
    # given an entry, when a module that the factory imports is gone, then it is named
    entry = _entry(project)
    (project / "widths.py").unlink()
    (line,) = lock.drift_before(entry, compose(["recipe=tiny"]), project.resolve())
    assert line.startswith("files: widths.py: sha256 ")
    assert line.endswith(" -> missing")


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("precision=fp32", "settings: precision.kind: fp16 -> fp32"),
        ("target=ios17", "settings: target.name: ios16 -> ios17"),
        ("seed=1", "settings: seed: the default -> 1"),
        ("checks.parity.samples=2", "settings: checks.parity.samples: 1 -> 2"),
    ],
)
def test_a_changed_setting_is_named(override: str, said: str, project: Path) -> None:
    # given an entry, when a setting changes, then it is named with its values
    (line,) = lock.drift_before(_entry(project), compose(["recipe=tiny", override]), project.resolve())
    assert line == said


def test_another_default_is_drift_of_the_configuration(project: Path) -> None:
    # given an entry of a builder with another default, when nothing else changed, then its digest says so
    entry = {**_entry(project), "config": "sha256:0"}
    (line,) = lock.drift_before(entry, compose(["recipe=tiny"]), project.resolve())
    assert line.startswith("config: sha256:0 -> sha256:")


def test_another_version_of_a_tool_is_named(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # given an entry, when coremltools is another version, then old and new are named
    entry = _entry(project)
    tools = {**lock.locked_tools(kind_of(compose(["recipe=tiny"]).spec.source), "mlpackage"), "coremltools": "9.9"}
    monkeypatch.setattr(lock, "locked_tools", lambda _kind, _format: tools)
    drift = lock.drift_before(entry, compose(["recipe=tiny"]), project.resolve())
    assert drift == [f"tools: coremltools: {entry['tools']['coremltools']} -> 9.9"]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"labels": ["ant", "bee", "dog"]}, "data: labels: sha256: "),
        ({"artifact": {**BUILT["artifact"], "digest": "sha256:ff"}}, "artifact: digest: sha256:aa -> sha256:ff"),
        ({"source": {**BUILT["source"], "weights_digest": "sha256:ff"}}, "weights_digest: sha256:cc -> sha256:ff"),
        ({"source": {**BUILT["source"], "address": "python:x:y"}}, "source: address: python:net:make -> python:x:y"),
        ({"data": {}}, "data: data.csv: sha256 "),
    ],
)
def test_what_only_a_build_tells_is_compared_after_it(changes: dict[str, Any], said: str, project: Path) -> None:
    # given an entry, when a build reads or makes something else, then it is named
    (line,) = lock.drift_after(_entry(project), _entry(project, **changes))
    assert said in line


def test_data_that_came_with_a_package_is_compared_by_content(project: Path) -> None:
    # given an entry, when the content of its data changed, then it is named
    entry = _entry(project)
    (project.parent / "data.csv").write_text("1,3\n")
    (line,) = lock.drift_after(entry, _entry(project))
    assert line.startswith("data: data.csv: sha256: ")


def test_a_lock_keeps_other_entries_and_is_sorted(project: Path) -> None:
    # given a lock with one entry, when another is added, then both are there, in order
    entry = _entry(project)
    lock.update_lock(project, {"b": entry})
    path = lock.update_lock(project, {"a": entry})
    assert list(lock.read_lock(project)) == ["a", "b"]
    text = path.read_text()
    assert text == lock.lock_text(lock.read_lock(project))
    assert lock.read_lock(project)["a"] == entry


@pytest.mark.parametrize("text", ["[1, 2", "recipes: {}", "schema: 2\nrecipes: {}", "schema: 1\nrecipes: {a: {}}", "x"])
def test_a_broken_lock_is_explained(text: str, project: Path) -> None:
    # given a file that is not a lock, when it is read, then the mistake is the user's to mend: exit code 2
    (project / lock.FILE_NAME).write_text(text)
    with pytest.raises(ConfigurationError):
        lock.read_lock(project)


def test_a_locked_build_without_a_lock_is_refused(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    # given a project without a lock, when a build must be locked, then it is refused and says what to run
    assert main(["recipe=tiny", "--locked"]) == VerificationError.exit_code
    assert "python -m builder lock recipe=tiny" in capsys.readouterr().err


@pytest.mark.parametrize("verb", [[], ["release"]])
def test_a_locked_build_refuses_drift(verb: list[str], project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    # given a lock, and a module that changed since, committed as a release needs it
    entry = _entry(project)
    lock.update_lock(project, {"tiny": entry})
    (project / "widths.py").write_text("WIDTH = 5\n")
    commit(project)
    # when a build must be locked, or is released
    code = main([*verb, "recipe=tiny", *([] if verb else ["--locked"])])
    # then it is refused before anything is built, naming the file, and nothing is on stdout
    said = capsys.readouterr()
    assert code == 6
    assert "files: widths.py: sha256: " in said.err
    assert said.out == ""
    assert not (project / "outputs").exists()


def test_locked_does_not_go_with_a_sweep(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    # given a sweep, when it must be locked, then the command line is wrong
    assert main(["-m", "recipe=tiny", "precision=fp16,fp32", "--locked"]) == ConfigurationError.exit_code
    assert "--locked" in capsys.readouterr().err


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path) -> int:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("builder.util.locks._open", refuse)
    with pytest.raises(UnfitEnvironmentError, match="cannot write"):
        lock.update_lock(tmp_path, {})
