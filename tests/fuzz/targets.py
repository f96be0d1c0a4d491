"""What is fed with what: for each reader a strategy of examples, each of which writes a project and names commands."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import safetensors.numpy
import yaml
from hypothesis import strategies as st
from PIL import Image

from tests.fuzz.damage import TEXTS, changed, damaged_archive, damaged_bytes, damaged_folder
from tests.fuzz.honest import KINDS, NET, OF_FILE, RECIPE, Honest

Commands = Sequence[Sequence[str]]
Example = Callable[[Path], Commands]


@dataclass(frozen=True, kw_only=True)
class Target:
    """A reader, and how many examples a whole run has."""

    name: str
    count: int
    examples: Callable[[], st.SearchStrategy[Example]]


def targets(honest: Honest) -> dict[str, Target]:
    """All targets by name."""
    made = [
        Target(name="recipes", count=5000, examples=_recipes),
        Target(name="commands", count=5000, examples=lambda: _commands(honest)),
        Target(name="packages", count=20_000, examples=lambda: _packages(honest)),
        Target(name="aimodels", count=5000, examples=lambda: _aimodels(honest)),
        *(
            Target(name=suffix[1:], count=5000, examples=lambda suffix=suffix: _archives(honest, suffix))
            for suffix in honest.files
        ),
        Target(name="inputs", count=5000, examples=lambda: _inputs(honest)),
        Target(name="stores", count=2000, examples=lambda: _stores(honest)),
        Target(name="records", count=2000, examples=lambda: _records(honest)),
        Target(name="releases", count=2000, examples=lambda: _releases(honest)),
    ]
    return {target.name: target for target in made}


def _project(folder: Path, recipe: str | bytes = RECIPE, net: str = NET) -> None:
    (folder / "recipes").mkdir(exist_ok=True)
    content = recipe if isinstance(recipe, bytes) else recipe.encode("utf-8", "replace")
    (folder / "recipes/r.yaml").write_bytes(content)
    (folder / "net.py").write_text(net)


HOSTILE_YAML = st.sampled_from(
    [
        b"a: &a [x]\nb: &b [*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b]\nd: [*c,*c,*c,*c]\n",
        b"!!python/object/apply:os.system [id]\n",
        b"source: !!python/name:os.system\n",
        b"<<: {a: 1}\n",
        b"\xff\xfe",
        b"\xef\xbb\xbfschema: 1\n",
        "schema: 1\n".encode("utf-16"),
        b"? [a, b]\n: c\n",
        b"a: 1\na: 2\n",
        b"--- \n---\n",
        b"[" * 3000,
        b"{a: " * 3000,
        b"- " * 3000,
        b"a: !!binary x\n",
        b"a: 2026-13-45\n",
        b"a: &x {b: *x}\n",
        b"x" * 100_000,
        b"a: ${a}\n",
        b"a: ${oc.env:HOME}\n",
        b"defaults: [r]\n",
        b"defaults: [{r: r}]\n",
        b"defaults: ..\n",
        b"\0",
        b"%YAML 9\n",
        b"a: 0o7777777777777777777777777\n",
        b"a: 1e999999\n",
        b"a: 190:20:30\n",
        b"a: .nan\n",
        b"a: " + b"9" * 5000 + b"\n",
    ]
)


@st.composite
def _recipes(draw: st.DrawFn) -> Example:
    """A recipe that is damaged, changed, hostile, or anything at all; `show`, `plan` and `list` read it."""
    match draw(st.integers(0, 5)):
        case 0:
            content = draw(damaged_bytes(RECIPE.encode()))
        case 1:
            content = RECIPE.encode() + draw(HOSTILE_YAML)
        case 2:
            content = draw(HOSTILE_YAML | st.binary(max_size=200))
        case _:
            document = draw(changed(yaml.safe_load(RECIPE)))
            content = json.dumps(document, ensure_ascii=draw(st.booleans())).encode("utf-8", "surrogatepass")
    verb = draw(st.sampled_from([["show", "recipe=r"], ["plan", "recipe=r"], ["list"]]))

    def write(folder: Path) -> Commands:
        _project(folder, content, net="def make():\n    raise ValueError('made')\n")
        return [verb]

    return write


VERBS = (
    "build",
    "plan",
    "debug",
    "choose",
    "lint",
    "diff",
    "gc",
    "list",
    "show",
    "schema",
    "init",
    "predict",
    "lock",
    "verify",
    "search",
    "doctor",
)
OPTIONS = (
    "-q",
    "-v",
    "--outputs",
    "--paranoid",
    "--locked",
    "-h",
    "--older-than",
    "--larger-than",
    "--dry-run",
    "--output",
    "--key",
    "--precision",
    "--function",
    "--top",
    "--short",
    "--samples",
    "--check",
    "-m",
    "--",
    "-",
    "--no",
)
KEYS = (
    "source.factory",
    "source.seed",
    "input.x.shape",
    "precision",
    "target",
    "compression",
    "checks",
    "tracking",
    "metadata",
    "format",
    "a",
    "",
    "..",
    "source",
    "recipe",
    "~checks",
    "+x.y",
    "++source.seed",
    "hydra.run.dir",
    "sweep.jobs",
    "tracking.experiment",
    "metadata.author",
    "data.d",
    "capture.method",
)
VALUES = TEXTS | st.sampled_from(
    [
        "null",
        "[]",
        "{}",
        "[1,2]",
        "{a:1}",
        "1",
        "-1",
        "1e99",
        "auto",
        "fp16",
        "int8",
        "${source.seed}",
        "a,b",
        "glob(*)",
        "r",
        "range(0,3)",
        "range(0,1e9)",
        "range(nan,1)",
        "range(1,2,0)",
        "shuffle(range(0,1e12))",
        "sort(3,1)",
        "choice(1)",
        "'",
        '"',
        "interval(0,1)",
        "/dev/zero",
        "m.mlmodel",
        "int8,fp16",
        "\\",
        "net:make",
        "os:getcwd",
        "${oc.env:X}",
        "${",
        "%",
        "#",
    ]
)


def _commands(honest: Honest) -> st.SearchStrategy[Example]:
    """Any words on the command line of a project with a recipe whose model cannot be made, and with a model."""
    override = st.tuples(st.sampled_from(KEYS), VALUES).map("=".join)
    word = (
        override | st.sampled_from(["recipe=r", "m.mlmodel", "x=1", "outputs", "."]) | VALUES | st.sampled_from(OPTIONS)
    )
    line = st.tuples(st.sampled_from(VERBS).map(lambda verb: [verb]) | st.just([]), st.lists(word, max_size=5))

    def example(line: tuple[list[str], list[str]]) -> Example:
        def write(folder: Path) -> Commands:
            _project(folder, net="def make():\n    raise ValueError('made')\n")
            (folder / "m.mlmodel").write_bytes(honest.files[".mlmodel"])
            words = [word.replace("\0", "") for part in line for word in part]
            if "-m" in words or "--multirun" in words:
                _expand([word for word in words if not word.startswith("-")])
                words = [word for word in words if word not in ("-m", "--multirun")]
            return [[word.encode("utf-8", "replace").decode() for word in words]]

        return write

    return line.map(example)


def _expand(overrides: list[str]) -> None:
    """Expand a sweep, whose jobs would each be a process of seconds."""
    from builder.config.compose import sweep
    from builder.config.hydra.overrides import MOST_JOBS
    from builder.errors import ConfigurationError

    with contextlib.suppress(ConfigurationError):
        assert len(sweep(overrides)) <= MOST_JOBS


def _looks(place: str, other: str) -> st.SearchStrategy[list[list[str]]]:
    """Commands that look at an artifact or execute it."""
    return st.sampled_from(
        [
            ["init", place],
            ["lint", place],
            ["predict", place, "x=1"],
            ["diff", place, other],
            ["predict", place, "x=x.npy"],
        ]
    ).map(lambda command: [command])


@st.composite
def _packages(draw: st.DrawFn, honest: Honest) -> Example:
    """A package with damaged files, links, pipes and devices, or a damaged manifest."""
    damage, commands = draw(damaged_folder(honest.package)), draw(_looks("m.mlpackage", "m.mlpackage"))

    def write(folder: Path) -> Commands:
        damage(folder / "m.mlpackage")
        return commands

    return write


@st.composite
def _aimodels(draw: st.DrawFn, honest: Honest) -> Example:
    """The same of an `.aimodel`."""
    damage = draw(damaged_folder(honest.aimodel) | damaged_folder(honest.aimodel, ["metadata.json"]))
    command = draw(
        st.sampled_from(
            [
                ["init", "m.aimodel"],
                ["lint", "m.aimodel"],
                ["predict", "m.aimodel", "image=p.png", "flag=1"],
                ["diff", "m.aimodel", "whole.aimodel"],
                ["package", "m.aimodel", "--output", "swift"],
                ["device", "pack", "m.aimodel", "-o", "pack"],
                ["export", "m.aimodel", "-o", "x.pt2"],
            ]
        )
    )

    def write(folder: Path) -> Commands:
        damage(folder / "m.aimodel")
        (folder / "p.png").write_bytes(_pictures()["PNG"])
        for name, content in honest.aimodel.items():
            (folder / "whole.aimodel").mkdir(exist_ok=True)
            (folder / "whole.aimodel" / name).write_bytes(content)
        return [command]

    return write


@cache
def _pictures() -> dict[str, bytes]:
    """A small picture of each kind."""
    found = {}
    for kind in ("PNG", "JPEG", "GIF", "TIFF", "WEBP", "BMP", "PPM", "TGA", "JPEG2000"):
        stream = io.BytesIO()
        Image.linear_gradient("L").resize((9, 7)).convert("RGB").save(stream, kind)
        found[kind] = stream.getvalue()
    return found


@cache
def _arrays() -> dict[str, bytes]:
    """Arrays as files have them."""
    npy, npz, folded = io.BytesIO(), io.BytesIO(), io.BytesIO()
    np.save(npy, np.ones((1, 8), np.float32))
    np.savez(npz, x=np.ones((3, 8), np.float32))
    np.savez_compressed(folded, x=np.ones((3, 8), np.float32))
    tensors = safetensors.numpy.save({"x": np.ones((3, 8), np.float32)})
    return {"a.npy": npy.getvalue(), "a.npz": npz.getvalue(), "b.npz": folded.getvalue(), "a.safetensors": tensors}


@st.composite
def _inputs(draw: st.DrawFn, honest: Honest) -> Example:
    """Damaged arrays and pictures: given to an artifact, or the data of a build's check."""
    kind = draw(st.sampled_from([*_pictures(), *_arrays()]))
    content = draw(damaged_bytes({**_pictures(), **_arrays()}[kind]))
    is_picture = kind in _pictures()
    name = "p.png" if is_picture else kind
    command = ["predict", "m.aimodel", f"image={name}", "flag=1"] if is_picture else ["predict", "m.mlmodel", "x=a.npy"]
    section = f"  parity: {{kind: parity, data: {{kind: tensors, file: {name}}}, snr_db: {{min: 1}}}}\n"
    if not is_picture and kind != "a.npy":
        command = ["recipe=r", "-q", "format=mlmodel", "target=ios14"]

    def write(folder: Path) -> Commands:
        (folder / name).write_bytes(content)
        (folder / "m.mlmodel").write_bytes(honest.files[".mlmodel"])
        (folder / "m.aimodel").mkdir()
        for file, whole in honest.aimodel.items():
            (folder / "m.aimodel" / file).write_bytes(whole)
        _project(folder, RECIPE + section)
        return [command]

    return write


@st.composite
def _archives(draw: st.DrawFn, honest: Honest, suffix: str) -> Example:
    """A damaged file: looked at by all verbs that read its kind, and in each tenth example loaded as a source."""
    content, zipped = honest.files[suffix], suffix in (".pt2", ".jit", ".pth")
    damaged = draw(damaged_archive(content) if zipped else damaged_bytes(content))
    name = f"m{suffix}"
    commands: list[list[str]] = draw(_looks(name, name)) if suffix == ".mlmodel" else [["init", name]]
    if suffix in KINDS and draw(st.integers(0, 9)) == 0:
        commands = [*commands, ["doctor", "recipe=r"]]
    more = ', factory: "net:make", state_dict_key: model' if suffix == ".pth" else ""
    more = ', factory: "net:make"' if suffix == ".safetensors" else more

    def write(folder: Path) -> Commands:
        (folder / name).write_bytes(damaged)
        _project(folder, OF_FILE.format(kind=KINDS.get(suffix, ""), file=name, more=more))
        return commands

    return write


@st.composite
def _stores(draw: st.DrawFn, honest: Honest) -> Example:
    """A project after its build whose store, outputs or notes are damaged; planned again, and in each fourth built."""
    kept = ("recipes/r.yaml", "net.py")
    files = {name: content for name, content in honest.project.items() if name not in kept}
    damage = draw(damaged_folder(files))
    commands = draw(st.sampled_from([["plan", "recipe=r"], ["gc", "--older-than", "1h"], ["recipe=r", "-q"], ["list"]]))

    def write(folder: Path) -> Commands:
        import os

        damage(folder)
        _project(folder)
        os.environ["BUILDER_CACHE"] = str(folder / "cache")
        return [commands]

    return write


READERS = {
    "outputs/r/default/build.json": [
        ["lint", "outputs/r/default/r.mlpackage"],
        ["diff", "outputs/r/default", "other"],
        ["diff", "other", "outputs/r/default/build.json"],
        ["package", "outputs/r/default/r.mlpackage", "--output", "swift2"],
        ["device", "pack", "outputs/r/default/r.mlpackage", "-o", "again"],
        ["device", "take", "pack"],
    ],
    "swift/.builder.json": [["package", "outputs/r/default/r.mlpackage", "--output", "swift"]],
    "pack/pack.json": [["device", "take", "pack"]],
    "pack/device.json": [["device", "take", "pack/device.json"]],
    "pack/device-ane.npz": [["device", "take", "pack"]],
    "pack/golden/outputs.npz": [["device", "take", "pack"]],
}
"""The verbs that read a file which a build or a device has written."""


@st.composite
def _records(draw: st.DrawFn, honest: Honest) -> Example:
    """A project whose records are damaged, or made by somebody else, so that their digests hold."""
    name = draw(st.sampled_from(sorted(READERS)))
    damage = draw(damaged_folder(honest.measured, [name]))
    command, renewed = draw(st.sampled_from(READERS[name])), draw(st.booleans())

    def write(folder: Path) -> Commands:
        damage(folder)
        shutil.copytree(folder / "outputs/r/default", folder / "other", ignore=shutil.ignore_patterns("build.json"))
        (folder / "other/build.json").write_bytes(honest.measured["outputs/r/default/build.json"])
        if renewed:
            _renew(folder / "pack")
        return [command]

    return write


def _renew(pack: Path) -> None:
    """Write the digests of what lies in a pack into its documents, as far as these are documents."""
    with contextlib.suppress(OSError, ValueError, TypeError, AttributeError, KeyError, RecursionError):
        found = json.loads(_small(pack / "pack.json"))
        found["files"]["golden/outputs.npz"] = hashlib.sha256(_small(pack / "golden/outputs.npz")).hexdigest()
        (pack / "pack.json").write_text(json.dumps(found))
    with contextlib.suppress(OSError, ValueError, TypeError, AttributeError, KeyError, RecursionError):
        returned = json.loads(_small(pack / "device.json"))
        returned["pack"] = hashlib.sha256(_small(pack / "pack.json")).hexdigest()
        returned["units"]["ane"]["sha256"] = hashlib.sha256(_small(pack / "device-ane.npz")).hexdigest()
        (pack / "device.json").write_text(json.dumps(returned))


def _small(file: Path) -> bytes:
    if not file.is_file() or file.stat().st_size > 1 << 20:
        raise OSError(f"{file} is not a small file")
    return file.read_bytes()


@st.composite
def _releases(draw: st.DrawFn, honest: Honest) -> Example:
    """A release with damaged documents; in half of the examples its digests are renewed, as anybody can."""
    damage, renewed = draw(damaged_folder(honest.release)), draw(st.booleans())

    def write(folder: Path) -> Commands:
        from builder.release.digests import write_manifest

        damage(folder / "release")
        sums = folder / "release/SHA256SUMS"
        if renewed and sums.is_file() and not sums.is_symlink():  # nothing is written through a link or into a pipe
            with contextlib.suppress(OSError):
                write_manifest(folder / "release")
        return [["verify", "release"]]

    return write
