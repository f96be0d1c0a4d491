"""Runs a plan: one loop over steps, which read and write numbered slots of a frame."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch

from coreml_runtime.binding import Argument, Bound, Slot
from coreml_runtime.dtypes import NARROW, WRAPPED, Precision, held, holder, round_half, round_half_in_place
from coreml_runtime.errors import PredictionError, RuntimeFailure
from coreml_runtime.ops import replayed
from coreml_runtime.ops.context import UNKNOWN_RANK, Context, TensorType, is_real
from coreml_runtime.ops.open_sizes import agree
from coreml_runtime.ops.table import Kernel, Value, is_exact, is_fresh
from coreml_runtime.program import Operation, ValueType

Frame = list[Value]


@dataclass(frozen=True, kw_only=True)
class Execution:
    """What one prediction carries along. `record` collects intermediates by name; None records nothing."""

    generator: torch.Generator
    states: dict[str, torch.Tensor]
    record: dict[str, Value] | None = None


Run = Callable[[Frame, Execution], None]


@dataclass(frozen=True, kw_only=True, slots=True)
class Step:
    """One operation: `run` reads and writes the frame, `frees` are slots that nobody reads afterwards.

    `fast` does the same for those who look at the block's outputs alone: it may write over a slot of `frees`, and a
    step may do the work of the next. All steps of a block go one way or the other. `replays` says that `fast` calls
    operators of torch alone, with arguments that follow from shapes.
    """

    type: str
    name: str
    run: Run
    fast: Run
    outputs: tuple[tuple[str, int], ...]
    frees: tuple[int, ...]
    replays: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class BlockPlan:
    """Steps in order; `inputs` are slots to fill before, `outputs` where the results are after."""

    inputs: tuple[int, ...]
    steps: tuple[Step, ...]
    outputs: tuple[Argument, ...]


def execute(block: BlockPlan, frame: Frame, execution: Execution) -> tuple[Value, ...]:
    """Run a block and return its outputs. A kernel that fails is a PredictionError that names the operator."""
    record = execution.record
    step = None
    try:
        if record is None:
            for step in block.steps:
                step.fast(frame, execution)
                for slot in step.frees:
                    frame[slot] = None
        else:
            for step in block.steps:
                step.run(frame, execution)
                record.update((name, frame[slot]) for name, slot in step.outputs)
                for slot in step.frees:
                    frame[slot] = None
    except RuntimeFailure:
        raise
    except Exception as error:
        where = f"operator {step.type} {step.name!r}" if step else "the program"
        raise PredictionError(f"{where}: {error}") from error
    return tuple(frame[each.index] if isinstance(each, Slot) else each.value for each in block.outputs)


def make_step(
    operation: Operation, kernel: Kernel, bound: Bound, *, outputs: tuple[int, ...], blocks: tuple[BlockPlan, ...],
    frees: tuple[int, ...], opset: str, precision: Precision, fast: Kernel | None = None,
) -> Step:  # fmt: skip
    """Bind an operation to its kernel, its constants and its slots; `fast` is another kernel for the fast way."""
    runner = partial(_runner, operation, bound, outputs=outputs, blocks=blocks, opset=opset, precision=precision)
    run = runner(kernel)
    return Step(
        type=operation.type,
        name=operation.name,
        run=run,
        fast=run if fast is None else runner(fast),
        outputs=tuple((entry.name, slot) for entry, slot in zip(operation.outputs, outputs, strict=True)),
        frees=frees,
        replays=operation.type in replayed() and not (blocks or bound.converted),
    )


def _runner(
    operation: Operation, bound: Bound, kernel: Kernel, *, outputs: tuple[int, ...], blocks: tuple[BlockPlan, ...],
    opset: str, precision: Precision,
) -> Run:  # fmt: skip
    rounds = not (is_exact(kernel) and all(map(_is_half, bound.known.values())))
    finish = tuple(
        finisher(entry.type, precision, rounds=rounds, in_place=is_fresh(kernel)) for entry in operation.outputs
    )
    call = partial(kernel, **bound.known) if bound.known else kernel
    if _takes_one(bound) and len(outputs) == 1 and finish[0] is not None:
        return _one_to_one(call, *bound.tensors[0], outputs[0], finish[0])
    compute = _with_context(call, bound, operation, blocks, opset, precision) if bound.context else _plain(call, bound)
    return _store(compute, outputs, finish)


def _takes_one(bound: Bound) -> bool:
    return len(bound.tensors) == 1 and not (bound.context or bound.groups or bound.converted)


def _one_to_one(call: Callable[..., Value], name: str, slot: int, only: int, finish: Callable[[Value], Value]) -> Run:
    """From one slot to another in as few calls of Python as there can be: most steps of a network are so."""

    def run(frame: Frame, _: Execution) -> None:
        result = call(**{name: frame[slot]})
        frame[only] = finish(result[0] if type(result) is tuple else result)

    return run


def finisher(
    declared: ValueType, precision: Precision, *, rounds: bool, in_place: bool = False
) -> Callable[[Value], Value] | None:
    """What turns a kernel's result into a value of the declared type; None for lists, dictionaries and text.

    A result of another shape than declared is a ValueError: the file is inconsistent or the kernel is wrong.
    """
    if not isinstance(declared, TensorType) or declared.dtype == "string":
        return None
    dtype = held(declared.dtype, precision)
    convert: Callable[[torch.Tensor], torch.Tensor] | None = None
    if declared.dtype == "fp16" and precision == "half" and rounds:
        convert = round_half_in_place if in_place else round_half
    elif rounds and declared.dtype in NARROW:
        convert = partial(_narrow, through=NARROW[declared.dtype], dtype=dtype)
    elif rounds and declared.dtype in WRAPPED:
        convert = partial(_wrap, mask=WRAPPED[declared.dtype], dtype=dtype)
    shape = declared.shape

    def finish(value: torch.Tensor) -> torch.Tensor:
        # the usual case first: small models spend their time in calls
        if not (type(value) is torch.Tensor and value.shape == shape) and not _fits(value, shape):
            raise ValueError(f"the result has the shape {tuple(value.shape)}, the file declares {shape}")
        if convert is not None:
            return convert(value)
        return value if value.dtype is dtype else value.to(dtype)

    return finish


def _fits(value: torch.Tensor, shape: tuple[int | None, ...]) -> bool:
    """Whether a result has a declared shape; of one without values, whether it may have it."""
    if is_real(value):
        return matches(value.shape, shape)
    return shape == UNKNOWN_RANK or agree(value.shape, shape)


def matches(shape: tuple[int, ...], declared: tuple[int | None, ...]) -> bool:
    """Whether a shape fits a declared one with unknown sizes."""
    if declared == UNKNOWN_RANK:
        return True
    return len(shape) == len(declared) and all(
        expected is None or size == expected for size, expected in zip(shape, declared, strict=True)
    )


def _is_half(constant: object) -> bool:
    """Whether a number is one that half precision has; anything but a float is."""
    return not isinstance(constant, float) or constant == torch.tensor(constant).to(torch.float16).item()


def _narrow(value: torch.Tensor, *, through: torch.dtype, dtype: torch.dtype) -> torch.Tensor:
    """Values rounded to what `through` can hold."""
    return value.to(through).to(dtype)


def _wrap(value: torch.Tensor, *, mask: int, dtype: torch.dtype) -> torch.Tensor:
    """Integers modulo a power of two: what unsigned arithmetic gives."""
    return value.to(dtype) & mask


def _plain(call: Callable[..., Value], bound: Bound) -> Callable[[Frame, Execution], Value]:
    if bound.groups or bound.converted:
        return lambda frame, _: call(**bound.gather(frame))
    tensors = bound.tensors
    return lambda frame, _: call(**{name: frame[slot] for name, slot in tensors})


def _with_context(
    call: Callable[..., Value], bound: Bound, operation: Operation, blocks: tuple[BlockPlan, ...], opset: str,
    precision: Precision,
) -> Callable[[Frame, Execution], Value]:  # fmt: skip
    output_types = tuple(entry.type if isinstance(entry.type, TensorType) else None for entry in operation.outputs)

    def compute(frame: Frame, execution: Execution) -> Value:
        context = Context(
            opset=opset,
            output_types=output_types,
            held=holder[precision],
            generator=execution.generator,
            run_block=Blocks(blocks, frame, execution),
            states=execution.states,
        )
        return call(context=context, **bound.gather(frame))

    return compute


@dataclass(frozen=True, slots=True)
class Blocks:
    """The nested blocks of one operation in one run; the frame also holds what is around them."""

    blocks: tuple[BlockPlan, ...]
    frame: Frame
    execution: Execution

    def __call__(self, index: int, *arguments: object) -> tuple[object, ...]:
        """The outputs of a block for its inputs."""
        block = self.blocks[index]
        for slot, value in zip(block.inputs, arguments, strict=True):
            self.frame[slot] = value
        return execute(block, self.frame, self.execution)


def _store(
    compute: Callable[[Frame, Execution], Value],
    outputs: tuple[int, ...],
    finish: tuple[Callable[[Value], Value] | None, ...],
) -> Callable[[Frame, Execution], None]:
    """Compute, bring each result to its declared type, and put it into its slot."""
    if len(outputs) == 1 and finish[0] is not None:
        only, last = outputs[0], finish[0]

        def store_one(frame: Frame, execution: Execution) -> None:
            result = compute(frame, execution)
            frame[only] = last(result[0] if type(result) is tuple else result)

        return store_one

    def store(frame: Frame, execution: Execution) -> None:
        result = compute(frame, execution)
        results = result if isinstance(result, tuple) else (result,)
        if not outputs:
            return
        for slot, last, value in zip(outputs, finish, results, strict=True):
            frame[slot] = value if last is None else last(value)

    return store
