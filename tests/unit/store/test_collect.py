"""Garbage collection removes what is old or too much, and never what a kept result refers to."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from builder.progress import Silent
from builder.store.actions import ActionResult, Store
from builder.store.collect import NOTES, collect, collect_notes
from builder.store.digests import StatCache
from builder.store.roots import forget_root, remember_root, remembered_roots

DAY = 86400.0


def whole(action: ActionResult) -> ActionResult:
    return action


def put(store: Store, name: str, contents: list[bytes], *, days_ago: float) -> ActionResult:
    """Store a result whose objects and entry were last used some days ago."""
    files = {str(index): store.objects.put_bytes(content) for index, content in enumerate(contents)}
    manifest = store.objects.put_manifest(files)
    action = ActionResult(
        stage="seal",
        key=f"sha256:{name}",
        inputs={},
        output=manifest,
        line="",
        record={},
        objects={"artifact/": manifest},
    )
    store.put(action)
    when = time.time() - days_ago * DAY
    for file in (*(store.objects.path(d) for d in files.values()), store.objects.path(manifest)):
        os.utime(file, (when, when))
    os.utime(store.root / "actions" / "seal" / f"{name}.json", (when, when))
    return action


def test_old_results_go_and_what_others_share_stays(tmp_path: Path) -> None:
    # given an old and a recent result with one object in common, and a file that a killed build left
    store = Store(tmp_path, Silent())
    put(store, "aa", [b"shared", b"only old"], days_ago=40)
    put(store, "bb", [b"shared", b"only new"], days_ago=2)
    left = tmp_path / "tmp" / ("0" * 32)
    left.write_bytes(b"half")
    os.utime(left, (time.time() - 3 * DAY,) * 2)
    # when only asked what would go, nothing goes
    would = collect(store, max_age=30 * DAY, max_bytes=10**9, dry_run=True)
    assert store.find("seal", "sha256:aa", whole) is not None
    os.utime(tmp_path / "actions/seal/aa.json", (time.time() - 40 * DAY,) * 2)  # finding it was a use
    # when
    found = collect(store, max_age=30 * DAY, max_bytes=10**9, dry_run=False)
    # then
    assert found.files == would.files
    assert len(found.files) == 4  # the entry, its manifest, one object, and what was left
    assert store.find("seal", "sha256:aa", whole) is None
    action = store.find("seal", "sha256:bb", whole)
    assert action is not None
    store.objects.restore_folder(action.objects["artifact/"], tmp_path / "restored")
    assert (tmp_path / "restored/0").read_bytes() == b"shared"


def test_the_oldest_go_first_when_the_store_is_too_large(tmp_path: Path) -> None:
    store = Store(tmp_path, Silent())
    for index in range(4):
        put(store, f"a{index}", [bytes([index]) * 10_000], days_ago=2 + index)
    collect(store, max_age=30 * DAY, max_bytes=25_000, dry_run=False)
    assert [store.find("seal", f"sha256:a{index}", whole) is not None for index in range(4)] == [
        True,
        True,
        False,
        False,
    ]


@pytest.mark.parametrize("days_ago", [0.5, -300], ids=["used today", "from the future"])
def test_what_is_young_stays(days_ago: float, tmp_path: Path) -> None:
    store = Store(tmp_path, Silent())
    put(store, "aa", [b"x"], days_ago=days_ago)
    store.objects.put_bytes(b"referred to in a moment")
    assert collect(store, max_age=10 * DAY, max_bytes=0, dry_run=False).files == ()


def test_old_notes_beside_the_store_go_and_young_ones_stay(tmp_path: Path) -> None:
    # given notes of each kind, one old and one young, and something that a person put there
    for folder in NOTES:
        (tmp_path / folder).mkdir()
        for name, days in (("old", 40), ("young", 2)):
            (tmp_path / folder / name).write_bytes(b"{}")
            os.utime(tmp_path / folder / name, (time.time() - days * DAY,) * 2)
    (tmp_path / "mine").write_bytes(b"")
    os.utime(tmp_path / "mine", (time.time() - 400 * DAY,) * 2)
    # when
    would = collect_notes(tmp_path, max_age=30 * DAY, dry_run=True)
    found = collect_notes(tmp_path, max_age=30 * DAY, dry_run=False)
    # then
    assert would == found == tuple(tmp_path / folder / "old" for folder in NOTES)
    assert sorted(file.name for file in tmp_path.rglob("*") if file.is_file()) == ["mine", *["young"] * len(NOTES)]


def test_what_is_remembered_of_files_that_are_gone_goes(tmp_path: Path) -> None:
    # given two builds side by side, each of which found out something, and a file that is deleted then
    for name in ("here", "gone"):
        (tmp_path / name).write_bytes(name.encode())
        os.utime(tmp_path / name, (1_700_000_000,) * 2)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("builder.noop.YOUNG", 0)
        first, second = StatCache(tmp_path / "remembered.json"), StatCache(tmp_path / "remembered.json")
        first.digest(tmp_path / "here")
        second.digest(tmp_path / "gone")
    first.save()
    second.save()
    (tmp_path / "gone").unlink()
    # then neither has overwritten what the other knows, and what is gone goes
    cache = StatCache(tmp_path / "remembered.json")
    assert cache.get("digest", tmp_path / "here", _never) == first.digest(tmp_path / "here")
    assert cache.prune() == 1
    assert StatCache(tmp_path / "remembered.json").prune() == 0


def _never(path: Path) -> str:
    raise AssertionError(f"{path} was looked at again")


LINKED = (
    "store/actions", "store/actions/load", "store/cas", "store/cas/sha256", "store/cas/sha256/ab", "store/tmp",
    "store/locks", "store/roots", *NOTES,
)  # fmt: skip
"""The folders of a cache, each of which somebody could replace by a link."""


@pytest.mark.parametrize("place", LINKED)
def test_nothing_behind_a_link_in_the_cache_is_removed_or_written(place: str, tmp_path: Path) -> None:
    cache, foreign = tmp_path / "cache", tmp_path / "foreign"
    names = ("notes.txt", "poetry.lock", "sub/x.json", f"{'a' * 64}.json", "a" * 64, "ab/" + "ab" * 32)
    for name in names:
        (foreign / name).parent.mkdir(parents=True, exist_ok=True)
        (foreign / name).write_text("precious")
        os.utime(foreign / name, (10**9, 10**9))
    (cache / place).parent.mkdir(parents=True, exist_ok=True)
    (cache / place).symlink_to(foreign, target_is_directory=True)
    store = Store(cache / "store", Silent())

    for root in remembered_roots(store.root):
        forget_root(root)
    collect(store, max_age=0, max_bytes=0, dry_run=False)
    collect_notes(cache, max_age=0, dry_run=False)
    manifest = store.objects.put_manifest({"weights": store.objects.put_bytes(b"weights")})
    key, objects = f"sha256:{'b' * 64}", {"artifact/": manifest}
    action = ActionResult(stage="load", key=key, inputs={}, output=manifest, line="", record={}, objects=objects)
    with store.alone("load", key):
        store.put(action)
    remember_root(store.root, tmp_path / "builder.lock", [])

    assert {file.relative_to(foreign).as_posix() for file in foreign.rglob("*") if file.is_file()} == set(names)


def test_only_files_of_the_stores_own_names_are_removed(tmp_path: Path) -> None:
    store = Store(tmp_path, Silent())
    kept = tmp_path / "tmp/letters/notes.txt"
    kept.parent.mkdir(parents=True)
    kept.write_text("precious")
    os.utime(kept, (10**9, 10**9))

    found = collect(store, max_age=0, max_bytes=0, dry_run=False)

    assert not found.files
    assert kept.read_text() == "precious"
