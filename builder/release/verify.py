"""Whether a release is what it says: digests, documents that agree, signatures (torch is not imported)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from builder.errors import ConfigurationError, VerificationError
from builder.release import lock, signing
from builder.release.digests import MANIFEST, manifest_problems, read_manifest
from builder.release.make import BUILD_JSON
from builder.release.provenance import FILE_NAME as PROVENANCE
from builder.release.provenance import PREDICATE_TYPE, STATEMENT_TYPE
from builder.store.digests import artifact_digest
from builder.util.reading import is_plain_name, read_json

if TYPE_CHECKING:
    from builder.util.reading import JsonObject

_SHOWN = 20


@dataclass(frozen=True, kw_only=True)
class Release:
    """A release whose digests hold and whose documents agree."""

    folder: Path
    artifact: Path
    digest: str
    files: int
    signed: bool
    build: JsonObject
    entry: lock.Entry


def verify_release(folder: Path, *, public_key: Path | None) -> Release:
    """Check everything that needs no build; raises VerificationError naming each file that is not as it was."""
    if not folder.is_dir():
        raise ConfigurationError(f"there is no folder {folder}", code="B0226")
    listed = read_manifest(folder)
    try:
        problems = manifest_problems(folder, listed)
    except (OSError, RecursionError) as error:
        raise VerificationError(f"{folder} cannot be read: {error}", code="B0606") from error
    if problems:
        more = [f"and {len(problems) - _SHOWN} more"] if len(problems) > _SHOWN else []
        raise VerificationError(
            f"{folder} is not as it was released:\n  " + "\n  ".join([*problems[:_SHOWN], *more]),
            code="B0607",
            hint="take the release from where it was published, again",
        )
    build, statement = _json(folder / BUILD_JSON), _json(folder / PROVENANCE)
    try:
        name = _artifact_name(build, listed)
        recipe = lock.lock_name(build["recipe"], build["variant"])
        entry = _entries(folder)[recipe]
        digest = artifact_digest(folder / name)
        _check_artifact(name, digest, build, statement, entry)
        _check_coverage(listed, statement)
    except (KeyError, TypeError, AttributeError, OSError) as error:
        raise VerificationError(f"the documents of {folder} are incomplete: {error!r}", code="B0608") from error
    if public_key is not None:
        signing.check_signatures(folder, name, public_key)
    return Release(
        folder=folder,
        artifact=folder / name,
        digest=digest,
        files=len(listed),
        signed=(folder / signing.ENVELOPE).is_file(),
        build=build,
        entry=entry,
    )


def _artifact_name(build: JsonObject, listed: Mapping[str, str]) -> str:
    """The name of the artifact in the release; raises VerificationError for a path that leads anywhere else."""
    name = build["artifact"]["path"]
    if not is_plain_name(name):
        raise VerificationError(
            f"{BUILD_JSON} names an artifact that is not in the release: {name!r:.200}", code="B0608"
        )
    if not any(file == name or file.startswith(f"{name}/") for file in listed):
        raise VerificationError(
            f"{BUILD_JSON} names the artifact {name}, of which {MANIFEST} lists no file", code="B0608"
        )
    return str(name)


def _entries(folder: Path) -> Mapping[str, lock.Entry]:
    """The entries of the release's lock; raises VerificationError where it is damaged, for here it is evidence."""
    try:
        return lock.read_lock(folder)
    except ConfigurationError as error:
        raise VerificationError(error.message, code="B0608") from error


def _check_artifact(name: str, digest: str, build: JsonObject, statement: JsonObject, entry: lock.Entry) -> None:
    """The artifact on disk is the one that every document speaks of."""
    subjects = {subject["name"]: subject["digest"]["sha256"] for subject in statement["subject"]}
    recorded = {
        BUILD_JSON: build["artifact"]["digest"],
        lock.FILE_NAME: entry["artifact"]["digest"],
        PROVENANCE: f"sha256:{subjects.get(name)}",
    }
    for document, value in recorded.items():
        if value != digest:
            raise VerificationError(f"{name} has the digest {digest}, and {document} says {value!s:.200}", code="B0608")
    if statement["_type"] != STATEMENT_TYPE or statement["predicateType"] != PREDICATE_TYPE:
        raise VerificationError(f"{PROVENANCE} is not a SLSA provenance of version 1", code="B0608")


def _check_coverage(listed: Mapping[str, str], statement: JsonObject) -> None:
    """The provenance, which may be signed, names every file with the digest that the manifest has."""
    byproducts = statement["predicate"]["runDetails"]["byproducts"]
    covered = {entry["name"]: entry["digest"]["sha256"] for entry in [*byproducts, *statement["subject"]]}
    for name, digest in listed.items():
        if name == PROVENANCE or name in (signing.ARTIFACT_SIGNATURE, signing.ENVELOPE):
            continue
        if name.endswith("/"):  # an empty folder has no content that a digest could name
            continue
        if name not in covered:
            raise VerificationError(f"{name} was added: {MANIFEST} lists it, and {PROVENANCE} does not", code="B0607")
        if covered[name] != digest:
            raise VerificationError(
                f"{name} was changed: {MANIFEST} and {PROVENANCE} have different digests of it", code="B0607"
            )
    missing = sorted(
        name for name in covered if name not in listed and not any(n.startswith(name + "/") for n in listed)
    )
    if missing:
        raise VerificationError(
            f"{', '.join(missing)} missing: {PROVENANCE} names it, and {MANIFEST} does not", code="B0607"
        )


def _json(path: Path) -> dict[str, Any]:
    try:
        document = read_json(path)
    except FileNotFoundError as error:
        raise VerificationError(f"{path.name} is missing", code="B0606") from error
    except OSError as error:
        raise VerificationError(f"{path.name} cannot be read: {error.strerror}", code="B0606") from error
    except ValueError as error:
        raise VerificationError(f"{path.name} is not JSON: {error}", code="B0608") from error
    if not isinstance(document, dict):
        raise VerificationError(f"{path.name} is not a JSON object", code="B0608")
    return document
