"""A search under fire: killed half-way and given again, it ends with all its trials, none twice, in one study."""

from __future__ import annotations

import csv
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import builder

from .conftest import Project

DRIVER = Path(__file__).with_name("search_driver.py")
RECIPE = """\
schema: 1
defaults: [{precision: fp16}, {target: ios16}, {checks: default}, {tracking: none}]
source: {kind: torchvision, name: mobilenet_v2}
input:
  image: {kind: image, shape: [1, 3, 32, 32], scale: 1}
"""
SEARCH = """\
space:
  precision: {kind: choice, choices: [fp16, fp32]}
  method: {setting: compression, kind: choice, choices: [none, int8, prune_50]}
  sparsity:
    {setting: compression.prune_50.target_sparsity, kind: float, min: 0.1, max: 0.9, when: {method: [prune_50]}}
  seed: {kind: integer, min: 0, max: 50}
objectives:
  size: {measure: artifact.bytes, goal: minimize}
  quality: {measure: checks.parity.snr_db, goal: maximize}
trials: 40
"""


@pytest.fixture
def start(tmp_path: Path) -> Callable[..., subprocess.Popen[str]]:
    """Start a search whose builds answer at once, beside `recipes/x.yaml` and `conf/search/mine.yaml`."""
    for name, text in {"recipes/x.yaml": RECIPE, "conf/search/mine.yaml": SEARCH}.items():
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_text(text)
    environment = {
        **os.environ,
        "BUILDER_CACHE": str(tmp_path / "cache"),
        "PYTHONPATH": str(Path(builder.__file__).parents[1]),
    }

    def run(*more: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-W", "error", str(DRIVER), "search", "recipe=x", "search=mine", *more],
            cwd=tmp_path,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    return run


def rows(folder: Path) -> list[dict[str, str]]:
    file = folder / "outputs/search/x/mine/trials.csv"
    return list(csv.DictReader(file.read_text().splitlines())) if file.exists() else []


def wait_for(condition: Callable[[], Any], process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 300
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.slow
def test_forty_trials_killed_half_way_are_forty_in_the_end_and_none_twice(
    start: Callable[..., subprocess.Popen[str]], tmp_path: Path
) -> None:
    # given a search of 40 trials that is killed half-way
    killed = start()
    wait_for(lambda: len(rows(tmp_path)) >= 20, killed)
    os.killpg(killed.pid, signal.SIGKILL)
    killed.communicate()
    before = rows(tmp_path)
    assert 20 <= len(before) < 40

    # when it is given again
    again = start()
    out, err = again.communicate(timeout=300)

    # then it goes on, and ends with all 40, those from before among them
    assert again.returncode == 0, err
    assert "going on: 2" in err
    after = rows(tmp_path)
    assert [int(row["trial"]) for row in after] == list(range(1, 41))
    assert [row["arguments"] for row in after][:19] == [row["arguments"] for row in before][:19]
    assert {row["state"] for row in after} >= {"complete", "failed"}
    assert all(row["reason"] == "it cannot be converted" for row in after if row["state"] == "failed")

    # and none twice, in one study; only the trial that was running when it was killed may be built again
    assert len({row["arguments"] for row in after}) == 40
    built = (tmp_path / "built.txt").read_text().splitlines()
    assert len(set(built)) == 40
    assert len(built) <= 41
    optuna = pytest.importorskip("optuna")
    storage = f"sqlite:///{tmp_path}/outputs/search/x/mine/study.db"
    assert optuna.study.get_all_study_names(storage) == ["search"]
    states = [t.state.name for t in optuna.load_study(storage=storage, study_name="search").get_trials()]
    assert len(states) == 40
    assert {*states} == {"COMPLETE", "FAIL"}

    # and the winner is a recipe, and the plot a page that needs no other file
    assert out.strip() == "recipes/x_mine.yaml"
    page = (tmp_path / "outputs/search/x/mine/front.html").read_text()
    assert not re.search(r"<(script|link|img)[^>]*\b(src|href)=", page)
    assert (tmp_path / "outputs/search/x/mine/front.png").read_bytes().startswith(b"\x89PNG")

    # and asked for once more, nothing is left to do
    last = start()
    assert (last.communicate(timeout=300)[0].strip(), last.returncode) == ("recipes/x_mine.yaml", 0)
    assert len((tmp_path / "built.txt").read_text().splitlines()) == len(built)


@pytest.mark.slow
def test_a_search_of_real_builds_prunes_what_is_beaten_and_its_winner_builds(
    make_project: Callable[[], Project],
) -> None:
    # given a tiny recipe with a check of quality, and three settings, of which the last is larger and worse
    project = make_project()
    recipe = project.folder / "recipes/tiny.yaml"
    recipe.write_text(recipe.read_text() + "  parity: {kind: parity, samples: 6, snr_db: {min: 1}}\n")
    (project.folder / "conf/search").mkdir(parents=True)
    (project.folder / "conf/search/three.yaml").write_text("""\
space:
  threshold: {setting: compression.int8.weight_threshold, kind: choice, choices: [100, 2000]}
  mode: {setting: compression.int8.granularity, kind: choice, choices: [per_channel, per_tensor]}
objectives:
  size: {measure: artifact.bytes, goal: minimize}
  quality: {measure: checks.parity.output.snr_db, goal: maximize}
constraints:
  small: {measure: artifact.bytes, max: 14000}
sampler: grid
trials: 3
""")

    # when it is searched, and tracked by a server that does not answer
    process = project.start("search=three", "tracking=mlflow", "tracking.uri=http://127.0.0.1:9", verb="search")
    out, err = process.communicate(timeout=300)

    # then what is too large was stopped before its check, and the rest was measured on the artifact
    assert process.returncode == 0, err
    table = list(csv.DictReader((project.folder / "outputs/search/tiny/three/trials.csv").read_text().splitlines()))
    assert [row["state"] for row in table] == ["complete", "complete", "pruned"]
    assert table[2]["reason"].startswith("artifact.bytes is at least 1")
    assert not list(project.folder.glob("outputs/tiny/*2000*/build.json"))
    for row in table[:2]:
        document = json.loads((project.folder / row["artifact"]).with_name("build.json").read_text())
        assert int(float(row["size"])) == document["artifact"]["bytes"]
        (parity,) = [check for check in document["checks"] if check["name"] == "parity"]
        assert float(row["quality"]) == parity["values"]["output"]["snr_db"]

    # and each trial has a run, the pruned one too, beside that of the whole search
    entries = [json.loads(file.read_text())["run"] for file in project.folder.glob("outputs/.outbox/*.json")]
    kinds = {run["tags"].get("builder.kind", "build"): run for run in entries}
    assert sorted(run["tags"].get("builder.kind", "build") for run in entries) == ["build", "build", "search", "trial"]
    assert kinds["trial"]["status"] == "KILLED"
    assert kinds["trial"]["tags"]["reason"] == table[2]["reason"]
    assert kinds["trial"]["params"]["compression.int8.weight_threshold"] == "2000"
    assert len({run["tags"]["sweep_id"] for run in entries}) == 1

    # and the winner is an ordinary recipe, whose artifact is that of its trial
    assert out.strip() == "recipes/tiny_three.yaml"
    (winner,) = [row for row in table if f"trial {row['trial']} of" in (project.folder / out.strip()).read_text()]
    done = project.start(recipe="tiny_three")
    printed, said = done.communicate(timeout=300)
    assert done.returncode == 0, said
    document = json.loads((project.folder / printed.strip()).with_name("build.json").read_text())
    assert document["artifact"]["digest"] == winner["digest"]
