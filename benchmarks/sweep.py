"""Twelve variants of MobileNetV2, 3 precisions by 4 compressions, compared with twelve runs of a hand-written script.

    python -m benchmarks.sweep [--checks none] [--recipe mobilenet_v2_fp16]

The script does what a person would: import, load, trace, convert, compress, save. Both sides start with nothing stored,
with one thread a process. The script's runs come one after the other; the sweep runs as it does by default, as many
builds at a time as there are processors. So beside the time stands the processor time, which tells how much work was
saved, whatever runs at once. Every variant is built; none of ours is executed by default, since the script checks
nothing either.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
GOAL = 0.25
"""Our twelve, as a share of the script's time."""

PRECISIONS = ("fp32", "fp16", "mixed")
COMPRESSIONS = ("none", "int8", "palettize_4", "prune_50")

SCRIPT = """\
import sys
import torch

library = torch.library.Library("torchvision", "FRAGMENT")  # a torchvision built for CUDA beside a torch that is not
try:
    import torchvision
except RuntimeError:
    library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    for name in [name for name in sys.modules if name.startswith("torchvision")]:
        del sys.modules[name]
    import torchvision
import coremltools as ct
import coremltools.optimize.coreml as cto

precision, compression, path = sys.argv[1:]
torch.manual_seed(0)
model = torchvision.models.mobilenet_v2().eval()
traced = torch.jit.trace(model, torch.rand(1, 3, 224, 224))
exact = {"hardtanh", "clip"} if precision == "mixed" else set()
compute = (
    ct.precision.FLOAT32
    if precision == "fp32"
    else ct.transform.FP16ComputePrecision(op_selector=lambda op: op.op_type not in exact)
)
converted = ct.convert(
    traced,
    inputs=[ct.ImageType(name="image", shape=(1, 3, 224, 224), scale=1 / 255)],
    minimum_deployment_target=ct.target.iOS16,
    compute_precision=compute,
)
if compression == "int8":
    config = cto.OptimizationConfig(global_config=cto.OpLinearQuantizerConfig(mode="linear_symmetric"))
    converted = cto.linear_quantize_weights(converted, config)
elif compression == "palettize_4":
    config = cto.OptimizationConfig(global_config=cto.OpPalettizerConfig(mode="kmeans", nbits=4))
    converted = cto.palettize_weights(converted, config)
elif compression == "prune_50":
    config = cto.OptimizationConfig(global_config=cto.OpMagnitudePrunerConfig(target_sparsity=0.5))
    converted = cto.prune_weights(converted, config)
converted.save(path)
"""


def main() -> int:
    """Measure both sides, print the ratio, and return 0 if the goal is met."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipe", default="mobilenet_v2_fp16")
    parser.add_argument("--checks", default="none", help="what our variants are held against (default: none)")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="builder-sweep-") as folder:
        environment = {
            **os.environ,
            "BUILDER_CACHE": f"{folder}/cache",
            "PYTHONPATH": str(ROOT),
            "TMPDIR": folder,
            "OMP_NUM_THREADS": "1",
        }
        script = _script(Path(folder), environment)
        ours = _sweep(Path(folder), environment, given.recipe, given.checks)
        again = _sweep(Path(folder), environment, given.recipe, given.checks)
    count = len(PRECISIONS) * len(COMPRESSIONS)
    print(f"{count} variants of {given.recipe}, checks={given.checks}\n")
    print(f"{'':<24}{'wall s':>9}{'of script':>11}{'cpu s':>9}{'of script':>11}")
    for name, took in {"hand-written script": script, "python -m builder -m": ours, "the same again": again}.items():
        print(
            f"{name:<24}{took.wall:>9.1f}{took.wall / script.wall:>11.2f}{took.cpu:>9.1f}{took.cpu / script.cpu:>11.2f}"
        )
    met = ours.wall / script.wall <= GOAL
    print(f"\ngoal at most {GOAL} of the script's time: {'met' if met else 'MISSED'}")
    return int(not met)


class Taken(NamedTuple):
    """How long processes took, and how much of the processors."""

    wall: float
    cpu: float


def clock() -> Callable[[], Taken]:
    """Start a clock; what it returns tells what the processes took that were started and have ended since."""
    start, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)

    def taken() -> Taken:
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        return Taken(time.perf_counter() - start, cpu)

    return taken


def _script(folder: Path, environment: dict[str, str]) -> Taken:
    (folder / "script.py").write_text(SCRIPT)
    taken = clock()
    for precision in PRECISIONS:
        for compression in COMPRESSIONS:
            target = folder / f"{precision}-{compression}.mlpackage"
            command = [sys.executable, "-W", "ignore", "script.py", precision, compression, str(target)]
            subprocess.run(command, cwd=folder, env=environment, check=True, capture_output=True)
    return taken()


def _sweep(folder: Path, environment: dict[str, str], recipe: str, checks: str) -> Taken:
    taken = clock()
    command = [sys.executable, "-m", "builder", "-m", f"recipe={recipe}", f"precision={','.join(PRECISIONS)}"]
    command += [f"compression={','.join(COMPRESSIONS)}", "target=ios16", f"checks={checks}", "tracking=none", "-q"]
    subprocess.run(command, cwd=folder, env=environment, check=True, stdout=subprocess.DEVNULL)
    return taken()


if __name__ == "__main__":
    sys.exit(main())
