"""A release from end to end: what it holds, what it refuses, and that it can be verified and rebuilt."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from google.protobuf import json_format
from in_toto_attestation.predicates.provenance.v1.provenance_pb2 import Provenance
from in_toto_attestation.v1.statement_pb2 import Statement

from builder.__main__ import main
from builder.errors import ConfigurationError, VerificationError
from builder.release import lock, make, rebuild
from builder.release.verify import verify_release
from builder.store.digests import artifact_digest
from tests.unit.release.project import REPOSITORY, builder, commit, write_keys
from tests.unit.release.test_lock import BUILT


def _json(path: Path) -> Any:
    return json.loads(path.read_text())


def test_a_release_holds_what_a_rebuild_needs(released: Path) -> None:
    # given a release, when its files are listed, then everything is there and nothing of the machine that made it
    release = released / "release"
    names = {path.relative_to(release).as_posix() for path in release.rglob("*") if path.is_file()}
    assert names >= {
        "SHA256SUMS", "bom.cdx.json", "build.json", "builder.lock", "provenance.json", "recipe.yaml", "report.html",
        "project/net.py", "project/widths.py", "project/labels.txt", "signatures/artifact.sig",
        "signatures/provenance.dsse.json", "tiny.mlpackage/Manifest.json",
    }  # fmt: skip
    assert not any(name.startswith("project/unsteady") for name in names)
    recipe = yaml.safe_load((release / "recipe.yaml").read_text())
    assert recipe["spec"]["classifier"]["labels"] == "project/labels.txt"


def test_the_record_tells_of_both_builds_and_all_checks(released: Path) -> None:
    # given the build.json of a release, then its checks passed, and both builds had other surroundings, no network
    build = _json(released / "release" / "build.json")
    assert {check["name"]: check["passed"] for check in build["checks"]} == {"structure": True, "parity": True}
    first, second = build["release"]["builds"]
    assert first["digest"] == second["digest"] == artifact_digest(released / "release" / "tiny.mlpackage")
    for surrounding in ("hash_seed", "time_zone", "locale", "threads"):
        assert first[surrounding] != second[surrounding]
    assert {first["network"], second["network"]} <= {"namespace", "refused calls"}
    assert build["git"]["commit"] == build["release"]["commit"]


def test_the_provenance_has_the_published_types(released: Path) -> None:
    # given the provenance, when it is read as in-toto's and SLSA's own protobuf messages, which refuse unknown fields
    document = _json(released / "release" / "provenance.json")
    statement = json_format.ParseDict(document, Statement())
    provenance = json_format.ParseDict(document["predicate"], Provenance())
    # then both have every field that their specifications require
    assert statement.type == "https://in-toto.io/Statement/v1"
    assert statement.predicate_type == "https://slsa.dev/provenance/v1"
    assert all(subject.name and len(subject.digest["sha256"]) == 64 for subject in statement.subject)
    definition, details = provenance.build_definition, provenance.run_details
    assert definition.build_type
    assert definition.external_parameters["recipe"] == "tiny"
    assert details.builder.id
    assert details.metadata.invocation_id
    assert details.metadata.started_on.seconds <= details.metadata.finished_on.seconds
    for descriptor in [*definition.resolved_dependencies, *details.byproducts]:
        assert descriptor.uri or descriptor.digest  # a resource descriptor has at least one of them
    uris = {descriptor.uri for descriptor in definition.resolved_dependencies}
    assert any(uri.startswith("pkg:pypi/torch@") for uri in uris)


def test_the_bill_of_materials_is_valid(released: Path) -> None:
    from cyclonedx.schema import SchemaVersion
    from cyclonedx.validation.json import JsonStrictValidator  # takes a second, of each worker at the top

    # given the bill of materials, when CycloneDX's own strict schema of version 1.6 judges it, then it is valid
    text = (released / "release" / "bom.cdx.json").read_text()
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    # and it names model, data and tools
    document = json.loads(text)
    model = document["metadata"]["component"]
    assert model["type"] == "machine-learning-model"
    digest = artifact_digest(released / "release" / "tiny.mlpackage")
    assert model["hashes"] == [{"alg": "SHA-256", "content": digest.removeprefix("sha256:")}]
    metrics = {metric["type"] for metric in model["modelCard"]["quantitativeAnalysis"]["performanceMetrics"]}
    assert any(metric.startswith("parity.") for metric in metrics)
    assert {"labels.txt", "net.py"} <= {component["name"] for component in document["components"]}
    assert {"torch", "coremltools"} <= {tool["name"] for tool in document["metadata"]["tools"]["components"]}


def test_the_lock_of_a_release_is_that_of_the_project(released: Path) -> None:
    # given the lock in the release and that of the project, then the entry is the same
    assert lock.read_lock(released / "release")["tiny"] == lock.read_lock(released / "project")["tiny"]


VERIFY = """
import sys
from builder.__main__ import main
code = main(["verify", sys.argv[1], "--key", sys.argv[2]])
print(sorted({"torch", "torchvision", "coremltools", "mlflow", "numpy", "pandas"} & set(sys.modules)))
sys.exit(code)
"""


def test_verify_needs_no_torch(released: Path, tmp_path: Path) -> None:
    # given a signed release, copied to another place
    copy = tmp_path / "copy"
    shutil.copytree(released / "release", copy)
    # when it is verified in a fresh process
    done = subprocess.run(
        [sys.executable, "-c", VERIFY, str(copy), str(released / "public.pem")],
        cwd=REPOSITORY, capture_output=True, text=True, check=False,
    )  # fmt: skip
    # then it holds, the artifact's path is on stdout, and nothing heavy was imported
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [str(copy / "tiny.mlpackage"), "[]"]
    assert "signed with the key" in done.stderr


def test_another_key_is_refused(released: Path, tmp_path: Path) -> None:
    # given the public key of somebody else, when the release is verified with it, then it is refused
    _, public = write_keys(tmp_path)
    with pytest.raises(VerificationError, match=r"provenance\.dsse\.json has no signature of"):
        verify_release(released / "release", public_key=public)


def test_a_release_is_rebuilt_from_its_own_files(
    released: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    # given a release in a place without the project
    monkeypatch.chdir(tmp_path)
    shutil.copytree(released / "release", tmp_path / "copy")
    # when it is verified with a rebuild, then the bytes are the same, and the release itself is untouched
    assert main(["verify", "copy", "--rebuild"]) == 0
    assert "built again, to the same bytes" in capsys.readouterr().err
    verify_release(tmp_path / "copy", public_key=released / "public.pem")


def _another_artifact(released: Path, folder: Path) -> dict[str, Any]:
    """What a build would tell that made the artifact with another weight."""
    artifact = folder / "tiny.mlpackage"
    shutil.copytree(released / "release" / "tiny.mlpackage", artifact)
    weights = artifact / "Data" / "com.apple.CoreML" / "weights" / "weight.bin"
    content = bytearray(weights.read_bytes())
    content[128] ^= 1  # the first byte of the first blob: a header of the file, a record, each of 64 bytes, then data
    weights.write_bytes(content)
    return {"folder": str(folder), "artifact": {"name": artifact.name, "digest": artifact_digest(artifact)}}


def test_a_different_toolchain_is_told_from_what_is_not_reproducible(
    released: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # given a rebuild that gives another artifact
    release = verify_release(released / "release", public_key=None)
    told = _another_artifact(released, tmp_path)
    monkeypatch.setattr(rebuild, "build_from", lambda *_: told)
    # when the tools are the same, then it is not reproducible, and the weight is named
    with pytest.raises(VerificationError, match=r"not reproducible.*\n.*\n +weight .*: 1 of \d+ bytes differ"):
        rebuild.rebuild(release)
    # when a tool is another, then that is said with both versions
    versions = {**release.build["release"]["toolchain"], "coremltools": "9.9"}
    monkeypatch.setattr(rebuild, "toolchain", lambda _: versions)
    with pytest.raises(VerificationError, match=r"different toolchain.*\n +coremltools: 9\.0.* then, 9\.9 here"):
        rebuild.rebuild(release)


@pytest.mark.slow
def test_weights_that_differ_from_build_to_build_are_named(project: Path, tmp_path: Path) -> None:
    # given a factory that draws weights without a seed, and a lock with all its inputs
    built = {**BUILT, "labels": None, "project_files": [str(project / "unsteady.py")], "data": {}}
    from builder.config.compose import compose

    request = compose(["recipe=unsteady"])
    lock.update_lock(project, {"unsteady": lock.make_entry(request, built, project.resolve())})
    commit(project)
    # when it is released
    done = builder(project, "release", "recipe=unsteady", "-q", cache=tmp_path / "cache")
    # then it is refused with the name of the weight, and nothing is left behind
    assert done.returncode == 6, done.stderr
    assert "two builds gave two artifacts" in done.stderr
    assert "weight model_weight: " in done.stderr
    assert "bytes differ" in done.stderr
    assert done.stdout == ""
    assert not (project / "outputs" / "releases").exists()


@pytest.mark.parametrize("where", ["lock", "build"])
def test_seeded_weights_are_not_released(where: str, project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # given a lock that was made with untrained weights, or a build that falls back to them
    from builder.config.compose import compose

    request = compose(["recipe=tiny"])
    source = {**BUILT["source"], **({"seeded": True} if where == "lock" else {})}
    built = {**BUILT, "source": source, "project_files": [], "data": {}}
    lock.update_lock(project, {"tiny": lock.make_entry(request, built, project.resolve())})
    commit(project)
    monkeypatch.setattr(make, "build_here", lambda *_, **__: {**built, "seeded": True})
    order = make.Order(
        request=request, final=project / "outputs" / "r", outputs=project / "outputs", sign_key=None, quiet=True
    )
    # when it is released, then it is refused
    with pytest.raises(VerificationError, match="untrained, seeded weights"):
        make.make_release(order, print)


def test_a_dirty_tree_is_refused(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    # given a change that is not committed and a stray file
    (project / "widths.py").write_text("WIDTH = 5\n")
    (project / "stray.py").write_text("")
    # when the recipe is released, then both are named
    assert main(["release", "recipe=tiny"]) == 6
    said = capsys.readouterr()
    assert "widths.py" in said.err
    assert "stray.py (untracked)" in said.err
    assert said.out == ""


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["release.sign_kye=x"], "did you mean `release.sign_key`?"),
        (["release.sign_key="], "has no setting"),
        (["release.sign_key=nowhere.pem"], "cannot be read"),
        (["release.sign_key=labels.txt"], "holds no private key"),
        (["--output", "recipes"], "exists and is not a release"),
    ],
)
def test_a_wrong_command_line_is_explained(
    arguments: list[str], said: str, project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # given a mistake on the command line, when a release is asked for, then it is the user's to mend
    assert main(["release", "recipe=tiny", *arguments]) == ConfigurationError.exit_code
    assert said in capsys.readouterr().err


def test_verify_explains_what_is_no_release(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    # given nothing, no folder, and a folder without a manifest, then each is told
    assert main(["verify"]) == 2
    assert main(["verify", str(tmp_path / "none")]) == 2
    assert main(["verify", str(tmp_path)]) == 6
    assert "is not a release: it has no SHA256SUMS" in capsys.readouterr().err
