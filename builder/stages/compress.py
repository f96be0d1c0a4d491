"""The compress stage: weights of a converted program in fewer bits, step by step, with what was left alone and why."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

from builder.artifacts import CompressedModel, ConvertedModel, SkippedLayer
from builder.errors import ConversionError
from builder.nearest import did_you_mean
from builder.progress import Progress
from builder.spec import BuildSpec
from builder.spec.compression import Compression, LinearQuantize, Palettize, Prune
from builder.stages.convert import conversion_errors
from builder.stages.fast_conversion import fast_conversion, replaced, validate_program


def compress(converted: ConvertedModel, spec: BuildSpec, progress: Progress) -> CompressedModel:
    """Apply the recipe's compression steps in their order; a later step compresses what an earlier one made.

    Raises ConversionError when a step fails, names weights that do not exist, or leaves every weight as it was.
    """
    if not spec.compression:
        return CompressedModel(model=converted.model, said="none")
    model, skipped, changed = converted.model, [], []
    with fast_conversion() as keep:
        for index, (name, step) in enumerate(spec.compression.items()):
            log = _StepLog(name, step, progress)
            with conversion_errors(f"compression {name} failed"), _one_thread(), log.watching():
                model = _METHODS[type(step)](model, step, index > 0)
            log.check()
            skipped += log.skipped
            changed.append(f"{name}: {len(log.changed)} weights")
            progress.detail(f"{changed[-1]}, {len(log.skipped)} left as they were")
        validate_program(model._mil_program)
        keep(model)
    return CompressedModel(model=model, skipped=tuple(skipped), said=", ".join(changed))


def _linear_quantize(model: Any, step: LinearQuantize, joint: bool) -> Any:
    import coremltools.optimize.coreml as cto

    config = cto.OpLinearQuantizerConfig(
        mode=step.mode,
        dtype=step.dtype,
        granularity=step.granularity,
        block_size=step.block_size,
        weight_threshold=step.weight_threshold,
    )
    return cto.linear_quantize_weights(model, cto.OptimizationConfig(global_config=config), joint_compression=joint)


def _palettize(model: Any, step: Palettize, joint: bool) -> Any:
    import coremltools.optimize.coreml as cto

    config = cto.OpPalettizerConfig(
        mode=step.mode,
        nbits=None if step.mode == "unique" else step.nbits,
        granularity=step.granularity,
        group_size=step.group_size,
        num_kmeans_workers=1,  # more than one hung in one of two runs
        weight_threshold=step.weight_threshold,
    )
    return cto.palettize_weights(model, cto.OptimizationConfig(global_config=config), joint_compression=joint)


def _prune(model: Any, step: Prune, joint: bool) -> Any:
    import coremltools.optimize.coreml as cto

    config = cto.OpMagnitudePrunerConfig(target_sparsity=step.target_sparsity, weight_threshold=step.weight_threshold)
    return cto.prune_weights(model, cto.OptimizationConfig(global_config=config), joint_compression=joint)


_METHODS: Mapping[type[Compression], Callable[[Any, Any, bool], Any]] = {
    LinearQuantize: _linear_quantize,
    Palettize: _palettize,
    Prune: _prune,
}


class _StepLog(logging.Handler):
    """Chooses the weights that a step is for, shows its progress, and notes which it left alone and what it said."""

    def __init__(self, name: str, step: Compression, progress: Progress) -> None:
        super().__init__(logging.WARNING)
        self.step_name, self.step, self.progress = name, step, progress
        self.changed: list[str] = []
        self.skipped: list[SkippedLayer] = []
        self._said: list[str] = []
        self._known_names: set[str] = set()
        self._known_types: set[str] = set()

    def emit(self, record: logging.LogRecord) -> None:
        """Note why coremltools skips the weight at hand."""
        self._said.append(record.getMessage())

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Follow coremltools' loop over the weights of a program."""
        from coremltools.optimize.coreml import _quantization_passes as passes

        logger = logging.getLogger("coremltools")
        logger.addHandler(self)
        try:
            with replaced(passes, "tqdm", self._follow):
                yield
        finally:
            logger.removeHandler(self)

    def _follow(self, ops: list[Any], **_: Any) -> Iterator[Any]:
        chosen = [op for op in ops if self._is_chosen(op)]
        with self.progress.bar(f"compress {self.step_name}", len(chosen), unit="it") as advance:
            for op in chosen:
                self._said.clear()
                yield op
                self._note(op)
                advance(1)

    def _is_chosen(self, op: Any) -> bool:
        consumers = list(_consumers(op))
        names = {op.name, *(consumer.name for consumer in consumers)}
        types = {consumer.op_type for consumer in consumers}
        self._known_names |= names
        self._known_types |= types
        step = self.step
        return (step.names is None or bool(names & set(step.names))) and (
            step.op_types is None or bool(types & set(step.op_types))
        )

    def _note(self, op: Any) -> None:
        if op.enclosing_block is None:
            self.changed.append(op.name)
        elif self._said or _could_be_compressed(op, self.step):
            reason = " ".join(self._said) or "coremltools does not say why"
            self.skipped.append(SkippedLayer(step=self.step_name, name=op.name, reason=reason))

    def check(self) -> None:
        """Raise ConversionError where the step named something unknown or did nothing at all."""
        for setting, given, known in (
            ("op_types", self.step.op_types, self._known_types),
            ("names", self.step.names, self._known_names),
        ):
            for name in given or ():
                if name not in known:
                    raise ConversionError(
                        f"compression {self.step_name}: no weight of the program belongs to {name}",
                        hint=did_you_mean(name, known),
                        key=f"compression.{self.step_name}.{setting}",
                    )
        if not self.changed:
            reasons = sorted({layer.reason for layer in self.skipped})
            too_small = f"only weights of more than {self.step.weight_threshold} elements are compressed"
            raise ConversionError(
                f"compression {self.step_name} changed no weight: {reasons[0] if reasons else too_small}",
                key=f"compression.{self.step_name}",
            )


def _consumers(op: Any) -> Iterator[Any]:
    """The operators that compute with a weight, behind those that decompress it."""
    for output in op.outputs:
        for child in output.child_ops:
            if child.op_type.startswith("constexpr_"):
                yield from _consumers(child)
            else:
                yield child


def _could_be_compressed(op: Any, step: Compression) -> bool:
    value = op.outputs[0].val
    if op.op_type != "const" or value is None or value.ndim < 2 or value.size <= step.weight_threshold:
        return False
    return not any(child.op_type.startswith("constexpr_") for child in op.outputs[0].child_ops)


@contextmanager
def _one_thread() -> Iterator[None]:
    """Compute with one thread: the sums of k-means depend on how many there are."""
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped] # it has no stubs

    with ExitStack() as scoped:
        with contextlib.suppress(ImportError):
            import sklearn.cluster  # noqa: F401 - its thread pools must be loaded to be limited

        scoped.enter_context(threadpool_limits(limits=1))
        yield
