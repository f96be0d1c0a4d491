"""How much memory a build of a large decoder takes, compared with the weights in float32.

    python -m benchmarks.large_model [--parameters 250] [--checks]

Builds an untrained Llama (seeded) of about so many million parameters to float16, in a process of its own with an empty
store, and watches its resident memory, that of mapped files included. The peak of each stage is printed. What
Python, torch, transformers and coremltools take themselves is in it: measured by a model of hardly any weights.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
GOAL = 2.5
"""Peak resident memory as a multiple of the weights in float32."""
PERIOD = 0.01
"""Seconds between two looks."""
MIB = 2**20
STAGES = ("load", "prepare", "capture", "convert", "compress", "seal", "verify")

SHAPES: Mapping[int, tuple[int, int]] = {60: (512, 16), 250: (1024, 16), 1000: (2048, 16)}
"""By million parameters: hidden size and layers; the inner size is four times the hidden one."""

RECIPE = """\
# A Llama with untrained weights.
defaults: [source: huggingface, input: null, precision: fp16, target: ios18]
source:
  auto_class: AutoModelForCausalLM
  config_class: LlamaConfig
  arguments:
    vocab_size: 8000
    hidden_size: {hidden}
    intermediate_size: {inner}
    num_hidden_layers: {layers}
    num_attention_heads: 16
    num_key_value_heads: 8
    tie_word_embeddings: true
input:
  input_ids: {{kind: tensor, shape: [1, 16], dtype: int32, high: 8000}}
output:
  logits:
"""


def main() -> int:
    """Build, print the table, and return 0 if the goal is met."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parameters", type=int, choices=sorted(SHAPES), default=250, help="in millions")
    parser.add_argument("--checks", action="store_true", help="run the default checks too: the artifact is executed")
    given = parser.parse_args()
    hidden, layers = SHAPES[given.parameters]
    with tempfile.TemporaryDirectory(prefix="builder-large-") as folder:
        recipes = Path(folder, "recipes")
        recipes.mkdir()
        text = RECIPE.format(hidden=hidden, inner=4 * hidden, layers=layers)
        (recipes / "large.yaml").write_text(text)
        peaks, weights = watch(Path(folder), ["checks=default" if given.checks else "checks=none"])
    return tell(peaks, weights)


def watch(folder: Path, overrides: list[str]) -> tuple[dict[str, int], float]:
    """Build the recipe; return the peak of resident bytes in each stage, and the bytes of the weights in float32."""
    environment = {**os.environ, "BUILDER_CACHE": str(folder / "cache"), "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "builder", "recipe=large", "tracking=none", *overrides]
    build = subprocess.Popen(command, cwd=folder, env=environment, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL)
    lines: list[str] = []

    def listen() -> None:
        assert build.stderr is not None
        lines.extend(line.decode() for line in iter(build.stderr.readline, b""))

    listener = threading.Thread(target=listen)
    listener.start()
    peaks: dict[str, int] = {}
    while build.poll() is None:
        stage = STAGES[min(sum(line.split()[:1] == [name] for line in lines for name in STAGES), len(STAGES) - 1)]
        peaks[stage] = max(peaks.get(stage, 0), resident(build.pid))
        time.sleep(PERIOD)
    listener.join()
    said = "".join(lines)
    if build.returncode != 0:
        raise SystemExit(said)
    size = re.search(r"([\d.]+) M parameters", said)
    assert size, said
    return peaks, float(size[1]) * 4e6


def resident(process: int) -> int:
    """The bytes of a process that are in memory now; 0 when it has ended."""
    try:
        status = Path(f"/proc/{process}/status").read_text()
    except OSError:
        return 0
    found = re.search(r"VmRSS:\s+(\d+) kB", status)
    return int(found[1]) * 1024 if found else 0


def tell(peaks: Mapping[str, int], weights: float) -> int:
    """Print the peak of each stage with the goal; return 0 if the goal is met."""
    print(f"weights in float32: {weights / MIB:.0f} MiB\n")
    for stage, peak in peaks.items():
        print(f"{stage:<10}{peak / MIB:>8.0f} MiB{peak / weights:>8.2f} x")
    worst = max(peaks.values()) / weights
    print(f"\npeak {worst:.2f} x the weights; goal: at most {GOAL} x")
    return 0 if worst <= GOAL else 1


if __name__ == "__main__":
    sys.exit(main())
