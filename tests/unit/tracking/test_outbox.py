"""The outbox holds the files of the very build, costs nothing, and never imports mlflow."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from builder.artifacts.record import BuildRecord
from builder.tracking import outbox

Publish = Callable[..., BuildRecord]
WEIGHT = "artifact/mobilenet_v2_fp16.mlpackage/Data/com.apple.CoreML/weights/weight.bin"


@pytest.fixture
def outputs(tmp_path: Path) -> Path:
    return tmp_path / "outputs"


def test_entry_keeps_the_files_of_its_build_when_a_later_one_replaces_them(
    record: BuildRecord, publish: Publish, outputs: Path
) -> None:
    identifier = outbox.put(publish(record, b"1"), outputs)
    record.artifact.path.parent.rename(outputs / "aside")
    publish(record, b"2")

    entry = outbox.read(outputs, identifier)

    folder = outbox.files_folder(outputs, identifier)
    assert (folder / WEIGHT).read_bytes()[:1] == b"1"
    assert (folder / WEIGHT).stat().st_nlink == 2, "large files are links"
    assert {path.name for path in folder.iterdir()} == {
        "artifact", "build.json", "build.log", "config.yaml", "report.html",
    }  # fmt: skip
    assert outbox.changed_files(outputs, entry) == []
    assert outbox.waiting(outputs) == [identifier]


def test_artifact_edited_in_place_is_noticed_and_left_out(record: BuildRecord, publish: Publish, outputs: Path) -> None:
    identifier = outbox.put(publish(record), outputs)
    weight = record.artifact.path / "Data" / "com.apple.CoreML" / "weights" / "weight.bin"
    with weight.open("r+b") as stream:
        stream.write(b"edited")
    os.utime(weight, ns=(0, 1))

    entry, note = outbox.without_changed_artifact(outputs, outbox.read(outputs, identifier))

    assert note == f"not sent: {WEIGHT} was changed after the build"
    assert not (outbox.files_folder(outputs, identifier) / "artifact").exists()
    assert {file.path for file in entry.files} == {"build.json", "build.log", "config.yaml", "report.html"}


def test_manifest_rewritten_by_a_loader_does_not_change_the_entry(
    record: BuildRecord, publish: Publish, outputs: Path
) -> None:
    identifier = outbox.put(publish(record), outputs)
    (record.artifact.path / "Manifest.json").write_text('{"rewritten": true}')

    assert outbox.changed_files(outputs, outbox.read(outputs, identifier)) == []


def test_entry_is_private_since_an_address_may_hold_a_password(
    record: BuildRecord, publish: Publish, outputs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://user:secret@localhost:1")

    identifier = outbox.put(publish(record), outputs)

    assert outbox.read(outputs, identifier).uri == "http://user:secret@localhost:1"
    assert stat.S_IMODE(outbox.entry_path(outputs, identifier).stat().st_mode) == 0o600


def test_relative_database_is_the_one_that_the_build_meant(
    record: BuildRecord, publish: Publish, outputs: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///runs.db")
    monkeypatch.chdir(tmp_path)

    identifier = outbox.put(publish(record), outputs)

    assert outbox.read(outputs, identifier).uri == f"sqlite:///{tmp_path}/runs.db"


def test_interrupted_entry_leaves_nothing(
    record: BuildRecord, publish: Publish, outputs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(record)

    def interrupt(descriptor: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("os.fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        outbox.put(record, outputs)

    assert list((outputs / ".outbox").iterdir()) == []


def test_files_of_a_killed_build_are_removed_after_an_hour(
    record: BuildRecord, publish: Publish, outputs: Path
) -> None:
    identifier = outbox.put(publish(record), outputs)
    young, old = outputs / ".outbox" / "young", outputs / ".outbox" / "old"
    young.mkdir()
    old.mkdir()
    os.utime(old, (0, 0))
    os.utime(outbox.files_folder(outputs, identifier), (0, 0))

    outbox.remove_forgotten(outputs)

    assert young.exists()
    assert not old.exists()
    assert outbox.files_folder(outputs, identifier).exists()


def test_damaged_entry_is_refused(outputs: Path) -> None:
    (outputs / ".outbox").mkdir(parents=True)
    (outputs / ".outbox" / "x.json").write_text('{"schema": 1}')

    with pytest.raises(ValueError, match="damaged"):
        outbox.read(outputs, "x")


def test_tracking_does_not_import_mlflow() -> None:
    code = "import sys, builder.tracking; sys.exit('mlflow' in sys.modules or 'torch' in sys.modules)"

    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
