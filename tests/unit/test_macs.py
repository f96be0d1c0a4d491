"""What a Mac does to folders, caches and keys, as far as that can be tried elsewhere."""

from __future__ import annotations

import platform
import sys
from pathlib import Path

import pytest

from builder import noop
from builder.artifacts.record import BuildRecord
from builder.model.sources.download import default_cache
from builder.release import digests, processes
from builder.store.digests import StatCache, artifact_digest, files_below
from builder.store.inputs import CALLS_APPLES_FRAMEWORKS, ROOTS, stage_inputs
from builder.util import memory

VM_STAT = """\
Mach Virtual Memory Statistics: (page size of 16384 bytes)
Pages free:                               12345.
Pages active:                            301234.
Pages inactive:                          298765.
Pages speculative:                         1111.
Pages throttled:                              0.
Pages wired down:                        120000.
Pages purgeable:                           2222.
"Translation faults":                 123456789.
"""


def test_finders_files_change_no_digest_and_no_answer(tmp_path: Path) -> None:
    # given a folder of data
    (tmp_path / "a").mkdir()
    (tmp_path / "a/one.txt").write_text("1")
    before = artifact_digest(tmp_path), noop.names_in(str(tmp_path)), list(files_below(tmp_path))

    # when Finder has shown it
    (tmp_path / ".DS_Store").write_bytes(b"Bud1")
    (tmp_path / "a/.DS_Store").write_bytes(b"Bud1")

    # then nothing has changed
    assert (artifact_digest(tmp_path), noop.names_in(str(tmp_path)), list(files_below(tmp_path))) == before


def test_finders_files_are_no_addition_to_a_release(tmp_path: Path) -> None:
    (tmp_path / "one.txt").write_text("1")
    listed = {"one.txt": digests.file_sha256(tmp_path / "one.txt")}
    (tmp_path / ".DS_Store").write_bytes(b"Bud1")
    assert digests.manifest_problems(tmp_path, listed) == []
    (tmp_path / "two.txt").write_text("2")
    assert digests.manifest_problems(tmp_path, listed) == ["two.txt was added"]


def test_store_downloads_and_releases_share_one_cache_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    # given a Mac, whose user has set XDG_CACHE_HOME for other programs
    monkeypatch.delenv("BUILDER_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "/elsewhere")
    monkeypatch.setattr(sys, "platform", "darwin")
    assert str(default_cache()) == str(processes._cache()) == noop.cache_folder()
    assert noop.cache_folder().endswith("/Library/Caches/builder")


def test_a_point_release_of_the_system_reaches_only_stages_that_call_it(
    record: BuildRecord, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # given the keys before an update of the system
    spec, stat_cache = record.spec, StatCache(tmp_path / "remembered.json")
    monkeypatch.setattr(platform, "mac_ver", lambda: ("15.1", ("", "", ""), "arm64"))
    before = {stage: stage_inputs(stage, spec, stat_cache) for stage in ROOTS}

    # when
    monkeypatch.setattr(platform, "mac_ver", lambda: ("15.1.1", ("", "", ""), "arm64"))
    after = {stage: stage_inputs(stage, spec, stat_cache) for stage in ROOTS}

    # then
    assert {stage for stage in ROOTS if before[stage] != after[stage]} == set(CALLS_APPLES_FRAMEWORKS)


def test_free_memory_is_read_from_vm_stat() -> None:
    assert memory._of_mac(VM_STAT) == 16384 * (12345 + 298765 + 1111 + 2222)


def test_a_process_knows_what_it_holds_without_proc(monkeypatch: pytest.MonkeyPatch) -> None:
    with_proc = memory._resident()
    monkeypatch.setattr(Path, "read_text", lambda *_, **__: (_ for _ in ()).throw(FileNotFoundError()))
    assert memory._resident() > 2**20 < with_proc
