"""What is damaged: small files of every kind, a project, its store and a release, made once a run."""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

from tests.fuzz.damage import files_in

RECIPE = """\
# A small network.
schema: 1
defaults: [precision: fp32, target: ios16, checks: none, tracking: none]
source: {kind: python, factory: "net:make", seed: 1}
input:
  x: {kind: tensor, shape: [1, 8]}
checks:
  structure: {kind: structure}
"""
OF_FILE = """\
schema: 1
defaults: [precision: fp32, target: ios16, checks: none, tracking: none]
source: {{kind: {kind}, file: "{file}"{more}}}
input:
  x: {{kind: tensor, shape: [1, 8]}}
"""
NET = """\
import torch


def make():
    return torch.nn.Sequential(torch.nn.Linear(8, 6), torch.nn.ReLU(), torch.nn.Linear(6, 3))
"""
KINDS = {
    ".pt2": "exported_program",
    ".jit": "torchscript",
    ".pth": "checkpoint",
    ".safetensors": "checkpoint",
    ".onnx": "onnx",
}
"""Kinds of source by the suffix of their files."""


_METADATA = {
    "assetVersion": "2.0",
    "creationDate": "20261130T065650Z",
    "producer": "coreai-core 1.0.0b3",
    "author": "tests",
    "license": "MIT",
    "description": "A sample.",
    "creatorDefinedMetadata": {
        "version": "1",
        "labels": ["ant", "bee", "cat"],
        "user": {"made": "by hand"},
        "functions": {"main": {"inputs": {"image": {"color_layout": "RGB", "shape": [1, 3, 8, 8]}}}},
        "inputs": {"image": {"enumerated_shapes": [[1, 3, 8, 8]], "ranges": [[1, 1], [3, 3], [8, 16], [8, -1]]}},
    },
}
"""Of an `.aimodel`, with all that is read of it."""


@dataclass(frozen=True, kw_only=True)
class Honest:
    """Files by kind, and folders as files by relative name."""

    files: dict[str, bytes]
    package: dict[str, bytes]
    aimodel: dict[str, bytes]
    project: dict[str, bytes]
    """Recipe, code, outputs and cache of a build."""
    measured: dict[str, bytes]
    """The same without its cache, with a Swift package, and with a pack that a device has measured."""
    release: dict[str, bytes]


def make_honest(room: Path) -> Honest:
    """Make everything below `room`."""
    project = room / "project"
    (project / "recipes").mkdir(parents=True)
    (project / "recipes/r.yaml").write_text(RECIPE)
    (project / "net.py").write_text(NET)
    _run(project, "recipe=r", "-q")
    _run(project, "recipe=r", "-q", "target=ios14", "format=mlmodel", "--outputs", "other")
    model = next((project / "other").rglob("*.mlmodel")).read_bytes()
    shutil.rmtree(project / "other")
    built = files_in(project)
    _measure(project)
    sample = Path(__file__).parents[1] / "runtime/coreai/data/sample.aimodel"
    return Honest(
        files={**_torch_files(), ".onnx": _onnx(), ".mlmodel": model},
        package=files_in(project / "outputs/r/default/r.mlpackage"),
        aimodel={**files_in(sample), "metadata.json": json.dumps(_METADATA).encode()},
        project=built,
        measured={name: content for name, content in files_in(project).items() if not name.startswith("cache/")},
        release=files_in(_release(room / "release")),
    )


def _measure(project: Path) -> None:
    """Write a Swift package, and pack the artifact for a device, which finds what the runtime did; take that."""
    _run(project, "package", "outputs/r/default/r.mlpackage", "--output", "swift", "-q")
    _run(project, "device", "pack", "recipe=r", "-o", "pack", "-q")
    pack = (project / "pack/pack.json").read_bytes()
    outputs = (project / "pack/golden/outputs.npz").read_bytes()
    (project / "pack/device-ane.npz").write_bytes(outputs)
    unit = {
        "latency_ms": 1.25, "latency_p95_ms": 1.5, "rounds": 50, "load_cold_ms": 300.0, "load_warm_ms": 20.0,
        "peak_bytes": 120_000_000, "placement": {"ane": 3, "cpu": 1, "gpu": 0}, "placement_reason": "",
        "outputs": "device-ane.npz", "sha256": hashlib.sha256(outputs).hexdigest(),
    }  # fmt: skip
    document = {
        "schema": 1,
        "pack": hashlib.sha256(pack).hexdigest(),
        "artifact": json.loads(pack)["artifact"],
        "stand_in": False,
        "device": {"model": "Mac15,9", "chip": "Apple M3 Max", "system": "macOS 26.1"},
        "tools": {"coremltools": "9.0", "python": "3.12.1"},
        "started": "2026-11-30T12:00:00Z",
        "units": {"ane": unit},
    }
    (project / "pack/device.json").write_text(json.dumps(document))
    _run(project, "device", "take", "pack/device.json", "-q")


def _run(project: Path, *arguments: str) -> None:
    child = os.fork()
    if child == 0:
        code = 1
        try:
            os.chdir(project)
            sys.path.insert(0, str(project))
            os.environ["BUILDER_CACHE"] = str(project / "cache")
            from builder.cli.main import run

            code = run([*arguments])
        finally:
            os._exit(code)
    status = os.waitpid(child, 0)[1]
    assert status == 0, f"{arguments} ended with {status}"


def _torch_files() -> dict[str, bytes]:
    import safetensors.torch
    import torch

    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Linear(8, 6), torch.nn.ReLU(), torch.nn.Linear(6, 3)).eval()
    example = (torch.ones(1, 8),)
    exported, checkpoint = io.BytesIO(), io.BytesIO()
    torch.export.save(torch.export.export(net, example), exported)
    torch.save({"epoch": 3, "model": net.state_dict(), "args": {"lr": 0.1}}, checkpoint)
    scripted = torch.jit.trace(net, example).save_to_buffer()
    return {
        ".pt2": exported.getvalue(),
        ".jit": scripted,
        ".pth": checkpoint.getvalue(),
        ".safetensors": safetensors.torch.save(net.state_dict()),
    }


def _onnx() -> bytes:
    import numpy as np
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    weight = numpy_helper.from_array(np.ones((8, 3), np.float32), "w")
    node = helper.make_node("MatMul", ["x", "w"], ["y"])
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 8])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 3])
    graph = helper.make_graph([node], "g", [x], [y], [weight])
    return onnx.helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString()


def _release(folder: Path) -> Path:
    """A release made by hand: what `verify` needs, with digests that hold."""
    from builder.release import lock, signing
    from builder.release.digests import digests_below, write_manifest
    from builder.release.provenance import FILE_NAME, PREDICATE_TYPE, STATEMENT_TYPE
    from builder.store.digests import artifact_digest

    folder.mkdir()
    (folder / "tiny.mlmodel").write_bytes(b"a model")
    digest = artifact_digest(folder / "tiny.mlmodel")
    build = {"artifact": {"path": "tiny.mlmodel", "digest": digest}, "recipe": "tiny", "variant": "default"}
    (folder / "build.json").write_text(json.dumps(build))
    sections = {name: {} for name in ("data", "files", "settings", "source", "tools")}
    entry = {"artifact": {"digest": digest}, "config": "sha256:0", "overrides": [], **sections}
    (folder / lock.FILE_NAME).write_text(lock.lock_text({"tiny": entry}))
    named = [{"name": name, "digest": {"sha256": sha}} for name, sha in digests_below(folder).items()]
    predicate = {"runDetails": {"byproducts": named[1:]}}
    statement = {"_type": STATEMENT_TYPE, "predicateType": PREDICATE_TYPE, "subject": named, "predicate": predicate}
    (folder / FILE_NAME).write_text(json.dumps(statement))
    (folder / signing.FOLDER).mkdir()
    (folder / signing.ENVELOPE).write_text("{}")
    write_manifest(folder)
    return folder
