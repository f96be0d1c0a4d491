"""How the time of a conversion grows with the depth of a transformer.

    python -m benchmarks.depth [--depths 4 8 16 32 64] [--rounds 1]

Converts one shape of decoder (a Llama, seeded) at each depth to float16, capture and file included, and takes the
processor's time, which a busy machine does not lengthen. From one depth to the next, twice as deep, the time may grow
by no more than n log n says for the number of operators; what a conversion costs that has no layers is in all of them.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections.abc import Mapping

from builder.backends.coreml.convert import convert
from builder.backends.coreml.importing import import_coremltools
from builder.data import make_examples
from builder.model.sources import load_source
from builder.progress import Silent
from builder.spec import BuildSpec
from builder.stages.capture import capture
from builder.stages.prepare import prepare

TOLERANCE = 1.1
"""By how much a ratio may exceed that of n log n: the same conversion takes up to a tenth more or less."""

SIZES = {"vocab_size": 256, "hidden_size": 64, "intermediate_size": 128, "num_attention_heads": 4}


def main() -> int:
    """Measure, print the table, and return 0 if the time grows no faster than n log n."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--depths", type=int, nargs="+", default=[4, 8, 16, 32, 64])
    parser.add_argument("--rounds", type=int, default=1, help="the least time of so many counts")
    given = parser.parse_args()
    import_coremltools()
    measure(2)  # what is imported and compiled once
    print("depth  operators  seconds   ratio  n log n")
    good = True
    before: tuple[float, int] | None = None
    for depth in given.depths:
        now = min(measure(depth) for _ in range(given.rounds))
        good = tell(depth, now, before) and good
        before = now
    print(f"\ngoal: no ratio over {TOLERANCE:g} times that of n log n: {'met' if good else 'missed'}")
    return 0 if good else 1


def measure(depth: int) -> tuple[float, int]:
    """Convert at one depth; return the seconds of the processor, and how many operators were captured."""
    spec = make_spec(depth)
    examples = make_examples(spec)
    prepared = prepare(load_source(spec, examples, Silent()), examples, spec)
    started = time.process_time()
    captured = capture(prepared, examples, "trace", {}, strict=True)
    convert(prepared, captured, examples, spec)
    seconds = time.process_time() - started
    return seconds, sum(1 for _ in captured.program.inlined_graph.nodes())


def make_spec(depth: int) -> BuildSpec:
    """The recipe of a decoder with so many layers."""
    arguments: Mapping[str, int] = {**SIZES, "num_hidden_layers": depth}
    return BuildSpec.model_validate(
        {
            "source": {
                "kind": "huggingface",
                "auto_class": "AutoModelForCausalLM",
                "config_class": "LlamaConfig",
                "arguments": arguments,
            },
            "input": {"input_ids": {"kind": "tensor", "shape": [1, 16], "dtype": "int32", "high": 256}},
            "precision": {"kind": "fp16"},
            "target": {"name": "ios18"},
            "tracking": {"kind": "none"},
        }
    )


def tell(depth: int, now: tuple[float, int], before: tuple[float, int] | None) -> bool:
    """Print one line, compared with the depth before; return whether the time grew by no more than n log n allows."""
    seconds, operators = now
    line = f"{depth:>5}{operators:>11}{seconds:>9.2f}"
    if before is None:
        print(line, flush=True)
        return True
    ratio = seconds / before[0]
    allowed = operators * math.log(operators) / (before[1] * math.log(before[1]))
    print(f"{line}{ratio:>8.2f}{allowed:>9.2f}", flush=True)
    return ratio <= TOLERANCE * allowed


if __name__ == "__main__":
    sys.exit(main())
