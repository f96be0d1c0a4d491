"""A store that others wrote, or that is damaged, is at worst an empty one: nothing escapes, nothing ends a build."""

from __future__ import annotations

import hashlib
import json
import os
import stat
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from builder import noop
from builder.progress import Silent
from builder.store.actions import SCHEMA, ActionResult, Store
from builder.store.digests import StatCache, canonical, digest_of
from builder.store.objects import CorruptError, Objects, atomic_file
from builder.store.roots import remembered_roots
from builder.util.reading import is_inner_path

SETTINGS = settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
PARTS = st.sampled_from(["..", ".", "", "a", "b", "Data", "ä", "a\0b", "a\nb", "x" * 300, "\udc80", "C:\\x", "~"])
NAMES = st.lists(PARTS, min_size=1, max_size=4).map("/".join) | st.text(max_size=8) | st.sampled_from(["/etc/x", "/"])
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@pytest.fixture(autouse=True)
def unsynced(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody cuts the power here, and waiting for disks is most of the time."""
    monkeypatch.setattr(os, "fsync", lambda _: None)


def everything(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


@SETTINGS
@given(st.dictionaries(NAMES, st.sampled_from(["", "content", "other", "../x", 5]), max_size=5))
def test_what_is_restored_stays_inside_its_folder(names: dict[str, Any]) -> None:
    with tempfile.TemporaryDirectory() as room:
        # given a manifest of any names, with the digests of objects that are there
        objects = Objects(Path(room) / "store")
        known = {text: objects.put_bytes(text.encode()) for text in ("content", "other")}
        files = {name: known.get(value, value) for name, value in names.items()}
        manifest = objects.put_bytes(json.dumps(files).encode())
        target = Path(room) / "a" / "target"
        target.parent.mkdir()
        before = everything(Path(room)) | {"a/target"}
        # when
        try:
            objects.restore_folder(manifest, target)
        except CorruptError:
            whole = False
        else:
            whole = True
        # then
        assert {name for name in everything(Path(room)) - before if not name.startswith("a/target/")} == set()
        if whole:
            assert all(is_inner_path(name.removesuffix("/")) for name in files)
            assert {name for name in files if (target / name).exists()} == set(files)


TREES = st.recursive(
    st.binary(max_size=4), lambda inner: st.dictionaries(st.text("abc", min_size=1, max_size=3), inner, max_size=3)
)


def write(tree: Any, place: Path) -> None:
    if isinstance(tree, bytes):
        place.write_bytes(tree)
        return
    place.mkdir()
    for name, child in tree.items():
        write(child, place / name)


@SETTINGS
@given(st.dictionaries(st.text("abc", min_size=1, max_size=3), TREES, max_size=4))
def test_a_folder_comes_back_as_it_was_with_its_empty_folders(tree: dict[str, Any]) -> None:
    with tempfile.TemporaryDirectory() as room:
        write(tree, Path(room) / "before")
        objects = Objects(Path(room) / "store")
        objects.restore_folder(objects.put_folder(Path(room) / "before"), Path(room) / "after")
        assert everything(Path(room) / "after") == everything(Path(room) / "before")


def whole(action: ActionResult) -> ActionResult:
    return action


def action(**changes: Any) -> dict[str, Any]:
    digest = digest_of("something")
    known = {"stage": "seal", "key": digest, "inputs": {}, "output": digest, "line": "", "record": {}, "objects": {}}
    return {**known, "seconds": 0.0, **changes}


def put(root: Path, body: Any, *, envelope: dict[str, Any] | None = None) -> Store:
    """A store with one result under a digest that fits it."""
    path = root / "actions" / "seal" / f"{action()['key'][7:]}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        document = {"schema": SCHEMA, "digest": digest_of(body), "action": body, **(envelope or {})}
        path.write_bytes(canonical(document).encode("utf-8", "surrogatepass"))
    except UnicodeEncodeError:
        path.write_bytes(b"{}")
    return Store(root, Silent())


@SETTINGS
@given(st.dictionaries(st.sampled_from([*action(), "more"]), JSON, max_size=3) | JSON, JSON)
def test_a_result_is_well_formed_or_none(changes: Any, schema: Any) -> None:
    with tempfile.TemporaryDirectory() as room:
        body = action(**changes) if isinstance(changes, dict) and changes.keys() <= {*action(), "more"} else changes
        for envelope in ({}, {"schema": schema}):
            store = put(Path(room), body, envelope=envelope)
            found = store.find("seal", action()["key"], whole)
            assert found is None or isinstance(found.record, dict)
            for digest in found.objects.values() if found else ():
                assert store.objects.path(digest).is_relative_to(Path(room) / "cas")
            list(store.actions())


@SETTINGS
@given(st.binary(max_size=60) | st.sampled_from([b"[" * 100_000, b'{"a":' * 50_000, b"\xff", b"1" * 5000]))
def test_any_bytes_in_any_small_file_are_a_miss(content: bytes) -> None:
    with tempfile.TemporaryDirectory() as room:
        root = Path(room)
        for name in (f"actions/seal/{action()['key'][7:]}.json", f"roots/{'f' * 64}", "remembered.json", "noop"):
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            digest = hashlib.sha256(content).hexdigest().encode() + b"\n" if name == "remembered.json" else b""
            (root / name).write_bytes(digest + content)
        store = Store(root, Silent())
        assert store.find("seal", action()["key"], whole) is None
        assert [root.artifacts for root in remembered_roots(root)] == [frozenset()]
        assert StatCache(root / "remembered.json").get("kind", root / "noop", lambda _: 1) == 1
        with pytest.raises((OSError, ValueError)):
            noop.read_manifest(str(root / "noop"))


@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo, lambda path: path.symlink_to("/dev/zero")])
def test_what_is_no_file_is_not_waited_for(make: Any, tmp_path: Path) -> None:
    # given: in the place of an object and of a result
    store = put(tmp_path, action())
    digest = store.objects.put_bytes(b"content")
    for path in (store.objects.path(digest), next((tmp_path / "actions/seal").iterdir())):
        path.unlink()
        make(path)
    # then
    assert store.find("seal", action()["key"], whole) is None
    with pytest.raises(CorruptError):
        store.objects.restore_file(digest, tmp_path / "target")
    # and what is stored again mends it
    assert store.objects.put_bytes(b"content") == digest
    assert store.objects.read_bytes(digest) == b"content"
    with pytest.raises(OSError, match="/dev/zero"):
        noop.read_manifest("/dev/zero")


def test_results_of_other_users_are_not_used_unless_they_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # given a result that somebody else wrote
    store = put(tmp_path, action())
    owner = tmp_path.stat().st_uid + 4000
    monkeypatch.setattr(os, "geteuid", lambda: owner)
    monkeypatch.delenv("BUILDER_TRUSTED_OWNERS", raising=False)
    key = action()["key"]
    if tmp_path.stat().st_uid == 0:  # root's files count for everybody
        os.chown(next((tmp_path / "actions/seal").iterdir()), owner + 1, -1)
    theirs = str(next((tmp_path / "actions/seal").iterdir()).stat().st_uid)
    # then
    assert store.find("seal", key, whole) is None
    assert list(store.actions()) == []
    assert len(list(store.actions(foreign=True))) == 1  # collections do not take away what others need
    for named in (theirs, f"nobody-of-that-name, {theirs}", "*"):
        monkeypatch.setenv("BUILDER_TRUSTED_OWNERS", named)
        assert isinstance(store.find("seal", key, whole), ActionResult)


def test_one_flipped_bit_of_a_manifest_is_found(tmp_path: Path) -> None:
    path = tmp_path / "noop"
    noop.write_manifest(str(path), {"schema": noop.SCHEMA, "artifact": "outputs/q1/default/q1.mlpackage"})
    assert path.stat().st_mode & 0o777 == 0o600
    whole = path.read_bytes()
    for place in range(0, 8 * len(whole), 3):
        changed = bytearray(whole)
        changed[place // 8] ^= 1 << place % 8
        path.write_bytes(changed)
        with pytest.raises((OSError, ValueError)):
            noop.read_manifest(str(path))


def test_who_may_read_a_result_is_up_to_the_umask(tmp_path: Path) -> None:
    # when results are written by people with different umasks
    modes = {}
    for mask in (0o022, 0o077):
        before = os.umask(mask)
        try:
            with atomic_file(tmp_path / f"{mask:o}.json", tmp_path / "tmp") as stream:
                stream.write(b"{}")
        finally:
            os.umask(before)
        modes[mask] = stat.S_IMODE((tmp_path / f"{mask:o}.json").stat().st_mode)
    # then people who share the store can read what is not private
    assert modes == {0o022: 0o644, 0o077: 0o600}
