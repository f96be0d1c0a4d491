"""An unchanged build is answered without building; after an edit both ways agree, and exactly what it concerns runs."""

from __future__ import annotations

import copy
import importlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import given as given_any
from hypothesis import strategies as st

import builder
from builder import noop
from builder.__main__ import main
from builder.store.actions import SCHEMA
from builder.store.digests import artifact_digest, canonical, digest_of

RECIPE = """\
schema: 1
defaults:
  - precision: fp32
  - target: ios16
  - compression: mine
  - checks: none
  - tracking: none
source:
  kind: checkpoint
  file: weights.safetensors
  factory: net:make
input:
  x: {kind: tensor, shape: [1, 8]}
classifier:
  labels: labels.txt
checks:
  structure: {kind: structure}
metadata:
  author: ${oc.env:NOOP_AUTHOR,nobody}
"""
NET = "from layers import body\n\n\ndef make():\n    return body()\n"
LAYERS = (
    "import torch\n\n\ndef body():\n    return torch.nn.Sequential(torch.nn.Linear(8, 600), torch.nn.Linear(600, 3))\n"
)
OPTION = "w8: {kind: linear_quantize, dtype: int8, weight_threshold: 100}\n"
ACTIVATIONS = "activations: {kind: quantize_activations, data: {kind: tensors, file: calibration.npz}}\n"
DATA_CHECK = "{kind: structure}\n  parity: {kind: parity, data: {kind: tensors, file: checked.npz}, snr_db: {min: 1}}"
LONG_AGO = 1_700_000_000
ARGUMENTS = ["recipe=tiny", "-q"]


class Project:
    """A folder with a tiny recipe and everything that it reads."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder = folder
        self._capsys = capsys
        for name in ("recipes", "conf/compression"):
            (folder / name).mkdir(parents=True)
        self.write("recipes/tiny.yaml", RECIPE)
        self.write("conf/compression/mine.yaml", OPTION)
        self.write("net.py", NET)
        self.write("layers.py", LAYERS)
        self.write("labels.txt", "a\nb\nc\n")
        self.weights(seed=1)

    def write(self, name: str, text: str) -> None:
        (self.folder / name).write_text(text)

    def weights(self, seed: int) -> None:
        """Write the weights that a seed gives."""
        import torch
        from safetensors.torch import save_file

        generator = torch.Generator().manual_seed(seed)
        shapes = {"0.weight": (600, 8), "0.bias": (600,), "1.weight": (3, 600), "1.bias": (3,)}
        tensors = {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}
        save_file(tensors, self.folder / "weights.safetensors")

    def build(self, *more: str) -> set[str]:
        """Build, and return the stages that ran."""
        for name in ("net", "layers"):
            sys.modules.pop(name, None)
        importlib.invalidate_caches()
        before = self.written()
        code = main([*ARGUMENTS, *more])
        out, err = self._capsys.readouterr()
        assert code == 0, err
        assert Path(out.splitlines()[-1]).exists()
        if self.written() == before:
            return set()
        document = json.loads((self.folder / "outputs/tiny/default/build.json").read_text())
        return {stage["name"] for stage in document["stages"] if not stage["cached"]} or {"(restored)"}

    def written(self) -> int | None:
        """When the last build was published."""
        place = self.folder / "outputs/tiny/default/build.json"
        return place.stat().st_ctime_ns if place.exists() else None

    def is_current_quickly(self) -> bool:
        """What the fast path says."""
        answer = noop.answer(ARGUMENTS)
        self._capsys.readouterr()
        return answer == 0

    def is_current_slowly(self) -> bool:
        """What the long way says."""
        from builder.config.compose import compose
        from builder.engine.plan import current_artifact

        return current_artifact(compose(["recipe=tiny"]), outputs=Path("outputs")) is not None

    @property
    def artifact(self) -> Path:
        return self.folder / "outputs/tiny/default/tiny.mlpackage"


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Project]:
    """A project that was built once, in a store of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BUILDER_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("NOOP_AUTHOR", raising=False)
    made = Project(tmp_path, capsys)
    assert made.build() == set(STAGES)
    assert made.is_current_quickly()
    assert made.is_current_slowly()
    yield made
    for name in ("net", "layers"):
        sys.modules.pop(name, None)


STAGES = ("load", "prepare", "capture", "convert", "compress", "seal", "verify")
Edit = Callable[[Project, pytest.MonkeyPatch], None]


def fake_tool(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another version of what compress alone uses, first on the path."""
    info = project.folder / "elsewhere" / "threadpoolctl-99.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: threadpoolctl\nVersion: 99.0\n")
    monkeypatch.syspath_prepend(str(info.parent))


def flip(file: Path) -> None:
    """Change one byte, and hide it from anybody who looks at size and time of modification only."""
    stat = file.stat()
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(bytes(data))
    os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns))


EDITS: dict[str, tuple[Edit, set[str]]] = {
    "recipe, a check": (
        lambda p, _: p.write(
            "recipes/tiny.yaml", RECIPE.replace("{kind: structure}", "{kind: structure, bytes: {max: 1.0e9}}")
        ),
        {"verify"},
    ),
    "recipe, precision": (lambda p, _: p.write("recipes/tiny.yaml", RECIPE.replace("fp32", "fp16")), {*STAGES[3:]}),
    "recipe, a comment": (lambda p, _: p.write("recipes/tiny.yaml", f"# hello\n{RECIPE}"), set()),
    "included group": (
        lambda p, _: p.write("conf/compression/mine.yaml", OPTION.replace("100", "2000")),
        {"compress", "seal", "verify"},
    ),
    "factory": (
        lambda p, _: p.write("net.py", NET.replace("body()", "body().append(__import__('torch').nn.ReLU())")),
        set(STAGES),
    ),
    "factory, a comment": (lambda p, _: p.write("net.py", f"# hello\n{NET}"), {"load", "prepare", "capture", "verify"}),
    "imported module": (
        lambda p, _: p.write("layers.py", LAYERS.replace("(600, 3))", "(600, 3), torch.nn.Tanh())")),
        set(STAGES),
    ),
    "weights": (lambda p, _: p.weights(seed=2), set(STAGES)),
    "label file": (
        lambda p, _: p.write("labels.txt", "a\nb\nd\n"),
        {"prepare", "convert", "compress", "seal", "verify"},
    ),
    "tool version": (fake_tool, {"compress"}),
    "environment": (lambda p, m: m.setenv("NOOP_AUTHOR", "somebody"), {"seal", "verify"}),
    "artifact tampered with": (
        lambda p, _: flip(p.artifact / "Data/com.apple.CoreML/weights/weight.bin"),
        {"(restored)"},
    ),
    "artifact deleted": (lambda p, _: shutil.rmtree(p.artifact), {"(restored)"}),
    "a file added to the artifact": (lambda p, _: p.write("outputs/tiny/default/tiny.mlpackage/x", ""), {"(restored)"}),
    "report deleted": (lambda p, _: (p.artifact.parent / "report.html").unlink(), {"(restored)"}),
}


OFTEN = ("recipe, a check", "recipe, a comment", "factory", "imported module", "weights", "artifact tampered with")


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[] if name in OFTEN else pytest.mark.slow) for name in EDITS]
)
def test_an_edit_runs_exactly_the_stages_that_it_concerns(
    name: str, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    edit, concerned = EDITS[name]
    # when
    edit(project, monkeypatch)
    # then both ways agree: the quick one may pass a question on, but says "up to date" only where the long one does
    quickly, slowly = project.is_current_quickly(), project.is_current_slowly()
    assert slowly is (concerned == set())
    assert quickly <= slowly
    assert project.build() == concerned
    # and then both find it up to date
    assert project.is_current_slowly()
    assert project.build() == set()
    assert project.is_current_quickly()


def test_a_touched_but_equal_file_runs_nothing_and_is_answered_quickly(project: Project) -> None:
    for name in ("recipes/tiny.yaml", "net.py", "layers.py", "weights.safetensors", "labels.txt"):
        os.utime(project.folder / name, (LONG_AGO, LONG_AGO))
        assert project.is_current_quickly(), name
        assert project.is_current_slowly(), name


@pytest.mark.slow
def test_data_counts_by_content_in_the_stages_that_read_it(project: Project) -> None:
    # given a recipe that measures activations on one file of data, and holds the artifact against another
    def write_data(name: str, seed: int) -> None:
        values = np.random.default_rng(seed).normal(size=(4, 8)).astype(np.float32)
        np.savez(project.folder / f"{name}.npz", x=values)

    for name in ("calibration", "checked"):
        write_data(name, 1)
    recipe = RECIPE.replace("ios16", "ios17").replace("{kind: structure}", DATA_CHECK)
    project.write("recipes/tiny.yaml", recipe)
    project.write("conf/compression/mine.yaml", OPTION + ACTIVATIONS)
    project.build()
    assert project.is_current_quickly()
    # when each changes, then exactly the stages that read it run
    write_data("checked", 2)
    assert not project.is_current_quickly()
    assert project.build() == {"verify", "measure"}
    write_data("calibration", 2)
    assert not project.is_current_slowly()
    assert project.build() == {"compress", "seal", "verify", "measure"}
    # and when both are written again as they were, none does
    for name in ("calibration", "checked"):
        write_data(name, 2)
    assert project.is_current_slowly()
    assert project.build() == set()


@pytest.mark.slow
def test_a_module_that_hides_another_is_seen(project: Project) -> None:
    # when a package is added that Python prefers to the module of the same name
    (project.folder / "layers").mkdir()
    project.write("layers/__init__.py", LAYERS.replace("Linear(600, 3))", "Linear(600, 3), torch.nn.ReLU())"))
    # then
    assert not project.is_current_quickly()
    assert project.build() == set(STAGES)


def test_an_edit_during_a_build_leaves_nothing_that_answers_for_it(project: Project) -> None:
    # given an edit whose time lies after the start of the build, as an edit during a build does
    project.write("labels.txt", "a\nb\ne\n")
    ahead = 2_000_000_000  # seconds: in the year 2033, as after a clock that was set back
    os.utime(project.folder / "labels.txt", (ahead, ahead))
    # when
    assert "convert" in project.build()
    # then the long way decides
    assert not project.is_current_quickly()
    assert project.build() == set()


def test_paranoid_compares_contents(project: Project) -> None:
    # given a manifest that says of a file with another content that it is unchanged
    path = Path(noop.manifest_path(ARGUMENTS))
    manifest = noop.read_manifest(str(path))
    project.write("labels.txt", "a\nb\nf\n")
    for entry in manifest["files"]:
        if entry[0].endswith("labels.txt"):
            entry[1] = noop.stat_of(entry[0])
    noop.write_manifest(str(path), manifest)
    assert project.is_current_quickly()
    # then
    assert noop.answer([*ARGUMENTS, "--paranoid"]) is None


def test_a_cached_build_imports_nothing_heavy(project: Project) -> None:
    # given an output that is gone, so that the long way must restore it
    shutil.rmtree(project.folder / "outputs")
    code = (
        "import sys; from builder.__main__ import main; code = main(['recipe=tiny', '-q']);"
        "heavy = {'torch', 'coremltools', 'mlflow', 'pandas', 'numpy', 'rich', 'jinja2'};"
        "print(code, sorted(heavy & set(sys.modules)))"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(builder.__file__).parents[1])}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert done.stdout.splitlines()[-1] == "0 []", done.stderr
    stages = json.loads((project.folder / "outputs/tiny/default/build.json").read_text())["stages"]
    assert all(stage["cached"] for stage in stages)


def test_the_fast_path_imports_next_to_nothing(project: Project) -> None:
    code = (
        "import sys; from builder.__main__ import main; code = main(['recipe=tiny', '-q']);"
        "print(code, sorted({'pathlib', 'typing', 'traceback', 'argparse', 'hydra', 'pydantic'} & set(sys.modules)))"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(builder.__file__).parents[1])}
    command = [sys.executable, "-S", "-c", code]
    (project.folder / "outputs/tiny/default/report.html").touch()
    # given the manifest of this very interpreter, which has no site-packages: that of the other, renamed
    identity = "import sys; from builder import noop; print(noop.manifest_path(['recipe=tiny', '-q']));"
    identity += "import json; print(json.dumps(noop.identity_digest(['recipe=tiny', '-q'])))"
    printed = subprocess.run(
        [sys.executable, "-S", "-c", identity], capture_output=True, text=True, check=True, env=environment
    ).stdout.splitlines()
    manifest = noop.read_manifest(noop.manifest_path(ARGUMENTS))
    noop.write_manifest(printed[0], {**manifest, "identity": json.loads(printed[1])})
    # when
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    # then
    assert done.stdout.splitlines() == ["outputs/tiny/default/tiny.mlpackage", "0 []"]


def test_the_cache_folder_is_the_one_of_platformdirs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import platformdirs

    monkeypatch.delenv("BUILDER_CACHE")
    for given in (None, str(tmp_path), ""):
        if given is None:
            monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
        else:
            monkeypatch.setenv("XDG_CACHE_HOME", given)
        assert noop.cache_folder() == platformdirs.user_cache_dir("builder")


@pytest.mark.parametrize(
    ("later", "changed", "holds"),
    [
        (10, {}, True),
        (601, {}, False),
        (-1, {}, False),
        (10, {"answer": "connected"}, False),
        (10, {"routes": [["eth0"]]}, False),
    ],
)
def test_a_fallback_holds_while_the_network_looks_as_it_did(
    later: float, changed: dict[str, object], holds: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    # given weights that could not be downloaded
    state = {"proxies": [], "routes": [], "names": [], "answer": "unresolved"}
    evidence = {"at": 1000.0, "url": "https://weights.example/x", "state": state}
    # when the same is asked for later
    monkeypatch.setattr(noop, "network_state", lambda _: {**state, **changed})
    monkeypatch.setattr("time.time", lambda: 1000.0 + later)
    # then
    assert noop.still_offline(evidence) is holds


def test_a_probe_notices_that_a_server_answers_again(monkeypatch: pytest.MonkeyPatch) -> None:
    import socket

    for name in noop._PROXIES:
        monkeypatch.delenv(name, raising=False)
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"http://127.0.0.1:{server.getsockname()[1]}/weights.pth"
        assert noop.network_state(url)["answer"] == "connected"
    assert noop.network_state(url)["answer"] != "connected"


def test_another_precision_loads_no_model(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    # given a store that has the captured program
    monkeypatch.setattr("builder.stages.load.load", lambda *_: pytest.fail("the model was loaded"))
    # when
    project.write("recipes/tiny.yaml", RECIPE.replace("fp32", "fp16"))
    # then
    assert project.build() == {*STAGES[3:]}


def test_what_a_killed_build_left_is_tidied_away(project: Project) -> None:
    # given the lock of a build that was killed after it had published
    lock = project.folder / "outputs/.building/tiny/default.lock"
    lock.parent.mkdir(parents=True)
    lock.touch()

    # when the next build runs, then no way answers before it is gone
    assert not project.is_current_quickly()
    assert not project.is_current_slowly()
    assert project.build() == {"(restored)"}
    assert not lock.parent.parent.exists()
    assert project.is_current_quickly()
    assert project.is_current_slowly()


DAMAGES = st.sampled_from([None, 5, "x", [], {}, "../../x", [[]], {"a": 1}, True, "sha256:" + "0" * 64])


def places(value: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The way to every value in a JSON document."""
    yield at
    children = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, child in children:
        yield from places(child, (*at, name))


@pytest.mark.slow
def test_whatever_a_result_says_a_build_ends_well(project: Project, capsys: pytest.CaptureFixture[str]) -> None:
    """Every value of what the store has of each stage, one after the other, with a digest that fits."""
    # given
    found = []
    for file in sorted((project.folder / "cache/store/actions").glob("*/*.json")):
        body = json.loads(file.read_text())["action"]
        for part in ("output", "record", "objects"):
            found += [(file, body, (part, *place)) for place in places(body[part])]

    @settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
    @given_any(st.sampled_from(found), DAMAGES)
    def check(where: tuple[Path, Any, tuple[Any, ...]], value: object) -> None:
        file, body, place = where
        whole = file.read_bytes()
        changed = parent = copy.deepcopy(body)
        for name in place[:-1]:
            parent = parent[name]
        parent[place[-1]] = value
        file.write_text(canonical({"schema": SCHEMA, "digest": digest_of(changed), "action": changed}))
        shutil.rmtree(project.folder / "outputs", ignore_errors=True)
        # when
        code = main(ARGUMENTS)
        out, err = capsys.readouterr()
        # then: a result that is well formed but another may be believed; what is published is what is said
        assert "Traceback" not in err, (file, place, value, err)
        if code == 0:
            artifact = Path(out.splitlines()[-1])
            said = json.loads((artifact.parent / "build.json").read_text())
            assert said["artifact"]["digest"] == artifact_digest(artifact)
        file.write_bytes(whole)

    check()
