"""`verify` on documents that others wrote: exit code 6 (a key: 2), one message, no traceback, and it ends.

The release is small and made by hand: what `verify_release` needs, with digests that hold, so that a hostile document
is met by the code behind the digests.
"""

from __future__ import annotations

import base64
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from builder.cli.main import run
from builder.errors import ConfigurationError, VerificationError
from builder.release import lock, signing
from builder.release.digests import MANIFEST, digests_below, write_manifest
from builder.release.portable import FILE_NAME, read_resolved, request_in
from builder.release.provenance import FILE_NAME as PROVENANCE
from builder.release.provenance import PREDICATE_TYPE, STATEMENT_TYPE
from builder.release.rebuild import rebuild
from builder.release.verify import verify_release
from builder.store.digests import artifact_digest

ARTIFACT = "tiny.mlmodel"
DEEP = "[" * 100_000
DOCUMENTS = ["build.json", PROVENANCE, lock.FILE_NAME, signing.ENVELOPE]


def _write(folder: Path) -> Path:
    folder.mkdir()
    (folder / ARTIFACT).write_bytes(b"a model")
    digest = artifact_digest(folder / ARTIFACT)
    build = {"artifact": {"path": ARTIFACT, "digest": digest}, "recipe": "tiny", "variant": "default"}
    (folder / "build.json").write_text(json.dumps(build))
    sections = {name: {} for name in ("data", "files", "settings", "source", "tools")}
    entry = {"artifact": {"digest": digest}, "config": "sha256:0", "overrides": [], **sections}
    (folder / lock.FILE_NAME).write_text(lock.lock_text({"tiny": entry}))
    named = [{"name": name, "digest": {"sha256": sha}} for name, sha in digests_below(folder).items()]
    subject = [one for one in named if one["name"] == ARTIFACT]
    statement = {
        "_type": STATEMENT_TYPE,
        "predicateType": PREDICATE_TYPE,
        "subject": subject,
        "predicate": {"runDetails": {"byproducts": [one for one in named if one not in subject]}},
    }
    (folder / PROVENANCE).write_text(json.dumps(statement))
    (folder / signing.FOLDER).mkdir()
    (folder / signing.ARTIFACT_SIGNATURE).write_text("{}")
    (folder / signing.ENVELOPE).write_text("{}")
    write_manifest(folder)
    return folder


@pytest.fixture(scope="module")
def honest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _write(tmp_path_factory.mktemp("honest") / "release")


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("key") / "public.pem"
    public = ec.generate_private_key(ec.SECP256R1()).public_key()
    file.write_bytes(public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    return file


@pytest.fixture
def release(honest: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(honest, tmp_path / "release"))


def _put(release: Path, name: str, content: str | bytes) -> None:
    """Replace a document, and renew the manifest as anybody can."""
    (release / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    write_manifest(release)


def test_the_release_of_these_tests_holds(honest: Path) -> None:
    assert verify_release(honest, public_key=None).artifact == honest / ARTIFACT


@pytest.mark.parametrize("name", DOCUMENTS)
@pytest.mark.parametrize(
    "content",
    [
        DEEP,
        DEEP + "]" * 100_000,
        '{"a":' * 50_000,
        "",
        "5",
        "null",
        "[]",
        "{}",
        '"\\ud800"',
        '{"artifact": "\\udfff"}',
        b"\xff\xfe",
    ],
    ids=lambda content: repr(content)[:12],
)
def test_a_damaged_document_is_refused(release: Path, key: Path, name: str, content: str | bytes) -> None:
    _put(release, name, content)
    with pytest.raises(VerificationError):
        verify_release(release, public_key=key)


@pytest.mark.parametrize(
    "path",
    ["/dev/zero", "../release/tiny.mlmodel", "a\0b", ".", "", "..", 5, None, ["tiny.mlmodel"], {}, "absent", "\x1b[2J"],
)
def test_the_artifact_is_a_plain_name_in_the_release(release: Path, path: object) -> None:
    build = json.loads((release / "build.json").read_text())
    build["artifact"]["path"] = path
    _put(release, "build.json", json.dumps(build))
    with pytest.raises(VerificationError, match=r"names (an|the) artifact"):
        verify_release(release, public_key=None)


@pytest.mark.parametrize("name", [MANIFEST, *DOCUMENTS])
def test_a_pipe_or_device_for_a_document_is_not_read(release: Path, key: Path, name: str) -> None:
    (release / name).unlink()
    os.mkfifo(release / name)
    with pytest.raises(VerificationError):
        verify_release(release, public_key=key)
    (release / name).unlink()
    (release / name).symlink_to("/dev/zero")
    with pytest.raises(VerificationError):
        verify_release(release, public_key=key)


def _envelope(release: Path, **changes: Any) -> str:
    payload = base64.b64encode((release / PROVENANCE).read_bytes()).decode()
    honest = {"payloadType": signing.PAYLOAD_TYPE, "payload": payload, "signatures": [{"sig": "AAAA"}]}
    return json.dumps(honest | changes)


@pytest.mark.parametrize(
    "changes",
    [
        {"payloadType": 5},
        {"payloadType": None},
        {"payloadType": "\ud800"},
        {"payloadType": ["application/vnd.in-toto+json"]},
        {"payload": 5},
        {"payload": "é"},
        {"signatures": 5},
        {"signatures": {"sig": "AAAA"}},
        {"signatures": [5]},
        {"signatures": [{"sig": None}]},
        {"signatures": []},
        {"signatures": [{"sig": "AAAA"}]},
        {"signatures": [{"sig": "AAAA"}] * 100_000},
    ],
)
def test_a_strange_envelope_is_not_a_signature(release: Path, key: Path, changes: dict[str, Any]) -> None:
    _put(release, signing.ENVELOPE, _envelope(release, **changes))
    with pytest.raises(VerificationError, match="provenance"):
        verify_release(release, public_key=key)


def _pipe(path: Path) -> None:
    os.mkfifo(path)


@pytest.mark.parametrize(
    "make",
    [
        _pipe,
        lambda path: path.symlink_to("/dev/zero"),
        lambda path: path.mkdir(),
        lambda path: path.write_bytes(b"x" * 2_000_000),
        lambda path: path.write_bytes(b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n"),
        lambda path: None,
    ],
    ids=["pipe", "device", "folder", "large", "damaged", "missing"],
)
def test_a_strange_key_is_the_fault_of_the_command_line(
    release: Path, tmp_path: Path, make: Callable[[Path], Any]
) -> None:
    make(tmp_path / "key.pem")
    with pytest.raises(ConfigurationError):
        verify_release(release, public_key=tmp_path / "key.pem")
    with pytest.raises(ConfigurationError):
        signing.read_private_key(tmp_path / "key.pem")


VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


def _places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    children = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(place for key, child in children for place in _places(child, (*path, key)))]


@settings(
    max_examples=150, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_any_value_at_any_place_of_a_document(
    honest: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], data: st.DataObject
) -> None:
    release = Path(shutil.copytree(honest, tmp_path / "release"))
    try:
        name = data.draw(st.sampled_from(["build.json", PROVENANCE]))
        document = json.loads((release / name).read_text())
        place = data.draw(st.sampled_from(_places(document)))
        value = data.draw(VALUES)
        holder = document
        for part in place[:-1]:
            holder = holder[part]
        if place:
            holder[place[-1]] = value
        else:
            document = value
        _put(release, name, json.dumps(document))
        assert run(["verify", str(release)]) in (0, 6)
        assert "Traceback" not in capsys.readouterr().err
    finally:
        shutil.rmtree(release)


RESOLVED: dict[str, Any] = {
    "schema": 1,
    "recipe": "tiny",
    "variant": "default",
    "overrides": [],
    "spec": {"source": {"kind": "python", "factory": "net:make"}},
    "working_directory": ".",
    "python_path": [],
}


def test_a_resolved_recipe_is_read(tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).write_text(json.dumps(RESOLVED | {"working_directory": "a/b", "python_path": ["src", "."]}))
    assert read_resolved(tmp_path).python_path == ("src", ".")


@pytest.mark.parametrize(
    "content",
    [
        *(DEEP, "", "5", "schema: 1", "x" * 2_000_000, "[1, 2", "\x00", "!!python/object:os.system x"),
        *(
            json.dumps(RESOLVED | changes)
            for changes in (
                {"working_directory": "../../../etc"},
                {"working_directory": "/etc"},
                {"working_directory": 5},
                {"python_path": ["../.."]},
                {"python_path": [5]},
                {"python_path": 5},
                {"spec": 5},
                {"spec": {"source": {"kind": "strange"}}},
                {"spec": {"source": {}}},
                {"other": 1},
            )
        ),
    ],
    ids=lambda content: repr(content[:12]),
)
def test_a_strange_resolved_recipe_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / FILE_NAME).write_text(content)
    with pytest.raises(VerificationError):
        read_resolved(tmp_path)


def test_settings_that_are_not_a_recipe_are_refused(tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).write_text(json.dumps(RESOLVED))
    with pytest.raises(VerificationError, match="not a resolved recipe"):
        request_in(tmp_path, read_resolved(tmp_path))


@pytest.mark.parametrize("build", [{}, {"release": 5}, {"release": {}}, {"release": {"toolchain": ["torch"]}}])
def test_a_release_that_names_no_tools_is_not_rebuilt(honest: Path, tmp_path: Path, build: dict[str, Any]) -> None:
    (tmp_path / FILE_NAME).write_text(json.dumps(RESOLVED))
    release = replace(verify_release(honest, public_key=None), folder=tmp_path, build=build)
    with pytest.raises(VerificationError, match="does not name the tools"):
        rebuild(release)
