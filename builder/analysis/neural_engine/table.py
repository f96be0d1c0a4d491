"""Every rule by its name, with how far it can be trusted and what says so. Imports nothing heavy: specs name rules."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from builder.analysis.neural_engine import rules
from builder.analysis.neural_engine.model import Hit, Model

Confidence = Literal["high", "medium", "low"]

_TRANSFORMERS = (
    "Apple, Deploying Transformers on the Apple Neural Engine "
    "(https://machinelearning.apple.com/research/neural-engine-transformers)"
)
_VISION = (
    "Apple, Deploying Attention-Based Vision Transformers to Apple Neural Engine "
    "(https://machinelearning.apple.com/research/vision-transformers)"
)
_ANE_TRANSFORMERS = "apple/ml-ane-transformers, README"
_GUIDE = "Apple Neural Engine guide, measured on M1 and M5 (https://ane-guide.readthedocs.io, arXiv 2606.22283)"
_LAYERS = "hollance/neural-engine, docs/unsupported-layers.md"
_TYPED = (
    "coremltools guide, Typed Execution (https://apple.github.io/coremltools/docs-guides/source/typed-execution.html)"
)


@dataclass(frozen=True, kw_only=True)
class Rule:
    """One rule."""

    find: Callable[[Model], Iterator[Hit]]
    """Its docstring describes it."""
    confidence: Confidence
    """high: Apple says so, or measured on several chips; medium: measured by others; low: hearsay, or disputed."""
    sources: tuple[str, ...]
    advice: str


RULES: Mapping[str, Rule] = {
    "float32": Rule(
        find=rules.float32,
        confidence="high",
        sources=(_TYPED, f"{_GUIDE}, chapter 17"),
        advice="build with `precision: fp16`, or `mixed` with as few float32 operators as accuracy allows",
    ),
    "flexible_range": Rule(
        find=rules.flexible_range,
        confidence="medium",
        sources=("apple/coremltools#1764", "apple/coremltools#2370"),
        advice="give fixed shapes, or enumerate the few that the app needs (`enumerated_shapes`)",
    ),
    "flexible_enumerated": Rule(
        find=rules.flexible_enumerated,
        confidence="medium",
        sources=(
            "coremltools guide, Flexible Input Shapes "
            "(https://apple.github.io/coremltools/docs-guides/source/flexible-inputs.html)",
            "apple/coremltools#2370",
            "apple/coremltools#1909",
        ),
        advice="make the most frequent shape the default one, or build one artifact for each",
    ),
    "recurrent": Rule(
        find=rules.recurrent,
        confidence="high",
        sources=("Apple in apple/coremltools#1780", f"{_GUIDE}, chapter 4", _LAYERS),
        advice="use convolutions or attention, or leave this part to the CPU and cut the model there",
    ),
    "rank": Rule(
        find=rules.rank,
        confidence="medium",
        sources=(_TRANSFORMERS, _VISION),
        advice="keep tensors at 4 dimensions, channels in the second one",
    ),
    "rank_above_5": Rule(
        find=rules.rank_above_5,
        confidence="high",
        sources=(_VISION,),
        advice="`python -m builder doctor` names the line; partition windows in steps of 5 dimensions",
    ),
    "large_dimension": Rule(
        find=rules.large_dimension,
        confidence="high",
        sources=(f"{_GUIDE}, chapter 17",),
        advice="split the dimension: a vocabulary into several linear layers, a sequence into chunks",
    ),
    "large_kernel": Rule(
        find=rules.large_kernel,
        confidence="low",
        sources=(f"{_GUIDE}, chapter 17",),
        advice="use several smaller kernels one after the other",
    ),
    "dilated_convolution": Rule(
        find=rules.dilated_convolution,
        confidence="low",
        sources=(_LAYERS, f"{_GUIDE}, chapter 4, which says that they run"),
        advice="measure on the devices that you support",
    ),
    "convolution_3d": Rule(
        find=rules.convolution_3d,
        confidence="medium",
        sources=(f"{_GUIDE}, chapter 4",),
        advice="convolve in two dimensions, with frames as channels or as the batch",
    ),
    "gather": Rule(
        find=rules.gather,
        confidence="medium",
        sources=(_ANE_TRANSFORMERS, "apple/coremltools#1103", _LAYERS),
        advice="few of them cost little, as where a transformer begins; elsewhere use slices or a one-hot product",
    ),
    "scatter": Rule(
        find=rules.scatter,
        confidence="medium",
        sources=(f"{_GUIDE}, chapter 4",),
        advice="write into a tensor by `torch.where` and `torch.cat`",
    ),
    "sort": Rule(
        find=rules.sort,
        confidence="medium",
        sources=("measured with MLComputePlan in roboflow/rf-detr#1495",),
        advice="sort in the app, after the model",
    ),
    "long_argmax": Rule(
        find=rules.long_argmax,
        confidence="medium",
        sources=(f"{_GUIDE}, chapter 17",),
        advice="return the scores and take the greatest in the app, or in two steps",
    ),
    "integer_arithmetic": Rule(
        find=rules.integer_arithmetic,
        confidence="low",
        sources=(f"{_GUIDE}, chapter 17",),
        advice="compute positions and masks in the app, or fix the shape so that they become constants",
    ),
    "padding_mode": Rule(
        find=rules.padding_mode,
        confidence="low",
        sources=("compute plan published with mickekringai/kb-whisper-coreml, MelSpectrogram",),
        advice="pad with zeros where the model allows",
    ),
    "layout": Rule(
        find=rules.layout,
        confidence="medium",
        sources=(_TRANSFORMERS, _ANE_TRANSFORMERS),
        advice="linear_to_conv1x1 makes convolutions of linear layers; (B, C, 1, S) is up to the model",
    ),
    "narrow_last_axis": Rule(
        find=rules.narrow_last_axis,
        confidence="high",
        sources=(_TRANSFORMERS,),
        advice="put a long dimension last",
    ),
    "working_set": Rule(
        find=rules.working_set,
        confidence="low",
        sources=(f"{_GUIDE}, chapter 17",),
        advice="compute in chunks, or at a smaller size",
    ),
    "custom_layer": Rule(
        find=rules.custom_layer,
        confidence="high",
        sources=(_LAYERS,),
        advice="write it with Core ML's own operators",
    ),
    "broadcastable_layer": Rule(
        find=rules.broadcastable_layer,
        confidence="low",
        sources=(_LAYERS,),
        advice="build an ML program: `target: ios15` or later with `format: mlpackage`",
    ),
}
