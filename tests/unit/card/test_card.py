"""Cards that say what was measured, read by the Hub's own parser; and their publication, on a stand-in for the Hub."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml
from huggingface_hub import ModelCard

from builder.__main__ import main
from builder.artifacts.origin import SourceOrigin
from builder.artifacts.record import BuildRecord
from builder.card.header import base_model, header, license_of
from builder.card.hub import read_address
from builder.card.render import render_card
from builder.errors import BuilderError
from builder.reports.build_json import read_build_json
from tests import warm
from tests.unit.card.hub import TOKEN, Hub, serving
from tests.unit.small_project import RECIPE, make_small_project

pytestmark = pytest.mark.filterwarnings("ignore:Use 'content")
"""The client itself uses what its transport deprecates."""

ROOT = Path(__file__).parents[3]
METADATA = 'metadata: {author: me, license: Apache 2.0, description: "Five numbers | of a [picture](x) <b>."}\n'


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("project")
    return make_small_project(folder, ["card", "recipe=small"], recipe=RECIPE + METADATA)


@pytest.fixture
def project(built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copytree(built, tmp_path / "project")
    monkeypatch.setenv("BUILDER_CACHE", str(built.parent / "store"))
    monkeypatch.chdir(tmp_path / "project")
    return tmp_path / "project"


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.setattr("huggingface_hub._commit_api.is_xet_available", lambda: False)
    with serving() as found:
        monkeypatch.setenv("HF_ENDPOINT", found.address)
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", found.address)  # it reads the variable when imported
        yield found


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"^```+{language}\n(.*?)^```+$", text, re.M | re.S)


def test_a_card_says_what_was_measured(project: Path) -> None:
    text = Path("outputs/cards/small/default/README.md").read_text()
    # the Hub's own parser reads the header
    card = ModelCard(text, ignore_metadata_errors=False)
    assert card.data.license == "apache-2.0"
    assert card.data.library_name == "coreml"
    (result,) = card.data.eval_results
    document = read_build_json(Path("outputs/small/default"))
    (parity,) = [check for check in document["checks"] if check["name"] == "parity"]
    assert result.metric_type == "snr_db"
    assert result.metric_value == pytest.approx(parity["values"]["y"]["snr_db"])
    # the facts are those of the record
    assert document["artifact"]["digest"] in text
    assert "| Multiply-accumulates | 25.1 k |" in text
    assert "| parity | runtime | passed |" in text
    assert "It was not measured on a device." in text
    assert "No check ran on Apple's frameworks" in text
    assert "Five numbers \\| of a \\[picture\\](x) &lt;b&gt;." in text
    assert "import CoreML" in blocks(text, "swift")[0]


def test_the_python_of_a_card_runs(project: Path) -> None:
    (code,) = blocks(Path("outputs/cards/small/default/README.md").read_text(), "python")
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "runtime")}
    folder = Path("outputs/small/default")
    done = subprocess.run(
        [warm.python(), "-c", code], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "'y'" in done.stdout


def test_licences_have_the_hubs_names() -> None:
    assert license_of("Apache 2.0") == {"license": "apache-2.0"}
    assert license_of("MIT") == {"license": "mit"}
    assert license_of("Only for cats") == {"license": "other", "license_name": "Only for cats"}
    assert license_of(" ") == {}


def test_untrained_weights_are_told_and_give_no_results(record: BuildRecord) -> None:
    seeded = dataclasses.replace(record, seeded=True)
    assert "UNTRAINED" in render_card(seeded)
    known = yaml.safe_load(header(record, "m").strip("-\n"))
    assert known["pipeline_tag"] == "image-classification"
    assert known["model-index"][0]["results"]
    assert "model-index" not in yaml.safe_load(header(seeded, "m").strip("-\n"))


@pytest.mark.parametrize(
    ("origin", "base"),
    [
        ({"kind": "huggingface", "name": "google/vit-base-patch16-224"}, "google/vit-base-patch16-224"),
        ({"kind": "huggingface", "name": "ViTConfig"}, ""),
        ({"kind": "torchvision", "name": "resnet18"}, ""),
    ],
)
def test_a_model_of_the_hub_is_named(record: BuildRecord, origin: SourceOrigin, base: str) -> None:
    assert base_model(dataclasses.replace(record, source=origin)) == base


def test_everything_is_one_commit(project: Path, hub: Hub, capsys: pytest.CaptureFixture[str]) -> None:
    # given a repository with a file of its owner's, and one of an earlier artifact
    hub.files = {"LICENSE": b"mine", "small.mlpackage/old.bin": b"old"}
    # when the build is published
    assert main(["publish", "--to", "hf://me/model", "recipe=small"]) == 0
    out, err = capsys.readouterr()
    # then one commit has the artifact, whole, with its card and record
    assert [each for each in hub.asked if "/commit/" in each] == ["POST /api/models/me/model/commit/main"]
    folder = Path("outputs/small/default")
    artifact = {
        f"small.mlpackage/{file.relative_to(folder / 'small.mlpackage').as_posix()}": file.read_bytes()
        for file in (folder / "small.mlpackage").rglob("*") if file.is_file()
    }  # fmt: skip
    assert artifact.items() <= hub.files.items()
    assert hub.large, "weights are uploaded as large files"
    assert set(hub.files) == {*artifact, "README.md", "build.json", "report.html", "LICENSE"}
    # and the revision is in the record and on stdout
    (published,) = read_build_json(folder)["published"]
    assert published["revision"] == hub.commits[-1] == out.strip()
    assert published["to"] == "hf://me/model"
    # and the token is nowhere
    written = [file.read_bytes() for file in Path("outputs").rglob("*") if file.is_file()]
    assert not any(TOKEN.encode() in content for content in [*written, *hub.files.values()])
    assert TOKEN not in out + err


def of_commits(hub: Hub) -> None:
    hub.refuse = "/commit/"


def of_uploads(hub: Hub) -> None:
    hub.refuse = "/objects/batch"


def of_repositories(hub: Hub) -> None:
    hub.refuse = "/api/"  # neither made nor looked at: where it is there, nothing has to be made


@pytest.mark.parametrize("refusal", [of_commits, of_uploads, of_repositories])
def test_a_refusal_leaves_everything_as_it_was(
    refusal: Callable[[Hub], None], project: Path, hub: Hub, capsys: pytest.CaptureFixture[str]
) -> None:
    hub.files = {"LICENSE": b"mine"}
    refusal(hub)
    assert main(["publish", "--to", "hf://me/model", "recipe=small"]) == 7
    assert hub.refused > 0
    out, err = capsys.readouterr()
    assert "B0711" in err
    assert "HF_TOKEN with the right to write" in err
    assert TOKEN not in out + err
    assert out == ""
    assert hub.files == {"LICENSE": b"mine"}
    assert hub.commits == []
    assert "published" not in read_build_json(Path("outputs/small/default"))


def test_a_hub_that_cannot_be_reached_is_told_once(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    assert main(["publish", "--to", "hf://me/model", "recipe=small"]) == 7
    error = capsys.readouterr().err
    assert error.count("refused") == 1
    assert "hint: is there a network?" in error


@pytest.mark.parametrize("text", ["me/model", "hf://model", "hf://a/b/c", "hf://../x", "hf://me/x y", "hf://me/-x"])
def test_what_is_not_a_repository_is_refused(text: str) -> None:
    with pytest.raises(BuilderError) as caught:
        read_address(text)
    assert caught.value.exit_code == 2


def test_a_release_of_the_same_bytes_goes_along(project: Path, hub: Hub, capsys: pytest.CaptureFixture[str]) -> None:
    # given what a release of this build holds, and one of other bytes
    release = Path("outputs/releases/small/default")
    shutil.copytree("outputs/small/default/small.mlpackage", release / "small.mlpackage")
    (release / "SHA256SUMS").write_text("…")
    assert main(["publish", "--to", "hf://me/model", "recipe=small"]) == 0
    assert "release/SHA256SUMS" in hub.files
    assert b"builder verify release" in hub.files["README.md"]
    # when the release is of other bytes, it does not, and the one before goes
    (release / "small.mlpackage/Manifest.json").write_text("{}")
    assert main(["publish", "--to", "hf://me/model", "recipe=small"]) == 0
    assert not any(name.startswith("release/") for name in hub.files)
    revisions = [each["revision"] for each in read_build_json(Path("outputs/small/default"))["published"]]
    assert revisions == hub.commits[::-1]
    json.dumps(revisions)
