"""An in-toto Statement v1 with a SLSA provenance v1 predicate: what was built, from what, by which tools.

https://in-toto.io/Statement/v1 and https://slsa.dev/provenance/v1.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from builder.release.lock import Entry

if TYPE_CHECKING:
    from builder.util.reading import JsonObject

FILE_NAME = "provenance.json"
STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
PREDICATE_TYPE = "https://slsa.dev/provenance/v1"
BUILD_TYPE = "urn:x-coreml-builder:release:1"
"""`externalParameters` is the recipe with its overrides; the build is `python -m builder release`."""
BUILDER_ID = "urn:x-coreml-builder:local"
"""Whoever ran the command on a machine of their own: the record is as trustworthy as its signature."""


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What all documents of a release are made from."""

    recipe: str
    variant: str
    artifact: str
    """The name of the artifact in the release."""
    entry: Entry
    """The entry of the lock."""
    build: JsonObject
    """`build.json`."""
    commit: str
    remote: str | None
    builds: tuple[JsonObject, ...]
    """The surroundings of each build."""
    finished: str
    """ISO 8601, UTC."""


def statement(facts: Facts, artifact_files: Mapping[str, str], others: Mapping[str, str]) -> dict[str, Any]:
    """The statement. `artifact_files` and `others`: SHA-256 by name in the release, of the artifact and of the rest."""
    subjects = [
        {"name": facts.artifact, "digest": {"sha256": _bare(facts.entry["artifact"]["digest"])}},
        *({"name": name, "digest": {"sha256": d}} for name, d in artifact_files.items() if name != facts.artifact),
    ]
    return {
        "_type": STATEMENT_TYPE,
        "subject": subjects,
        "predicateType": PREDICATE_TYPE,
        "predicate": {
            "buildDefinition": {
                "buildType": BUILD_TYPE,
                "externalParameters": {
                    "recipe": facts.recipe,
                    "variant": facts.variant,
                    "overrides": list(facts.entry["overrides"]),
                    "configDigest": facts.entry["config"],
                },
                "internalParameters": {"builds": [dict(build) for build in facts.builds]},
                "resolvedDependencies": list(_dependencies(facts)),
            },
            "runDetails": {
                "builder": {"id": BUILDER_ID, "version": {"builder": facts.entry["tools"]["builder"]}},
                "metadata": {
                    "invocationId": f"urn:uuid:{uuid.uuid4()}",
                    "startedOn": _utc(facts.build["started"]),
                    "finishedOn": _utc(facts.finished),
                },
                "byproducts": [{"name": name, "digest": {"sha256": digest}} for name, digest in others.items()],
            },
        },
    }


def _dependencies(facts: Facts) -> Iterable[dict[str, object]]:
    """The commit, the weights, every file and the tools, as resource descriptors."""
    entry = facts.entry
    repository = facts.remote or "urn:x-coreml-builder:repository"
    yield {"uri": _git_address(repository, facts.commit), "digest": {"gitCommit": facts.commit}, "name": "project"}
    source = {"name": "source", "uri": entry["source"]["address"]}
    digest = entry["source"].get("file_sha256") or _bare(entry["source"].get("weights_digest", ""))
    yield source | ({"digest": {"sha256": digest}} if digest else {})
    for section in ("files", "data"):
        for name, file in entry[section].items():
            yield {"name": name, "digest": {"sha256": file["sha256"]}}
    for name, version in entry["tools"].items():
        yield {"name": name, "uri": purl(name, version)}


def purl(name: str, version: str) -> str:
    """The package URL of a tool."""
    version = quote(version)
    if name == "python":
        return f"pkg:generic/python@{version}"
    return f"pkg:pypi/{'coreml-builder' if name == 'builder' else name}@{version}"


def _git_address(remote: str, commit: str) -> str:
    if remote.startswith("urn:"):
        return f"{remote}:{commit}"
    address = remote
    if "://" not in remote and ":" in remote and not remote.startswith("/"):  # git@host:path
        address = "ssh://" + remote.replace(":", "/", 1)
    elif "://" not in remote:
        address = f"file://{remote}"
    return f"git+{_without_password(address)}@{commit}"


def _without_password(address: str) -> str:
    scheme, _, rest = address.partition("://")
    host, slash, path = rest.partition("/")
    user, at, machine = host.rpartition("@")
    if at and (":" in user or scheme.startswith("http")):
        host = machine
    return f"{scheme}://{host}{slash}{path}"


def _bare(digest: str) -> str:
    return digest.removeprefix("sha256:")


def _utc(moment: str) -> str:
    """RFC 3339 with a Z, as protobuf's Timestamp is written."""
    return moment.replace("+00:00", "Z")
