"""Names stay inside their folders, a build replaces only what a build made, and secrets are not written anywhere."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from builder.config.folders import Library, open_library
from builder.config.hydra.overrides import RESERVED, why_unfit
from builder.errors import ConfigurationError
from builder.tracking import outbox
from builder.tracking.mlflow_store import folder_name
from builder.util import paths
from builder.util.redact import redacted, redacted_values

SETTINGS = settings(max_examples=80, deadline=None, suppress_health_check=list(HealthCheck))
NAMES = st.text(min_size=1, max_size=12) | st.sampled_from(["..", ".", "../../x", "/etc", "a/b", "x" * 999, "a\0", "ä"])


def build(place: Path, recipe: str, text: str) -> None:
    place.mkdir(parents=True)
    (place / "build.json").write_text(text)
    (place / f"{recipe}.mlmodel").write_text(text)


@SETTINGS
@given(st.sets(st.text("abc.", min_size=1, max_size=6).filter(lambda n: n.strip(".")), max_size=4), st.booleans())
def test_a_build_replaces_what_a_build_made_and_keeps_the_rest(names: set[str], folders: bool) -> None:
    with tempfile.TemporaryDirectory() as room:
        # given a published build with files of a person beside it
        final, finished = Path(room) / "outputs/net/default", Path(room) / "outputs/.building/net/default"
        build(final, "net", "old")
        build(finished, "net", "new")
        for name in names:
            if folders:
                (final / name).mkdir()
            (final / name / "inner" if folders else final / name).write_text(name)
        # when
        paths.refuse_foreign(final)
        kept = paths.carry_over(final, finished, "net")
        paths.publish(finished, final)
        # then
        assert set(kept) == names
        assert {(final / name / "inner" if folders else final / name).read_text() for name in names} == names
        assert (final / "net.mlmodel").read_text() == (final / "build.json").read_text() == "new"


@pytest.mark.parametrize(
    "make", [lambda p: p.mkdir() or (p / "notes").touch(), Path.touch, lambda p: p.symlink_to("x")]
)
def test_what_no_build_made_is_not_replaced(make, tmp_path):
    make(tmp_path / "default")
    with pytest.raises(ConfigurationError, match="no build made it"):
        paths.refuse_foreign(tmp_path / "default")


def test_an_empty_folder_may_be_replaced(tmp_path):
    paths.refuse_foreign(tmp_path / "nothing")
    paths.refuse_foreign(tmp_path)


@pytest.mark.parametrize("name", [*RESERVED, "Releases", ".outbox", "a\nb", "a\x1b[31mb", "a/b", ".."])
def test_what_lies_in_outputs_is_no_name_for_a_recipe(name):
    assert why_unfit(name) is not None


def test_every_folder_of_outputs_is_reserved():
    here = Path("outputs")
    own = [paths.broken_folder(here, "r", "v"), paths.outbox_folder(here), paths.tracking_database(here),
           paths.tracking_artifacts(here), here / "releases", here / "sweeps", here / "search"]  # fmt: skip
    assert all(why_unfit(path.relative_to(here).parts[0]) for path in own)


@SETTINGS
@given(NAMES, NAMES)
def test_an_option_and_a_recipe_lie_in_their_folders(group: str, name: str) -> None:
    with tempfile.TemporaryDirectory() as room:
        # given something at every place that the name could lead to
        library = Library(recipes=(Path(room) / "a/recipes",), options=(Path(room) / "a/conf",))
        for folder in (*library.recipes, *library.options):
            folder.mkdir(parents=True)
        for place in ("a/x.yaml", "x.yaml", "a/b.yaml"):
            (Path(room) / place).touch()
        for found in (library.recipe(name), library.option(group, name)):
            assert found is None or found.resolve().is_relative_to((Path(room) / "a").resolve() / found.parts[-2])


@pytest.mark.parametrize("name", ["../precision/fp32", "./fp32", "/fp32", "fp32/../fp16"])
def test_an_option_is_one_plain_name(name):
    assert open_library().option("precision", "fp32") is not None
    assert open_library().option("precision", name) is None


@SETTINGS
@given(NAMES)
def test_an_experiment_has_one_folder(name: str) -> None:
    folder = folder_name(name)
    assert folder not in ("", ".", "..")
    assert "/" not in folder
    assert "\0" not in folder
    assert len(folder) <= 200
    assert Path("/outputs/mlartifacts", folder).parent == Path("/outputs/mlartifacts")


@SETTINGS
@given(NAMES | st.none() | st.integers(), st.dictionaries(st.sampled_from(["uri", "files", "run"]), st.integers()))
def test_an_entry_of_another_name_than_its_file_is_damaged(identifier: object, changes: dict[str, int]) -> None:
    with tempfile.TemporaryDirectory() as room:
        outputs = Path(room) / "outputs"
        paths.outbox_folder(outputs).mkdir(parents=True)
        document = {"schema": 1, "identifier": identifier, "uri": None, "experiment": "x", "run": {}, "files": [],
                    "register_as": None, "alias": "newest", **changes}  # fmt: skip
        outbox.entry_path(outputs, "one").write_text(json.dumps(document))
        with pytest.raises(ValueError, match="damaged"):
            outbox.read(outputs, "one")


SECRETS = st.text("abcXYZ0189-_.~!$&*+,;", min_size=8, max_size=20).filter(lambda s: "secret" not in s)


@SETTINGS
@given(SECRETS, SECRETS, st.sampled_from(["http", "https", "postgresql", "mysql+pymysql", "s3"]))
def test_no_part_of_an_address_that_opens_a_door_is_left(user: str, word: str, scheme: str) -> None:
    word = quote(f"pw{word}", safe="")
    for address in (
        f"{scheme}://{quote(user, safe='')}:{word}@host.example:5000/api",
        f"{scheme}://host.example/api?token={word}&more=1",
        f"{scheme}://:{word}@host.example",
        f"{scheme}://me:{word}/x@host.example/api",
    ):
        for text in (address, f"(cannot reach {address}, sorry)", f"tracking.uri={address}", f"'{address}'"):
            assert word not in redacted(text)
            assert word not in json.dumps(redacted_values({"tracking": {"uri": [text]}}))
            assert "host.example" in redacted(text)
    for text in (
        f"MLFLOW_TRACKING_TOKEN={word}",
        f"api_key: {word}",
        f"Authorization: Bearer {word}",
        f"Bearer {word}",
    ):
        assert word not in redacted(text)


@pytest.mark.parametrize(
    "text", ["sqlite:////data/mlflow.db", "http://host:5000", "https://h/a@1.2/b", "a sentence: b"]
)
def test_other_texts_stay(text):
    assert redacted(text) == text
