"""What a lock or release names stays in the store with all that led to it, however old it is."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from builder.cli import gc
from builder.errors import ConfigurationError
from builder.progress import Silent
from builder.release.lock import FILE_NAME, lock_text
from builder.store.actions import ActionResult, Store
from builder.store.collect import collect
from builder.store.roots import AWAY, remember_root, remembered_roots

DAY = 86400.0
CHAIN = ("load", "prepare", "capture", "convert", "compress", "seal")


def build(store: Store, name: str, *, days_ago: float) -> str:
    """Store every stage of a build, each after the one before, and a verdict; return the artifact's digest."""
    after: dict[str, str] = {}
    outputs: dict[str, str] = {}
    for stage in (*CHAIN, "verify"):
        manifest = store.objects.put_manifest({"file": store.objects.put_bytes(f"{name} {stage}".encode())})
        inputs = {**after, "after method": "trace"}
        action = ActionResult(
            stage=stage,
            key=f"sha256:{name}",
            inputs=inputs,
            output=manifest,
            line="",
            record={},
            objects={"model/": manifest},
        )
        store.put(action)
        after = {f"after {stage}": manifest}
        outputs[stage] = manifest
    when = time.time() - days_ago * DAY
    for file in store.root.rglob("*"):
        if file.is_file() and file.stat().st_mtime > time.time() - DAY:
            os.utime(file, (when, when))
    return outputs["seal"]


def present(store: Store, name: str) -> list[str]:
    return [path.parent.name for path, _ in store.actions() if path.stem == name]


def test_all_that_leads_to_a_root_stays_whatever_its_age_and_size(tmp_path: Path) -> None:
    # given two old builds
    store = Store(tmp_path, Silent())
    locked, _ = build(store, "aa", days_ago=90), build(store, "bb", days_ago=80)
    # when one of their artifacts is a root, and nothing fits
    found = collect(store, max_age=DAY, max_bytes=0, dry_run=False, artifacts=[locked])
    # then
    assert present(store, "aa") == sorted([*CHAIN, "verify"])
    assert present(store, "bb") == []
    assert found.rooted == 7
    for _, action in store.actions():
        store.objects.restore_folder(action.objects["model/"], tmp_path / "restored" / action.stage)
    # and when it is none any more, then it goes too
    collect(store, max_age=DAY, max_bytes=0, dry_run=False)
    assert list(store.actions()) == []


def write_lock(folder: Path, digest: str) -> Path:
    sections = ("config", "data", "files", "overrides", "settings", "source", "tools")
    folder.mkdir(exist_ok=True)
    file = folder / FILE_NAME
    file.write_text(lock_text({"tiny": {"artifact": {"digest": digest}, **{section: {} for section in sections}}}))
    return file


def test_the_locks_that_were_written_and_the_one_here_are_roots(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    # given three old builds: one in the lock of another project, one in the lock here, and one in none
    monkeypatch.setenv("BUILDER_CACHE", str(tmp_path / "cache"))
    store = Store(tmp_path / "cache" / "store", Silent())
    digests = {name: build(store, name, days_ago=90) for name in ("aa", "bb", "cc")}
    elsewhere = write_lock(tmp_path / "elsewhere", digests["aa"])
    remember_root(store.root, elsewhere, [])  # what it names is read anew
    monkeypatch.chdir(write_lock(tmp_path / "here", digests["bb"]).parent)
    # when only asked, then nothing goes
    assert gc.run(["--dry-run"]) == 0
    assert present(store, "cc") == sorted([*CHAIN, "verify"])
    # when
    assert gc.run([]) == 0
    # then
    assert "14 results for locks and releases" in capsys.readouterr().err
    assert [len(present(store, name)) for name in ("aa", "bb", "cc")] == [7, 7, 0]
    # and when a lock is away for the moment, what it named stays, and that is said
    elsewhere.rename(tmp_path / "away")
    assert gc.run([]) == 0
    assert f"{elsewhere} is not there now" in capsys.readouterr().err
    assert [len(present(store, name)) for name in ("aa", "bb")] == [7, 7]
    # and when it is away for weeks, it is forgotten
    for note in (store.root / "roots").iterdir():
        os.utime(note, (time.time() - AWAY - DAY,) * 2)
    gc.run([])
    assert [root.file for root in remembered_roots(store.root)] == [tmp_path / "here" / FILE_NAME]
    assert [len(present(store, name)) for name in ("aa", "bb")] == [0, 7]


def test_nothing_is_removed_while_a_lock_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BUILDER_CACHE", str(tmp_path / "cache"))
    store = Store(tmp_path / "cache" / "store", Silent())
    build(store, "aa", days_ago=90)
    lock = tmp_path / "elsewhere" / FILE_NAME
    lock.parent.mkdir()
    lock.write_text("damaged")
    remember_root(store.root, lock, [])
    with pytest.raises(ConfigurationError, match="not a lock of builder"):
        gc.run([])
    assert len(present(store, "aa")) == 7
