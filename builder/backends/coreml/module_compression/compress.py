"""Applies a recipe's steps on the PyTorch model in order, and measures what each alone changes."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import torch
from torch import nn

from builder.artifacts.effects import worst_change
from builder.artifacts.stages import CompressionEffect, MeasuredOutputs, SkippedLayer
from builder.backends.coreml.module_compression.context import Context
from builder.backends.coreml.module_compression.layers import choose_layers
from builder.backends.coreml.module_compression.method import Method
from builder.errors import BuilderError, ConversionError, about
from builder.model.substitutions.batch_norm import batch_norm_folding
from builder.model.substitutions.rewrite import copy_module
from builder.spec.compression_kinds import compression_kind
from builder.spec.module_compression import ModuleCompression
from builder.util.lazy import resolve

_LOG = logging.getLogger("builder.compress")

Run = Callable[[nn.Module], tuple[torch.Tensor, ...]]
Measure = Callable[[Sequence[Mapping[str, torch.Tensor]], Sequence[Mapping[str, torch.Tensor]]], MeasuredOutputs]
"""Compares what two models give for the same examples: references, results -> measures by output."""


@dataclass(frozen=True, kw_only=True)
class Compressed:
    """A compressed model, and what the steps did to it."""

    module: nn.Module
    effects: tuple[CompressionEffect, ...]
    skipped: tuple[SkippedLayer, ...]


def compress_modules(
    module: nn.Module,
    steps: Mapping[str, ModuleCompression],
    run: Run,
    context: Callable[[str], Context],
    outputs: Sequence[str],
    measure: Measure,
) -> Compressed:
    """Apply the steps in their order; `module` stays as it is.

    `run` returns the outputs for the examples, which lie along their first axis; `outputs` are their names;
    `measure` compares them before and after a step.

    Raises ConversionError when a step fails or leaves every layer as it was.
    """
    effects: list[CompressionEffect] = []
    skipped: list[SkippedLayer] = []
    original = before = run(module) if steps else ()
    for name, step in steps.items():
        method: Method = resolve(str(compression_kind(step).method))
        new = batch_norm_folding(module, _any_batch_norm, None, run)[0] if method.folds else copy_module(module)
        layers = choose_layers(new, name, step, partial(method.why_not, step=step))
        with _errors(name):
            module = method.apply(new, step, layers, context(name)).eval()
            after = run(module)
        alone = measure(*_by_name(outputs, before, after))
        max_abs, snr_db = worst_change(alone)
        effects.append(
            CompressionEffect(
                name=name,
                kind=step.kind,
                stage="prepare",
                changed=tuple(layers.chosen),
                max_abs=max_abs,
                snr_db=snr_db,
                alone=alone,
                so_far=measure(*_by_name(outputs, original, after)),
                engine="pytorch",
                samples=len(after[0]),
            )
        )
        before = after
        skipped += layers.skipped
    return Compressed(module=module, effects=tuple(effects), skipped=tuple(skipped))


def _by_name(names: Sequence[str], *outputs: Sequence[torch.Tensor]) -> Iterator[list[dict[str, torch.Tensor]]]:
    """Each batch of outputs as one dictionary an example."""
    for batch in outputs:
        yield [dict(zip(names, one, strict=True)) for one in zip(*batch, strict=True)]


def _any_batch_norm(module: nn.Module) -> bool:
    return isinstance(module, nn.modules.batchnorm._BatchNorm)


@contextmanager
def _errors(name: str) -> Iterator[None]:
    """Wrap what coremltools raises, once, and send what it says to the log."""
    printed = io.StringIO()
    try:
        with (
            warnings.catch_warnings(record=True) as caught,
            contextlib.redirect_stdout(printed),
            contextlib.redirect_stderr(printed),  # its progress bars
        ):
            warnings.simplefilter("default")
            with about(f"compression.{name}"):
                yield
    except BuilderError:
        raise
    except Exception as error:
        _LOG.debug("compression %s failed", name, exc_info=error)
        text = next((line for line in str(error).splitlines() if line.strip()), "")
        message = f"compression {name} failed: {type(error).__name__}: {text}"
        raise ConversionError(message, code="B0410", key=f"compression.{name}") from error
    finally:
        for warning in caught:
            _LOG.debug("%s: %s", warning.category.__name__, warning.message)
        for line in filter(None, printed.getvalue().splitlines()):
            _LOG.debug("%s", line)
