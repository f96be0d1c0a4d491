"""Entries of a manifest from memory: a file is read when it has changed, and not otherwise."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from builder import noop
from builder.store.digests import StatCache, file_digest


def test_a_file_is_read_once_as_long_as_its_stat_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # given a file that was written a while ago, and its digest in the cache of another build
    file = tmp_path / "a.py"
    file.write_text("one")
    monkeypatch.setattr(noop, "YOUNG", -1)
    first = StatCache(tmp_path / "remembered.json")
    expected = noop.file_entry(str(file))
    assert first.entry(str(file)) == expected
    first.save()
    # when it is looked at again, then nothing is read, by either way
    read: list[str] = []
    monkeypatch.setattr(noop, "digest", lambda path: read.append(path) or "read")
    again = StatCache(tmp_path / "remembered.json")
    assert again.entry(str(file)) == expected
    assert again.get("digest", file, file_digest) == f"sha256:{expected[2]}"
    assert not read
    # and when it has other content of the same size, it is
    file.write_text("two")
    os.utime(file, ns=(expected[1][0],) * 2)
    assert again.entry(str(file))[2] == "read"
    assert read == [str(file)]


def test_a_file_that_was_just_written_is_not_remembered(tmp_path: Path) -> None:
    # given a file of this moment, which may change within the clock's step
    file = tmp_path / "a.py"
    file.write_text("one")
    cache = StatCache(tmp_path / "remembered.json")
    assert time.time_ns() - file.stat().st_mtime_ns < noop.YOUNG
    # then its entry is right, and nothing is kept
    assert cache.entry(str(file)) == noop.file_entry(str(file))
    cache.save()
    assert not (tmp_path / "remembered.json").exists()
