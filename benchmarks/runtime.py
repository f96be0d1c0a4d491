"""Forward time of the runtime compared with onnxruntime and torch eager; load time, memory and accuracy too.

    python benchmarks/runtime.py [--models mobilenet_v2 …] [--variants fp32 "fp16 half"] [--rounds 15] [--threads 1]
                                 [--keep FOLDER]

Each model has seeded weights and is exported to ONNX and converted for iOS 16 in fp32 and fp16, and from fp16 to int8
(linear) and to a 6-bit palette. A ratio is the median, over `--rounds`, of what a prediction from numpy arrays to numpy
arrays takes in times of onnxruntime's of the same round (fp32 and "fp16 half") or of torch's (the others). fp16 and
compressed variants round to half after each operator, "fast" computes in fp32 throughout. With one thread times are
those of that thread, so that others on the machine count little. "First" is the first prediction, which brings the
weights into the form that is fastest, in times of the median.
Load time is processor time, after imports; its goal is in proportion to the parameters, from 20 million on.
Memory is what a fresh process has grown by, after its imports, once it has loaded and once it has predicted,
in units of the weights in the type that they are computed in (float32), for models over 100 MB. `--keep` keeps the
converted models for the next run. SNR is against torch, and shows that the same thing was computed.
"""

from __future__ import annotations

import argparse
import logging
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

SEED = 0
MODELS = (
    "mobilenet_v2", "mobilenet_v3_small", "efficientnet_b0", "resnet18", "resnet50", "convnext_tiny", "vit_b_16",
    "swin_t", "detector", "text_line", "bert", "decoder",
)  # fmt: skip
"""torchvision's, and four of ours: see `source`."""
FIRST_GOAL = 3.0
WORST_GOAL = 1.3
LOAD_GOAL, MEMORY_GOAL = 0.3, 1.5
MEMORY_FROM_BYTES = 100e6
LOAD_FROM_PARAMETERS = 2e7


@dataclass(frozen=True, kw_only=True)
class Variant:
    """A converted model (`file`) and the precision it is loaded with; `goal` is in times of the engine `against`."""

    name: str
    file: str
    precision: str
    goal: float
    against: str = "torch"


VARIANTS = (
    Variant(name="fp32", file="fp32", precision="half", goal=1.0, against="onnxruntime"),
    Variant(name="fp16 half", file="fp16", precision="half", goal=1.15, against="onnxruntime"),
    Variant(name="fp16 fast", file="fp16", precision="fast", goal=1.0),
    Variant(name="int8", file="int8", precision="half", goal=1.2),
    Variant(name="palette 6", file="palette6", precision="half", goal=1.2),
    Variant(name="palette 6 fast", file="palette6", precision="fast", goal=1.0),
)


class Decoder(nn.Module):
    """A small language model: 6 layers, 8 heads, width 512, 128 tokens (1, 128) of 8,000 to logits (1, 128, 8000)."""

    def __init__(
        self, *, width: int = 512, layers: int = 6, heads: int = 8, tokens: int = 128, words: int = 8000
    ) -> None:
        super().__init__()
        self.heads = heads
        self.embedding = nn.Embedding(words, width)
        self.position = nn.Parameter(torch.randn(1, tokens, width) * 0.02)
        self.layers = nn.ModuleList(
            nn.ModuleDict(
                {
                    "before": nn.LayerNorm(width),
                    "qkv": nn.Linear(width, 3 * width),
                    "out": nn.Linear(width, width),
                    "between": nn.LayerNorm(width),
                    "up": nn.Linear(width, 4 * width),
                    "down": nn.Linear(4 * width, width),
                }
            )
            for _ in range(layers)
        )
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, words, bias=False)
        self.register_buffer("mask", torch.full((tokens, tokens), -1e4).triu(1))

    def attention(self, x: Tensor, layer: Any) -> Tensor:
        """Causal attention (1, T, W) -> (1, T, W)."""
        batch, tokens, width = x.shape
        shape = (batch, tokens, 3, self.heads, width // self.heads)
        query, key, value = layer["qkv"](x).reshape(shape).permute(2, 0, 3, 1, 4).unbind(0)
        scores = query @ key.transpose(-1, -2) * (width // self.heads) ** -0.5 + self.mask
        mixed = scores.softmax(-1) @ value
        out: Tensor = layer["out"](mixed.transpose(1, 2).reshape(batch, tokens, width))
        return out

    def forward(self, tokens: Tensor) -> Tensor:
        """Logits of the next token at each place."""
        x = self.embedding(tokens) + self.position
        for layer in self.layers:
            x = x + self.attention(layer["before"](x), layer)
            x = x + layer["down"](nn.functional.gelu(layer["up"](layer["between"](x))))
        logits: Tensor = self.head(self.norm(x))
        return logits


class Tokens(nn.Module):
    """BERT of 6 layers, 12 heads and width 384: tokens (1, 64) of 8,000 to the hidden state (1, 64, 384)."""

    def __init__(self) -> None:
        super().__init__()
        from transformers import BertConfig, BertModel

        sizes = {"num_hidden_layers": 6, "hidden_size": 384, "intermediate_size": 1536, "vocab_size": 8000}
        self.model = BertModel(BertConfig(**sizes, attn_implementation="eager"))

    def forward(self, tokens: Tensor) -> Tensor:
        """The last hidden state."""
        hidden: Tensor = self.model(tokens.long()).last_hidden_state
        return hidden


class Detector(nn.Module):
    """SSDLite320 on MobileNetV3-Large, no suppression: (1, 3, 320, 320) to boxes and scores (1, A, 95)."""

    def __init__(self, models: Any) -> None:
        super().__init__()
        whole = models.detection.ssdlite320_mobilenet_v3_large(weights=None, weights_backbone=None)
        self.backbone, self.head = whole.backbone, whole.head

    def forward(self, images: Tensor) -> Tensor:
        """Regression and logits of each anchor."""
        found = self.head(list(self.backbone(images).values()))
        return torch.cat([found["bbox_regression"], found["cls_logits"]], -1)


def source(name: str) -> tuple[nn.Module, np.ndarray[Any, Any]]:
    """The seeded torch model and an input.

    "text_line" is MobileNetV3-Small with 0.35 of its channels on (1, 3, 48, 192), of the size of PP-OCR's classifier.
    """
    torch.manual_seed(SEED)
    random = np.random.default_rng(SEED)
    if name == "decoder":
        return Decoder().eval(), random.integers(0, 8000, (1, 128)).astype(np.int32)
    if name == "bert":
        return Tokens().eval(), random.integers(0, 8000, (1, 64)).astype(np.int32)
    from builder.model.torchvision_import import import_torchvision

    models = import_torchvision().models
    size: tuple[int, ...] = (3, 224, 224)
    model: nn.Module
    if name == "detector":
        model, size = Detector(models), (3, 320, 320)
    elif name == "text_line":
        layers, last = sys.modules[models.MobileNetV3.__module__]._mobilenet_v3_conf(
            "mobilenet_v3_small", width_mult=0.35
        )
        model, size = models.MobileNetV3(layers, last // 8, num_classes=2), (3, 48, 192)
    else:
        model = getattr(models, name)(weights=None)
    for parameter in model.parameters():  # some heads begin at zero
        if not parameter.any():
            nn.init.normal_(parameter, std=0.02)
    with torch.no_grad():  # statistics that fit the activations, which would vanish or explode without
        model.train()(torch.rand(4, *size))
    return model.eval(), random.random((1, *size)).astype(np.float32)


def convert(name: str, folder: Path) -> None:
    """Write a model's ONNX file and packages. Runs in a process of its own: conversion leaves much memory behind."""
    from builder.backends.coreml.importing import import_coremltools

    ct = import_coremltools()
    from coremltools.optimize import coreml as optimize

    logging.getLogger("coremltools").setLevel(logging.ERROR)
    torch.backends.mha.set_fastpath_enabled(False)  # coremltools cannot convert the fused attention
    model, example = source(name)
    with torch.no_grad():
        tensor = torch.from_numpy(example)
        traced = torch.jit.trace(model, tensor, check_trace=False)
        torch.onnx.export(
            model, (tensor,), str(folder / "model.onnx"), dynamo=False, input_names=["input"], opset_version=17
        )
    for precision in ("fp32", "fp16"):
        converted = ct.convert(
            traced,
            inputs=[ct.TensorType(name="input", shape=example.shape, dtype=example.dtype.type)],
            outputs=[ct.TensorType(name="output", dtype=np.float32)],
            minimum_deployment_target=ct.target.iOS16,
            compute_precision=ct.precision.FLOAT16 if precision == "fp16" else ct.precision.FLOAT32,
            skip_model_load=True,
        )
        converted.save(str(folder / f"{precision}.mlpackage"))
    int8 = optimize.OptimizationConfig(optimize.OpLinearQuantizerConfig(mode="linear_symmetric"))
    optimize.linear_quantize_weights(converted, int8).save(str(folder / "int8.mlpackage"))
    palette = optimize.OptimizationConfig(optimize.OpPalettizerConfig(mode="uniform", nbits=6))
    optimize.palettize_weights(converted, palette).save(str(folder / "palette6.mlpackage"))


def memory(path: str, precision: str) -> None:
    """Print by how many bytes this process has grown after it loaded a model, and after it predicted."""
    from coreml_runtime.model import load
    from coreml_runtime.ops import operators
    from coreml_runtime.proto import messages

    import_module("coreml_runtime.mlprogram")
    messages("Model_pb2")
    operators()
    before = resident()
    model = load(path, precision=precision)  # type: ignore[arg-type]  # one of the variants' precisions
    loaded = resident() - before
    model.predict({name: np.zeros(getattr(feature, "shape", ())) for name, feature in model.inputs.items()})
    print(loaded, resident() - before)


def resident() -> int:
    """Resident memory of this process in bytes (Linux)."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * 4096


def timed(call: Callable[[], Any], clock: Callable[[], float] = time.perf_counter) -> float:
    """Seconds of one call."""
    started = clock()
    call()
    return clock() - started


def snr(actual: np.ndarray[Any, Any], expected: np.ndarray[Any, Any]) -> float:
    """Signal to noise in decibels."""
    wide = expected.astype(np.float64)
    noise = float(np.square(actual.astype(np.float64) - wide).sum())
    return float("inf") if noise == 0 else 10 * float(np.log10(np.square(wide).sum() / noise))


def session(path: Path, threads: int) -> Callable[[np.ndarray[Any, Any]], np.ndarray[Any, Any]]:
    """A prediction of onnxruntime on this many threads of the processor."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads, options.log_severity_level = threads, 1, 3
    running = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return lambda example: running.run(None, {"input": example})[0]  # type: ignore[no-any-return]  # one array


def compare(name: str, folder: Path, rounds: int, threads: int, variants: list[Variant]) -> dict[str, float]:
    """Measure one model, print a line a variant, and return the ratios."""
    from coreml_runtime import load

    model, example = source(name)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    tensor = torch.from_numpy(example)

    def eager() -> np.ndarray[Any, Any]:
        with torch.inference_mode():
            output: Tensor = model(tensor)
            return output.numpy()

    def loader(variant: Variant) -> Callable[[], Any]:
        path = str(folder / f"{variant.file}.mlpackage")
        return lambda: load(path, precision=variant.precision)  # type: ignore[arg-type]  # one of the precisions

    loader(variants[0])()  # imports and the file cache are not what is measured
    loads = {
        variant: statistics.median(timed(loader(variant), time.process_time) for _ in range(5)) for variant in variants
    }
    models = {variant: loader(variant)() for variant in variants}
    calls: dict[Any, Callable[[], Any]] = {
        "torch": eager, "onnxruntime": partial(session(folder / "model.onnx", threads), example)
    }  # fmt: skip
    calls |= {variant: partial(loaded.predict, {"input": example}) for variant, loaded in models.items()}
    clock = time.thread_time if threads == 1 else time.perf_counter
    first = {key: timed(call, clock) for key, call in calls.items()}
    times: dict[Any, list[float]] = {key: [] for key in calls}
    for _ in range(rounds):
        for key, call in calls.items():
            times[key].append(timed(call, clock))
    middle = {key: statistics.median(values) for key, values in times.items()}
    print(
        f"\n{name}: {parameters / 1e6:.1f} million parameters, onnxruntime {middle['onnxruntime'] * 1e3:.1f} ms, "
        f"torch eager {middle['torch'] * 1e3:.1f} ms"
    )
    expected = eager()
    ratios = {}
    for variant, loaded in models.items():
        pairs = zip(times[variant], times[variant.against], strict=True)
        ratios[variant.name] = statistics.median(ours / theirs for ours, theirs in pairs)
        quality = snr(loaded.predict({"input": example})["output"], expected)
        loaded_in = with_goal(loads[variant], LOAD_GOAL * max(parameters, LOAD_FROM_PARAMETERS) / 1e8, digits=2)
        grown = growth(str(folder / f"{variant.file}.mlpackage"), variant, parameters)
        ratio = with_goal(ratios[variant.name], variant.goal, digits=2)
        started = with_goal(first[variant] / middle[variant], FIRST_GOAL)
        print(
            f"  {variant.name:15} {middle[variant] * 1e3:7.1f} ms  {ratio} of {variant.against}   first {started}   "
            f"load {loaded_in} s   SNR {quality:5.1f} dB{grown}",
            flush=True,
        )
    return ratios


def summarise(variants: list[Variant], ratios: list[dict[str, float]]) -> None:
    """The geometric mean and the worst model of each variant that is held against onnxruntime."""
    print()
    for variant in variants:
        if variant.against == "onnxruntime":
            values = [each[variant.name] for each in ratios]
            mean, worst = statistics.geometric_mean(values), max(values)
            print(
                f"{variant.name:15} geometric mean {with_goal(mean, variant.goal, digits=2)}, "
                f"worst {with_goal(worst, WORST_GOAL)} of onnxruntime"
            )


def growth(path: str, variant: Variant, parameters: int) -> str:
    """The growth of a fresh process, for models whose weights exceed 100 MB."""
    if parameters * 4 < MEMORY_FROM_BYTES:
        return ""
    said = subprocess.run(
        [sys.executable, __file__, "--memory", path, variant.precision], check=True, capture_output=True, text=True
    ).stdout
    loaded, predicted = (int(grown) / (parameters * 4) for grown in said.split())
    return f"   memory {loaded:.2f} loaded, {with_goal(predicted, MEMORY_GOAL)} after a prediction"


def with_goal(value: float, goal: float, digits: int = 1) -> str:
    """A value with its goal, and whether it is met."""
    return f"{value:5.2f} (goal {goal:.{digits}f}, {'met' if value <= goal else 'MISSED'})"


def main() -> None:
    """Convert what is not there yet, then measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", choices=MODELS, default=MODELS)
    names = [variant.name for variant in VARIANTS]
    parser.add_argument("--variants", nargs="+", choices=names, default=names)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--keep", type=Path)
    parser.add_argument("--convert", nargs=2, metavar=("MODEL", "FOLDER"), help=argparse.SUPPRESS)
    parser.add_argument("--memory", nargs=2, metavar=("PATH", "PRECISION"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.convert:
        warnings.simplefilter("ignore")
        convert(options.convert[0], Path(options.convert[1]))
        return
    if options.memory:
        memory(*options.memory)
        return
    print(
        f"{platform.machine()}, {options.threads} thread(s), torch {version('torch')}, coremltools "
        f"{version('coremltools')}, seed {SEED}, {options.rounds} rounds in turn, medians; "
        f"onnxruntime {version('onnxruntime')}"
    )
    variants = [variant for variant in VARIANTS if variant.name in options.variants]
    ratios = []
    with tempfile.TemporaryDirectory() as temporary:
        for name in options.models:
            folder = (options.keep or Path(temporary)) / name
            if not (folder / "palette6.mlpackage").exists():
                folder.mkdir(parents=True, exist_ok=True)
                subprocess.run(
                    [sys.executable, __file__, "--convert", name, str(folder)], check=True, capture_output=True,
                    env={**os.environ, "TMPDIR": temporary},
                )  # fmt: skip
            ratios.append(compare(name, folder, options.rounds, options.threads, variants))
    summarise(variants, ratios)


if __name__ == "__main__":
    main()
