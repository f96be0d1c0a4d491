"""The manifest of a release: every change below its folder, and of itself, is named."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from builder.errors import VerificationError
from builder.release.digests import MANIFEST, manifest_problems, read_manifest, write_manifest
from builder.release.verify import _check_coverage


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "one.txt").write_text("one")
    (tmp_path / "two.txt").write_text("two")
    write_manifest(tmp_path)
    return tmp_path


def _problems(folder: Path) -> list[str]:
    return manifest_problems(folder, read_manifest(folder))


def test_an_untouched_folder_has_no_problems(folder: Path) -> None:
    # given a folder with its manifest, when it is compared, then nothing is said
    assert _problems(folder) == []


@pytest.mark.skipif(shutil.which("sha256sum") is None, reason="the tool of coreutils is not installed")
def test_sha256sum_reads_the_manifest(folder: Path) -> None:
    # given a manifest, when coreutils' own tool checks it, then it finds nothing wrong
    done = subprocess.run(["sha256sum", "-c", "--strict", MANIFEST], cwd=folder, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr


def test_what_changed_is_named(folder: Path) -> None:
    # given a changed file, a missing one, a new one, an empty folder and a link
    (folder / "a" / "one.txt").write_text("One")
    (folder / "two.txt").unlink()
    (folder / "three.txt").write_text("three")
    (folder / "empty").mkdir()
    (folder / "link").symlink_to("a")
    # when the folder is compared, then each is named
    assert _problems(folder) == [
        "a/one.txt was changed",
        "empty/ was added",
        "link was added",
        "three.txt was added",
        "two.txt is missing",
    ]


def test_a_link_to_equal_content_is_no_plain_file(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    # given a file replaced by a link to its own content elsewhere
    elsewhere = tmp_path_factory.mktemp("elsewhere") / "two.txt"
    (folder / "two.txt").rename(elsewhere)
    (folder / "two.txt").symlink_to(elsewhere)
    # when the folder is compared, then the link is named, since its target may change
    assert _problems(folder) == ["two.txt is not a plain file any more"]


def test_every_flipped_bit_of_the_manifest_is_found(folder: Path) -> None:
    # given the manifest with one bit flipped, for every byte of it
    path = folder / MANIFEST
    original = path.read_bytes()
    for position in range(len(original)):
        for bit in (0x01, 0x20, 0x80):
            path.write_bytes(original[:position] + bytes([original[position] ^ bit]) + original[position + 1 :])
            # when it is read, then it is refused by name
            with pytest.raises(VerificationError, match=MANIFEST):
                read_manifest(folder)


def test_a_manifest_that_lost_its_end_is_refused(folder: Path) -> None:
    # given a manifest cut at any place, when it is read, then it is refused
    path = folder / MANIFEST
    original = path.read_bytes()
    for length in range(len(original)):
        path.write_bytes(original[:length])
        with pytest.raises(VerificationError, match=MANIFEST):
            read_manifest(folder)


def test_an_empty_folder_of_an_artifact_is_part_of_the_release(tmp_path: Path) -> None:
    # given a program without weights
    (tmp_path / "m.mlpackage/Data/weights").mkdir(parents=True)
    (tmp_path / "m.mlpackage/Manifest.json").write_text("{}")
    write_manifest(tmp_path)
    listed = read_manifest(tmp_path)
    assert manifest_problems(tmp_path, listed) == []
    # and the provenance, which has digests of files, need not name it
    file = "m.mlpackage/Manifest.json"
    subject = [{"name": file, "digest": {"sha256": listed[file]}}]
    _check_coverage(listed, {"subject": subject, "predicate": {"runDetails": {"byproducts": []}}})
    # when it is gone, or has something in it
    (tmp_path / "m.mlpackage/Data/weights/hidden").write_text("")
    assert manifest_problems(tmp_path, listed) == [
        "m.mlpackage/Data/weights/ is missing",
        "m.mlpackage/Data/weights/hidden was added",
    ]
