"""One compression step on a MIL program: which weights it changed, and why it left the others as they were."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from builder.artifacts.stages import SkippedLayer
from builder.backends.coreml.compression.selection import select_weights
from builder.backends.coreml.compression.weights import Slot, Weight, find_weights, slots_of
from builder.errors import ConversionError
from builder.progress import Progress
from builder.spec.compression import WeightCompression
from builder.spec.compression_kinds import compression_kind
from builder.util.lazy import resolve

if TYPE_CHECKING:
    from coremltools.converters.mil.mil import Operation, Program


@dataclass(kw_only=True)
class Step:
    """A step at work; `changed` and `skipped` say what it did."""

    name: str
    settings: WeightCompression
    generation: int
    """The iOS release of the target, which decides whether compressed weights can be compressed further."""
    names: dict[Slot, str]
    """The names of weights before any step, by where they are used; shared by all steps of a model."""
    progress: Progress
    changed: list[str] = field(default_factory=list)
    skipped: list[SkippedLayer] = field(default_factory=list)

    noun = "weight"
    """What `changed` counts."""

    def apply(self, program: Program) -> None:
        """Compress the chosen weights of `program` in place.

        Raises ConversionError where the step names something unknown, cannot work, or changes nothing.
        """
        weights = find_weights(program, self.names)
        self.names.update({slot: weight.name for weight in weights for slot in weight.slots})
        chosen = select_weights(self.name, self.settings, weights)
        self._check_target(chosen)
        reasons = self._run(program, chosen)
        forms = {slot: weight.form for weight in find_weights(program, self.names) for slot in weight.slots}
        for weight in chosen:
            if forms[weight.slots[0]] != weight.form:
                self.changed.append(weight.name)
            else:
                reason = self._reason(weight, reasons)
                self.skipped.append(SkippedLayer(step=self.name, name=weight.name, reason=reason))
        if not self.changed:
            raise nothing_changed(self, [w.name for w in chosen if w.size > self.settings.weight_threshold])

    def _run(self, program: Program, chosen: list[Weight]) -> dict[Slot, str]:
        """Run the passes on the chosen weights; what coremltools said of each, by where it is used."""
        wanted = {slot for weight in chosen for slot in weight.slots}
        seen: dict[Slot, list[str]] = {}
        further = self.generation >= 18 and any(weight.is_compressed for weight in chosen)
        with self.progress.bar(f"compress {self.name}", len(chosen), unit="it") as advance, _messages() as messages:

            def transform(op: Operation, original: Callable[[Operation], None]) -> None:
                slots = slots_of(op)
                messages.clear()
                with _kept_where_unchanged(op):
                    original(op)
                advance(0 if slots & seen.keys() else 1)
                for slot in slots:
                    seen.setdefault(slot, []).extend(messages)

            passes = resolve(str(compression_kind(self.settings).passes))
            for compression_pass in passes(self.settings, further=further):
                original = compression_pass.transform_op
                compression_pass.op_selector = lambda op: bool(slots_of(op) & wanted)
                compression_pass.transform_op = lambda op, original=original: transform(op, original)
                compression_pass.apply(program)
        return {slot: texts[0] for slot, texts in seen.items() if texts}

    def _check_target(self, chosen: list[Weight]) -> None:
        compressed = [weight.name for weight in chosen if weight.is_compressed]
        if compressed and self.generation < 18:
            raise ConversionError(
                f"compression {self.name} is for {compressed[0]}, which is compressed already, and to compress it "
                "further needs ios18 or its equivalents",
                code="B0410",
                hint="choose weights by op_types, names and their exceptions so that the steps do not meet",
                key=f"compression.{self.name}",
            )

    def _reason(self, weight: Weight, summary: Mapping[Slot, str]) -> str:
        threshold = self.settings.weight_threshold
        if weight.size <= threshold:
            return f"{weight.size} elements, and weight_threshold is {threshold}"
        reason = next((summary[slot] for slot in weight.slots if slot in summary), None)
        if reason and " not applicable for " in reason:
            return (
                f"blocks and n:m ratios are for conv and linear, and this is for {', '.join(sorted(weight.op_types))}"
            )
        if reason and "`cluster_dim` is invalid" in reason:
            return "the output channels of each group are not a multiple of cluster_dim"
        if reason:
            return reason
        if weight.is_compressed:
            return f"compressed already ({weight.form[0]}), and {self.settings.kind} adds nothing to that"
        return "coremltools does not say why"


def nothing_changed(step: Step, large: list[str]) -> ConversionError:
    """Why a step left every weight as it was; `large` are those above its threshold."""
    reasons = {layer.name: layer.reason for layer in step.skipped}
    hint = None
    if large:
        text = f"{reasons[large[0]]} ({large[0]})"
    elif step.skipped:
        text = f"only weights of more than {step.settings.weight_threshold} elements are compressed"
        hint = f"`compression.{step.name}.weight_threshold` says from how many on"
    else:
        text = "the model has none that it could be for"
    message = f"compression {step.name} changed no weight: {text}"
    return ConversionError(message, code="B0409", key=f"compression.{step.name}", hint=hint)


@contextmanager
def _kept_where_unchanged(op: Operation) -> Iterator[None]:
    """Restore a weight that coremltools scaled in place and then left alone.

    Its palettize_weights divides by the scales of enable_per_channel_scale before it finds out that the groups do not
    divide the channels. Delete this when it works on a copy.
    """
    value = op.outputs[0].val
    before = None if value is None else value.copy()
    yield
    if before is not None and op.enclosing_block is not None and not (value == before).all():
        value[...] = before


class _Messages(logging.Handler):
    def __init__(self, summary: list[str]) -> None:
        super().__init__(logging.WARNING)
        self.summary = summary

    def emit(self, record: logging.LogRecord) -> None:
        self.summary.append(record.getMessage())


@contextmanager
def _messages() -> Iterator[list[str]]:
    """What coremltools warns of, in which it says why it leaves a weight alone."""
    text: list[str] = []
    handler = _Messages(text)
    logger = logging.getLogger("coremltools")
    logger.addHandler(handler)
    try:
        yield text
    finally:
        logger.removeHandler(handler)
