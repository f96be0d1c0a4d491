"""From saving a file to the verdict with `watch`, compared with a cold build of the same state, in turn, in one run.

    python -m benchmarks.watch [--rounds 3] [--models mobilenet_v2 digits_mobilenet]

What is saved is the code that makes the model, and it changes weights, so that no stage has a result. The cold build is
a new process with an empty store, with the same checks. Goals: at most 0.35 of it for MobileNetV2, and less than 1.5 s
for digits_mobilenet on a machine that does nothing else.
"""

from __future__ import annotations

import argparse
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
GOAL_SHARE, GOAL_SECONDS = 0.35, 1.5

CODE = """
import torch
from safetensors.torch import load_file
from builder.model.torchvision_import import import_torchvision

SHIFT = {shift}


def make():
    torch.manual_seed(0)
    model = import_torchvision().models.mobilenet_v2({arguments})
    {load}
    with torch.no_grad():
        model.classifier[1].bias += SHIFT
    return model
"""
RECIPE = """
schema: 1
defaults: [{{precision: fp16}}, {{target: ios16}}, {{checks: default}}, {{tracking: none}}]
source: {{kind: python, factory: "net:make"}}
input:
  image: {{kind: image, shape: {shape}, color_layout: RGB, mean: 0.5, std: 0.5}}
"""
DIGITS = ROOT / "recipes" / "weights" / "digits_mobilenet.safetensors"
MODELS = {
    "mobilenet_v2": ("weights=None", "model.eval()", "[1, 3, 224, 224]"),
    "digits_mobilenet": (
        "weights=None, num_classes=10, width_mult=0.35",
        f"model.load_state_dict(load_file({str(DIGITS)!r}))",
        "[1, 3, 32, 32]",
    ),
}


def main() -> int:
    """Measure, print, and return 0 if both goals are met."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--models", nargs="+", default=list(MODELS), choices=list(MODELS))
    given = parser.parse_args()
    met = True
    for name in given.models:
        with tempfile.TemporaryDirectory(prefix="builder-watch-benchmark-") as folder:
            cold, saved = measure(name, Path(folder), given.rounds)
        share = saved / cold
        print(f"{name}: cold build {cold:.2f} s, saved file to verdict {saved:.2f} s, {share:.2f} of it", flush=True)
        met = met and (share <= GOAL_SHARE if name == "mobilenet_v2" else saved < GOAL_SECONDS)
    print(f"goals ({GOAL_SHARE} for mobilenet_v2, {GOAL_SECONDS} s for digits_mobilenet) {'met' if met else 'MISSED'}")
    return 0 if met else 1


def measure(name: str, folder: Path, rounds: int) -> tuple[float, float]:
    """The medians in seconds of a cold build, and from saving to the verdict; the first of each is not counted."""
    arguments, load, shape = MODELS[name]
    (folder / "recipes").mkdir()
    (folder / "recipes" / "watched.yaml").write_text(RECIPE.format(shape=shape))

    def save(shift: int) -> None:
        (folder / "net.py").write_text(CODE.format(shift=shift / 1000, arguments=arguments, load=load))

    save(0)
    watching = Watching(folder)
    try:
        watching.verdict()
        cold, saved = [], []
        for number in range(1, rounds + 2):
            started = time.monotonic()
            save(number)
            watching.verdict()
            saved.append(time.monotonic() - started)
            cold.append(cold_build(folder, number))
    finally:
        watching.end()
    return statistics.median(cold[1:]), statistics.median(saved[1:])


def cold_build(folder: Path, number: int) -> float:
    """Seconds of a build in a new process with an empty store."""
    started = time.monotonic()
    command = [sys.executable, "-m", "builder", "recipe=watched", "-q", "--outputs", str(folder / "cold")]
    subprocess.run(command, cwd=folder, env=environment(folder / f"cache-{number}"), check=True, capture_output=True)
    return time.monotonic() - started


def environment(cache: Path) -> dict[str, str]:
    """What a command is given."""
    return {**os.environ, "BUILDER_CACHE": str(cache), "PYTHONPATH": str(ROOT)}


class Watching:
    """A running `watch`, whose verdicts are read as it says them."""

    def __init__(self, folder: Path) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "builder", "watch", "recipe=watched"],
            cwd=folder,
            env=environment(folder / "cache-watch"),
            stderr=subprocess.PIPE,
            text=True,
        )

    def verdict(self) -> str:
        """Wait for the next verdict; SystemExit where it is an error."""
        assert self._process.stderr is not None
        said = []
        for line in self._process.stderr:
            said.append(line)
            _, _, word = line.partition(" ")
            if line[2:3] == ":" and word.startswith(("passed:", "failed:", "unjudged:")):
                return line
            if word.startswith("error:"):
                break
        raise SystemExit("".join(said))

    def end(self) -> None:
        """Press Ctrl-C."""
        self._process.send_signal(signal.SIGINT)
        self._process.wait(timeout=10)


if __name__ == "__main__":
    sys.exit(main())
