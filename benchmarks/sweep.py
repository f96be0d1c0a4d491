"""Twelve variants of MobileNetV2, 3 precisions by 4 compressions, beside twelve runs of a hand-written script.

    python -m benchmarks.sweep [--checks none] [--recipe mobilenet_v2_fp16]

The script does what a person would: import, load, trace, convert, compress, save. Both sides start with nothing stored,
use one thread and run their variants one after the other. Every variant is built; none of ours is executed by default,
since the script checks nothing either.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

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
    print(f"{'hand-written script':<24}{script:8.1f} s")
    met = "met" if ours / script <= GOAL else "MISSED"
    print(f"{'python -m builder -m':<24}{ours:8.1f} s  {ours / script:.2f} of the script, goal at most {GOAL}: {met}")
    print(f"{'the same again':<24}{again:8.1f} s  {again / script:.2f}")
    return int(ours / script > GOAL)


def _script(folder: Path, environment: dict[str, str]) -> float:
    (folder / "script.py").write_text(SCRIPT)
    start = time.perf_counter()
    for precision in PRECISIONS:
        for compression in COMPRESSIONS:
            target = folder / f"{precision}-{compression}.mlpackage"
            command = [sys.executable, "-W", "ignore", "script.py", precision, compression, str(target)]
            subprocess.run(command, cwd=folder, env=environment, check=True, capture_output=True)
    return time.perf_counter() - start


def _sweep(folder: Path, environment: dict[str, str], recipe: str, checks: str) -> float:
    start = time.perf_counter()
    command = [sys.executable, "-m", "builder", "-m", f"recipe={recipe}", f"precision={','.join(PRECISIONS)}"]
    command += [f"compression={','.join(COMPRESSIONS)}", "target=ios16", f"checks={checks}", "tracking=none", "-q"]
    subprocess.run(command, cwd=folder, env=environment, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


if __name__ == "__main__":
    sys.exit(main())
