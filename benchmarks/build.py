"""Time and memory of whole builds compared with those of a hand-written conversion script, in turn, in one run.

    python benchmarks/build.py [--rounds 5] [--models mobilenet_v2 vit_b_16 …]

All sides start a new process with an empty store, load the same file of seeded weights, capture, convert to fp16 for
iOS 16 with a tensor input, and save. The script checks nothing; one build runs the default checks, the other none, and
both seal, digest and write their record, without tracking. Goals: with checks at most 0.7 of the script's time in the
geometric mean and 0.9 on each model, without them 0.55, and 0.75 of its memory; with the same program and weights.
"""

from __future__ import annotations

import argparse
import os
import platform
import re
import shutil
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

ROOT = Path(__file__).resolve().parents[1]
MEAN_GOALS = {"checked": 0.7, "unchecked": 0.55}
WORST_GOAL = 0.9
MEMORY_GOAL = 0.75
SEED = 0
MODELS = (
    "mobilenet_v2", "vgg11", "vit_b_16", "resnet50", "efficientnet_b0", "swin_t", "convnext_tiny", "mobilenet_v3_small",
    "bert", "decoder",
)  # fmt: skip

FACTORIES = """
import torch

_library = torch.library.Library("torchvision", "DEF")  # as users of a CPU build of torch have to
try:
    _library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    _library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
except RuntimeError:  # the build has done so
    pass


class Tokens(torch.nn.Module):
    def __init__(self):
        super().__init__()
        from transformers import BertConfig, BertModel

        sizes = {"num_hidden_layers": 6, "hidden_size": 384, "intermediate_size": 1536, "vocab_size": 8000}
        self.model = BertModel(BertConfig(**sizes, attn_implementation="eager"))

    def forward(self, tokens):
        return self.model(tokens.long()).last_hidden_state


class Decoder(torch.nn.Module):
    def __init__(self, width=512, layers=4, words=8000, length=64):
        super().__init__()
        self.embedding = torch.nn.Embedding(words, width)
        self.layers = torch.nn.ModuleList(
            torch.nn.TransformerEncoderLayer(width, 8, 4 * width, activation="gelu", batch_first=True, norm_first=True)
            for _ in range(layers)
        )
        self.head = torch.nn.Linear(width, words, bias=False)
        self.register_buffer("mask", torch.full((length, length), -1e4).triu(1))

    def forward(self, tokens):
        x = self.embedding(tokens.long())
        for layer in self.layers:
            x = layer(x, src_mask=self.mask)
        return self.head(x)


def make(name):
    if name == "bert":
        return Tokens()
    if name == "decoder":
        return Decoder()
    import torchvision

    return getattr(torchvision.models, name)(weights=None)
"""
"""The models of the script, and of the builds of those that torchvision does not have."""

SCRIPT = """
import sys
import torch
import numpy as np
import coremltools as ct
from benchmark_models import make

name, weights, artifact = sys.argv[1:]
torch.backends.mha.set_fastpath_enabled(False)  # coremltools cannot convert the fused attention
model = make(name)
model.load_state_dict(torch.load(weights, weights_only=True))
model.eval()
tokens = name in ("bert", "decoder")
example = torch.randint(0, 8000, (1, 64), dtype=torch.int32) if tokens else torch.rand(1, 3, 224, 224)
traced = torch.jit.trace(model, example)
converted = ct.convert(
    traced,
    inputs=[ct.TensorType(name="input", shape=example.shape, dtype=np.int32 if tokens else np.float32)],
    outputs=[ct.TensorType(name="output", dtype=np.float32)],
    minimum_deployment_target=ct.target.iOS16,
)
converted.save(artifact)
"""
"""What people write, as in coremltools' guide."""

RECIPE = """
schema: 1
defaults:
  - source: {source}
{input}
  - precision: fp16
  - target: ios16
  - checks: {checks}
  - tracking: none
source:
{arguments}
  file: {weights}
"""
IMAGES = "  - input: tensor_224"
TOKENS = """
input:
  input:
    kind: tensor
    shape: [1, 64]
    dtype: int32
    high: 8000
"""

WEIGHTS = """
import sys
import torch
from benchmark_models import make

name, path, seed = sys.argv[1:]
torch.manual_seed(int(seed))
model = make(name)
for parameter in model.parameters():  # some heads begin at zero
    if not parameter.any():
        torch.nn.init.normal_(parameter, std=0.02)
torch.save(model.state_dict(), path)
"""


def recipe(name: str, weights: Path, checks: str) -> str:
    """The recipe of a model."""
    if name in ("bert", "decoder"):
        arguments = f"  factory: benchmark_models:make\n  arguments: {{name: {name}}}"
        text = RECIPE.format(
            source="checkpoint", input="  - input: null", checks=checks, arguments=arguments, weights=weights
        )
        return text + TOKENS
    arguments = f"  name: {name}\n  weights: null"
    return RECIPE.format(source="torchvision", input=IMAGES, checks=checks, arguments=arguments, weights=weights)


@dataclass(frozen=True, kw_only=True)
class Run:
    """One process, measured from outside."""

    seconds: float
    processor_seconds: float
    megabytes: float


def measure(command: list[str], folder: Path) -> Run:
    """Run a command in `folder`, with an empty store and a private folder for temporary files, and wait for it."""
    with tempfile.TemporaryDirectory(dir=folder) as temporary, (folder / "said.txt").open("w") as said:
        environment = {
            **os.environ, "TMPDIR": temporary, "BUILDER_CACHE": f"{temporary}/cache",
            "PYTHONPATH": os.pathsep.join([str(folder), str(ROOT), os.environ.get("PYTHONPATH", "")]),
        }  # fmt: skip
        environment.pop("PYTHONDONTWRITEBYTECODE", None)  # the libraries come with their bytecode
        started = time.perf_counter()
        process = subprocess.Popen(command, cwd=folder, stdout=said, stderr=said, env=environment)
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - started
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{(folder / 'said.txt').read_text()}")
    scale = 1e6 if sys.platform == "darwin" else 1e3  # ru_maxrss is in bytes on macOS, in KiB on Linux
    return Run(seconds=seconds, processor_seconds=usage.ru_utime + usage.ru_stime, megabytes=usage.ru_maxrss / scale)


def compare(name: str, rounds: int, folder: Path) -> dict[str, float]:
    """Measure script and builds in turn, print medians and ratios with the goals, and return the ratios of times."""
    weights, script, recipes = folder / f"{name}.pth", folder / "script.py", folder / "recipes"
    (folder / "benchmark_models.py").write_text(FACTORIES)
    subprocess.run([sys.executable, "-c", WEIGHTS, name, str(weights), str(SEED)], check=True, cwd=folder)
    script.write_text(SCRIPT)
    recipes.mkdir(exist_ok=True)
    artifact = folder / f"{name}.mlpackage"
    commands = {"script": [sys.executable, str(script), name, str(weights), str(artifact)]}
    for side, checks in (("checked", "default"), ("unchecked", "none")):
        (recipes / f"{name}_{side}.yaml").write_text(recipe(name, weights, checks))
        commands[side] = [sys.executable, "-m", "builder", f"recipe={name}_{side}"]
    runs: dict[str, list[Run]] = {side: [] for side in commands}
    for index in range(rounds + 1):
        for side, command in commands.items():
            shutil.rmtree(folder / "outputs", ignore_errors=True) if side == "checked" else None
            run = measure(command, folder)
            if index:  # the first round fills the caches of the file system
                runs[side].append(run)
    print(f"{name}: {rounds} runs each, in turn; medians, and medians of ratios")
    ratios = {}
    for side, sides in runs.items():
        run = _median(sides)
        ratios[side], busy, memory = (
            statistics.median(
                getattr(ours, figure) / getattr(theirs, figure)
                for ours, theirs in zip(sides, runs["script"], strict=True)
            )
            for figure in ("seconds", "processor_seconds", "megabytes")
        )
        print(
            f"  {side:9}  {run.seconds:6.2f} s  {run.processor_seconds:6.2f} s of processor  {run.megabytes:6.0f} MB"
            + (f"   {ratios[side]:.2f}, {busy:.2f}, {memory:.2f} of the script's" if side != "script" else "")
        )
        if side == "checked":
            print(f"{'':13}time {_with_goal(ratios[side], WORST_GOAL)}, memory {_with_goal(memory, MEMORY_GOAL)}")
    (built,) = (folder / "outputs" / f"{name}_unchecked").glob("*/*.mlpackage")
    print(f"  output     {same_output(built, artifact)}\n", flush=True)
    return ratios


def _median(runs: list[Run]) -> Run:
    return Run(
        seconds=statistics.median(run.seconds for run in runs),
        processor_seconds=statistics.median(run.processor_seconds for run in runs),
        megabytes=statistics.median(run.megabytes for run in runs),
    )


def _with_goal(ratio: float, goal: float) -> str:
    return f"{ratio:.2f} (goal: at most {goal:.2f}, {'met' if ratio <= goal else 'MISSED'})"


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
    parser.add_argument("--models", nargs="+", choices=MODELS, default=MODELS)
    arguments = parser.parse_args()
    tools = ", ".join(f"{name} {version(name)}" for name in ("torch", "torchvision", "coremltools", "numpy"))
    print(
        f"Python {platform.python_version()}, {platform.machine()}, {os.cpu_count()} processors; {tools}; seed {SEED}\n"
    )
    ratios = []
    for name in arguments.models:
        with tempfile.TemporaryDirectory() as folder:
            ratios.append(compare(name, arguments.rounds, Path(folder)))
    for side, goal in MEAN_GOALS.items():
        mean = statistics.geometric_mean(each[side] for each in ratios)
        print(f"{side}: geometric mean {_with_goal(mean, goal)} of the script's time")


if __name__ == "__main__":
    main()
