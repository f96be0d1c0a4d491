"""Multiply-accumulates of converted networks against torch's own counter, and fvcore where installed.

    python -m benchmarks.costs [--networks resnet18 vit_b_16 …]

Converts torchvision's networks (seeded) to ML programs in float16, counts what the saved files cost, and prints both
counts of the module that they came from. Goal: within 1 % of torch's. fvcore is asked for convolutions and products
of matrices alone; it is not a dependency: `pip install fvcore`. The time is that of the processor for the count alone.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from builder.analysis.costs.analyse import analyse_costs
from builder.backends.coreml.importing import import_coremltools
from builder.model.torchvision_import import import_torchvision

NETWORKS = (
    "alexnet", "convnext_tiny", "deeplabv3_mobilenet_v3_large", "densenet121", "efficientnet_b0", "efficientnet_v2_s",
    "googlenet", "inception_v3", "lraspp_mobilenet_v3_large", "mnasnet1_0", "mobilenet_v2", "mobilenet_v3_small",
    "regnet_y_400mf", "resnet18", "resnext50_32x4d", "shufflenet_v2_x1_0", "squeezenet1_1", "swin_t", "vgg11",
    "vit_b_16",
)  # fmt: skip
"""One of each family."""
TOLERANCE = 0.01
_PRODUCTS = ("conv", "addmm", "linear", "matmul", "bmm", "einsum", "scaled_dot_product_attention")
"""What fvcore calls the operators that are counted."""


def main() -> int:
    """Count, print the table, and return 0 if every network is within the goal."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="+", default=NETWORKS, metavar="NAME")
    given = parser.parse_args()
    torch.backends.mha.set_fastpath_enabled(False)  # its operator is one that torch's counter does not know
    good = True
    print(
        "| network | of the file | by torch | difference | by fvcore | difference | count |",
        "|---|--:|--:|--:|--:|--:|--:|",
        sep="\n",
    )
    for name in given.networks:
        good = compare(name) and good
    print(f"\ngoal: within {TOLERANCE:.0%} of torch's counter: {'met' if good else 'missed'}")
    return 0 if good else 1


def compare(name: str) -> bool:
    """Print the row of a network; return whether its count is within the goal."""
    torch.manual_seed(0)
    size = 299 if name == "inception_v3" else 224
    network = _network(name).eval()
    example = torch.rand(1, 3, size, size)
    torchs = by_torch(network, example)
    other = by_fvcore(network, example) if find_spec("fvcore") else None
    ours, seconds = of_file(network, example)
    difference = ours / torchs - 1
    more = "| | " if other is None else f"| {other:,} | {ours / other - 1:+.2%} "
    print(f"| {name} | {ours:,} | {torchs:,} | {difference:+.2%} {more}| {1000 * seconds:.0f} ms |", flush=True)
    return abs(difference) <= TOLERANCE


class _First(torch.nn.Module):
    """One output, where a network returns several by name."""

    def __init__(self, network: torch.nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """The main output."""
        given = self.network(image)
        found: torch.Tensor = given["out"] if isinstance(given, dict) else given
        return found


def _network(name: str) -> torch.nn.Module:
    options = {"init_weights": False} if name in ("googlenet", "inception_v3") else {}
    more = {"weights_backbone": None} if name.startswith(("deeplab", "lraspp")) else {}
    return _First(import_torchvision().models.get_model(name, weights=None, **options, **more))


def by_torch(network: torch.nn.Module, example: torch.Tensor) -> int:
    """Half of the operations that torch's counter sees; of attention on a CPU it sees the products, written out."""
    with FlopCounterMode(display=False) as counter, torch.no_grad(), sdpa_kernel(SDPBackend.MATH):
        network(example)
    return int(counter.get_total_flops()) // 2


def by_fvcore(network: torch.nn.Module, example: torch.Tensor) -> int:
    """The convolutions and products that fvcore sees in a trace; attention, which it leaves out, by its handle."""
    from fvcore.nn import FlopCountAnalysis

    counted = FlopCountAnalysis(network, example)
    counted.set_op_handle("aten::scaled_dot_product_attention", _attention)
    counted.unsupported_ops_warnings(False).uncalled_modules_warnings(False)
    by_operator: dict[str, float] = counted.by_operator()
    return int(sum(count for name, count in by_operator.items() if name in _PRODUCTS))


def _attention(inputs: list[Any], _outputs: list[Any]) -> int:
    query, key, value = (each.type().sizes() for each in inputs[:3])
    return int(torch.Size(query[:-1]).numel() * key[-2] * (query[-1] + value[-1]))


def of_file(network: torch.nn.Module, example: torch.Tensor) -> tuple[int, float]:
    """What the converted file costs, and the processor's seconds of the second count."""
    coremltools = import_coremltools()
    traced = torch.jit.trace(network, example, check_trace=False)
    model = coremltools.convert(
        traced, inputs=[coremltools.TensorType(shape=example.shape)], convert_to="mlprogram", skip_model_load=True
    )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "network.mlpackage"
        model.save(str(path))
        analyse_costs(path)
        started = time.process_time()
        (costs,) = analyse_costs(path)
        seconds = time.process_time() - started
    if costs.not_counted or costs.unknown:
        raise SystemExit(f"not all is counted: {costs.not_counted or costs.unknown}")
    return costs.macs, seconds


def _quiet(run: Callable[[], int]) -> int:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return run()


if __name__ == "__main__":
    sys.exit(_quiet(main))
