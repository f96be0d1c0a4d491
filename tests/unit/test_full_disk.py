"""A disk that is full is said to be: writers that would end the process, or that raise lists of texts, included."""

from __future__ import annotations

import errno
import shutil
import zipfile
from pathlib import Path

import pytest
import torch

from builder.errors import ConfigurationError, UnfitEnvironmentError
from builder.search.settings import Search
from builder.search.study import Study
from builder.util.paths import first_failure, writing
from builder.util.patient import PatientFile, patient

FULL = Path("/dev/full")
"""A device on which every write fails as on a full disk (Linux)."""
pytestmark = pytest.mark.skipif(not FULL.exists(), reason="this system has no /dev/full")


def exported() -> torch.export.ExportedProgram:
    return torch.export.export(torch.nn.Linear(512, 512), (torch.zeros(1, 512),))


def test_an_archive_on_a_full_disk_is_an_error_of_the_system() -> None:
    with pytest.raises(OSError, match="No space left") as found, patient(FULL) as stream:
        torch.export.save(exported(), stream)
    assert found.value.errno == errno.ENOSPC


def test_an_archive_on_another_disk_is_whole(tmp_path: Path) -> None:
    program = exported()
    with patient(tmp_path / "a.pt2") as stream:
        torch.export.save(program, stream)
    read = torch.export.load(tmp_path / "a.pt2")
    assert zipfile.ZipFile(tmp_path / "a.pt2").testzip() is None
    assert torch.equal(read.state_dict["weight"], program.state_dict["weight"])


def test_what_the_block_raises_stays(tmp_path: Path) -> None:
    with pytest.raises(KeyError), patient(tmp_path / "a"):
        raise KeyError("x")
    stream = PatientFile(FULL)
    assert stream.writable()
    assert stream.write(b"x" * (1 << 20)) == 1 << 20
    stream.close()
    assert stream.closed
    assert stream.failed is not None


def test_a_copy_that_fails_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # given a folder that is copied to a full disk
    (tmp_path / "a").mkdir()
    (tmp_path / "a/file").write_text("x")

    def full(source: str, target: str, **_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", target)

    monkeypatch.setattr("shutil.copy2", full)
    monkeypatch.setattr(shutil.copytree, "__defaults__", (False, None, full, False, False))
    # when, then
    with pytest.raises(UnfitEnvironmentError, match=r"the disk is full: .* while writing .*file"), writing(tmp_path):
        shutil.copytree(tmp_path / "a", tmp_path / "b")


def test_other_errors_of_copies_stay_as_they_are() -> None:
    error = shutil.Error("Destination path 'x' already exists")
    assert first_failure(error) is error
    plain = OSError(errno.EIO, "x")
    assert first_failure(plain) is plain


SEARCH = {
    "space": {"seed": {"kind": "integer", "min": 0, "max": 5}},
    "objectives": {"size": {"measure": "artifact.bytes", "goal": "minimize"}},
    "trials": 2,
}


def test_a_study_that_cannot_be_written(tmp_path: Path) -> None:
    pytest.importorskip("optuna")
    (tmp_path / "study.db").mkdir()  # as on a full disk, SQLite says that it is not able to
    with pytest.raises(UnfitEnvironmentError, match="cannot be written: unable to open database file"):
        Study(tmp_path / "study.db", Search.model_validate(SEARCH), {})


def test_a_study_that_is_damaged(tmp_path: Path) -> None:
    pytest.importorskip("optuna")
    (tmp_path / "study.db").write_bytes(b"SQLite format 3\0" + b"x" * 5000)
    with pytest.raises(ConfigurationError, match="is damaged: file is not a database"):
        Study(tmp_path / "study.db", Search.model_validate(SEARCH), {})
