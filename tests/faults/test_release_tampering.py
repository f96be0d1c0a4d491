"""A tampered release: a flipped byte in any file, a missing file or a new one is exit 6, and named."""

from __future__ import annotations

import base64
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from builder.__main__ import main
from builder.errors import VerificationError
from builder.release.digests import write_manifest
from builder.release.verify import verify_release
from tests.unit.release.project import signed_release


@pytest.fixture(scope="session")
def released(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a signed `release/` and `public.pem`."""
    return signed_release(tmp_path_factory.getbasetemp())


@pytest.fixture
def release(released: Path, tmp_path: Path) -> Path:
    """A copy of the release."""
    copy = tmp_path / "release"
    shutil.copytree(released / "release", copy)
    return copy


@pytest.fixture
def key(released: Path) -> Path:
    return released / "public.pem"


def _files(folder: Path) -> Iterator[tuple[str, Path]]:
    for file in sorted(folder.rglob("*")):
        if file.is_file():
            yield file.relative_to(folder).as_posix(), file


@pytest.mark.parametrize("with_key", [False, True])
def test_one_flipped_byte_in_any_file_is_caught_and_named(release: Path, key: Path, with_key: bool) -> None:
    # given each file of a release in turn, with its first, middle or last byte flipped
    for name, file in list(_files(release)):
        original = file.read_bytes()
        for position in {0, len(original) // 2, len(original) - 1}:
            changed = bytearray(original)
            changed[position] ^= 1
            file.write_bytes(changed)
            # when it is verified, then it is refused by the name of that file
            with pytest.raises(VerificationError) as refused:
                verify_release(release, public_key=key if with_key else None)
            assert f"{name} was changed" in refused.value.message
        file.write_bytes(original)
    # and with every byte in its place it holds again
    verify_release(release, public_key=key)


def test_a_missing_file_is_named(release: Path) -> None:
    # given each file of a release removed in turn, when it is verified, then it is named
    for name, file in list(_files(release)):
        content = file.read_bytes()
        file.unlink()
        with pytest.raises(VerificationError) as refused:
            verify_release(release, public_key=None)
        assert name in refused.value.message
        file.write_bytes(content)


@pytest.mark.parametrize("name", ["new.txt", "project/new.py", "tiny.mlpackage/Data/new.bin", "tiny.mlpackage/.git/x"])
def test_an_added_file_is_named(name: str, release: Path, capsys: pytest.CaptureFixture[str]) -> None:
    # given a file that was not released
    (release / name).parent.mkdir(parents=True, exist_ok=True)
    (release / name).write_text("")
    # when the command verifies the release, then the exit code is 6, the file is named, and stdout is empty
    assert main(["verify", str(release)]) == 6
    said = capsys.readouterr()
    assert f"{name} was added" in said.err
    assert said.out == ""


def test_who_mends_the_manifest_is_found_by_the_provenance(release: Path) -> None:
    # given a changed file and a manifest made anew
    (release / "project" / "widths.py").write_text("WIDTH = 8\n")
    write_manifest(release)
    # when it is verified even without a key, then the provenance tells
    with pytest.raises(VerificationError, match=r"project/widths\.py was changed: SHA256SUMS and provenance\.json"):
        verify_release(release, public_key=None)


def test_who_mends_every_document_is_found_by_the_signature(release: Path, key: Path) -> None:
    # given a changed file, a provenance that names its new digest, and a manifest made anew
    import hashlib

    (release / "project" / "widths.py").write_text("WIDTH = 8\n")
    statement = json.loads((release / "provenance.json").read_text())
    for entry in statement["predicate"]["runDetails"]["byproducts"]:
        if entry["name"] == "project/widths.py":
            entry["digest"]["sha256"] = hashlib.sha256(b"WIDTH = 8\n").hexdigest()
    (release / "provenance.json").write_text(json.dumps(statement, indent=2) + "\n")
    write_manifest(release)
    verify_release(release, public_key=None)  # without the key nobody can tell
    # when it is verified with the key, then the provenance is not the one that was signed
    with pytest.raises(VerificationError, match=r"provenance\.json is not what .*dsse\.json signs"):
        verify_release(release, public_key=key)
    # and also when the envelope carries the new one under the old signature
    envelope = json.loads((release / "signatures" / "provenance.dsse.json").read_text())
    envelope["payload"] = base64.b64encode((release / "provenance.json").read_bytes()).decode()
    (release / "signatures" / "provenance.dsse.json").write_text(json.dumps(envelope))
    write_manifest(release)
    with pytest.raises(VerificationError, match="has no signature of"):
        verify_release(release, public_key=key)


def test_removed_signatures_are_missed_by_who_has_the_key(release: Path, key: Path) -> None:
    # given a release whose signatures were removed, and a manifest made anew
    shutil.rmtree(release / "signatures")
    write_manifest(release)
    # when it is verified with the key, then it is not signed
    with pytest.raises(VerificationError, match="is not signed"):
        verify_release(release, public_key=key)


def test_an_artifact_signature_of_something_else_is_refused(release: Path, key: Path) -> None:
    # given the signature of the artifact replaced by another document, and a manifest made anew
    (release / "signatures" / "artifact.sig").write_text("{}")
    write_manifest(release)
    # when it is verified with the key, then the file is named
    with pytest.raises(VerificationError, match=r"signatures/artifact\.sig is not a signature"):
        verify_release(release, public_key=key)
