"""Time and memory of a whole build beside those of a hand-written conversion script, in turn, in one run.

    python benchmarks/cold_build.py [--rounds 5] [--models mobilenet_v2 vit_b_16]

Both sides start a new process, load the same file of seeded weights, capture, convert to fp16 for iOS 16 with a tensor
input, and save. The build runs with checks and tracking off, and besides seals, digests and writes its record. Goals:
at most 0.75 of the script's time and 1.25 of its memory, with the same program and the same weights in the artifact.
"""

from __future__ import annotations

import argparse
import os
import platform
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

TIME_GOAL = 0.75
MEMORY_GOAL = 1.25
SEED = 0

SCRIPT = """
import sys
import torch
_library = torch.library.Library("torchvision", "DEF")  # as users of a CPU build of torch have to
_library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
_library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
import torchvision
import numpy as np
import coremltools as ct

name, weights, artifact = sys.argv[1:]
torch.backends.mha.set_fastpath_enabled(False)  # coremltools cannot convert the fused attention
model = getattr(torchvision.models, name)(weights=None)
model.load_state_dict(torch.load(weights, weights_only=True))
model.eval()
example = torch.rand(1, 3, 224, 224)
traced = torch.jit.trace(model, example)
converted = ct.convert(
    traced,
    inputs=[ct.TensorType(name="input", shape=example.shape, dtype=np.float32)],
    outputs=[ct.TensorType(name="output", dtype=np.float32)],
    minimum_deployment_target=ct.target.iOS16,
)
converted.save(artifact)
"""
"""What people write, as in coremltools' guide."""

RECIPE = """
schema: 1
defaults:
  - source: torchvision
  - input: tensor_224
  - precision: fp16
  - target: ios16
  - checks: none
  - tracking: none
source:
  name: {name}
  weights: null
  file: {weights}
"""

WEIGHTS = """
import sys
import torch
from builder.model.torchvision_import import import_torchvision

name, path, seed = sys.argv[1:]
torch.manual_seed(int(seed))
model = getattr(import_torchvision().models, name)(weights=None)
for parameter in model.parameters():  # some heads begin at zero
    if not parameter.any():
        torch.nn.init.normal_(parameter, std=0.02)
torch.save(model.state_dict(), path)
"""


@dataclass(frozen=True, kw_only=True)
class Run:
    """One process, measured from outside."""

    seconds: float
    processor_seconds: float
    megabytes: float


def measure(command: list[str], folder: Path) -> Run:
    """Run a command in `folder`, with a private folder for temporary files, and wait for it."""
    with tempfile.TemporaryDirectory(dir=folder) as temporary, (folder / "said.txt").open("w") as said:
        started = time.perf_counter()
        process = subprocess.Popen(
            command, cwd=folder, stdout=said, stderr=said, env={**os.environ, "TMPDIR": temporary}
        )
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - started
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{(folder / 'said.txt').read_text()}")
    scale = 1e6 if sys.platform == "darwin" else 1e3  # ru_maxrss is in bytes on macOS, in KiB on Linux
    return Run(seconds=seconds, processor_seconds=usage.ru_utime + usage.ru_stime, megabytes=usage.ru_maxrss / scale)


def compare(name: str, rounds: int, folder: Path) -> None:
    """Measure script and build in turn and print their medians and ratios beside the goals."""
    weights, script, recipes = folder / f"{name}.pth", folder / "script.py", folder / "recipes"
    subprocess.run([sys.executable, "-c", WEIGHTS, name, str(weights), str(SEED)], check=True)
    script.write_text(SCRIPT)
    recipes.mkdir(exist_ok=True)
    (recipes / f"{name}_cold.yaml").write_text(RECIPE.format(name=name, weights=weights))
    artifact = folder / f"{name}.mlpackage"
    by_hand = [sys.executable, str(script), name, str(weights), str(artifact)]
    build = [sys.executable, "-m", "builder", f"recipe={name}_cold"]
    runs: dict[str, list[Run]] = {"script": [], "build": []}
    for index in range(rounds + 1):
        for side, command in (("script", by_hand), ("build", build)):
            run = measure(command, folder)
            if index:  # the first round fills the caches of the file system
                runs[side].append(run)
    print(f"{name}: {rounds} runs each, in turn; medians")
    script_run, build_run = _median(runs["script"]), _median(runs["build"])
    for side, run in (("script", script_run), ("build", build_run)):
        print(
            f"  {side:6}  {run.seconds:6.2f} s  {run.megabytes:6.0f} MB  ({run.processor_seconds:.2f} s of processor)"
        )
    print(f"  time    {_beside(build_run.seconds / script_run.seconds, TIME_GOAL)}")
    print(f"  memory  {_beside(build_run.megabytes / script_run.megabytes, MEMORY_GOAL)}")
    (built,) = (folder / "outputs" / f"{name}_cold").glob("*/*.mlpackage")
    print(f"  output  {same_output(built, artifact)}\n", flush=True)


def _median(runs: list[Run]) -> Run:
    return Run(
        seconds=statistics.median(run.seconds for run in runs),
        processor_seconds=statistics.median(run.processor_seconds for run in runs),
        megabytes=statistics.median(run.megabytes for run in runs),
    )


def _beside(ratio: float, goal: float) -> str:
    return f"{ratio:.2f} of the script's (goal: at most {goal:.2f}, {'met' if ratio <= goal else 'MISSED'})"


def same_output(ours: Path, theirs: Path) -> str:
    """Whether two packages hold the same program, up to the names of values inside it, and the same weights."""
    weights = [path / "Data/com.apple.CoreML/weights/weight.bin" for path in (ours, theirs)]
    if weights[0].read_bytes() != weights[1].read_bytes():
        return "DIFFERENT weights"
    first, second = (program_text(path) for path in (ours, theirs))
    return "the same program and weights" if first == second else "DIFFERENT programs, the same weights"


def program_text(package: Path) -> list[str]:
    """Every operation of the program in order, with types, attributes, constants and places of weights.

    The build wraps the model, so that values have other names than in the script and constants another order: values
    are named by their order, except those of the interface, and constants stand where they are used.
    """
    from builder.backends.coreml.importing import import_coremltools

    import_coremltools()
    from coremltools.proto import Model_pb2

    model = Model_pb2.Model()
    model.ParseFromString((package / "Data/com.apple.CoreML/model.mlmodel").read_bytes())
    (function,) = model.mlProgram.functions.values()
    (block,) = function.block_specializations.values()
    kept = {feature.name for feature in (*model.description.input, *model.description.output)}
    numbers: dict[str, str] = {}
    constants: dict[str, str] = {}
    return [str(model.description.input), str(model.description.output), *_operations(block, kept, numbers, constants)]


def _operations(block: Any, kept: set[str], numbers: dict[str, str], constants: dict[str, str]) -> Iterator[str]:
    def number(name: str) -> str:
        if name in kept or name in constants:
            return constants.get(name, name)
        return numbers.setdefault(name, f"value {len(numbers)}")

    for operation in block.operations:
        inputs = [
            (key, [number(part.name) if part.name else str(part.value) for part in argument.arguments])
            for key, argument in sorted(operation.inputs.items())
        ]
        if operation.type == "const":
            constants[operation.outputs[0].name] = str(operation.attributes["val"])
            continue
        outputs = [(number(output.name), str(output.type)) for output in operation.outputs]
        attributes = [(key, str(value)) for key, value in sorted(operation.attributes.items()) if key != "name"]
        yield f"{operation.type} {inputs} {outputs} {attributes}"
        for inner in operation.blocks:
            yield from _operations(inner, kept, numbers, constants)


def main() -> None:
    """Measure each model and print."""
    parser = argparse.ArgumentParser(description=re.split(r"\n\n", __doc__ or "")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--models", nargs="+", default=["mobilenet_v2", "vit_b_16"])
    arguments = parser.parse_args()
    tools = ", ".join(f"{name} {version(name)}" for name in ("torch", "torchvision", "coremltools", "numpy"))
    print(
        f"Python {platform.python_version()}, {platform.machine()}, {os.cpu_count()} processors; {tools}; seed {SEED}\n"
    )
    for name in arguments.models:
        with tempfile.TemporaryDirectory() as folder:
            compare(name, arguments.rounds, Path(folder))


if __name__ == "__main__":
    main()
