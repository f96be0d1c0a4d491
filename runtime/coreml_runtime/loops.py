"""Recognises the loop that coremltools writes for torch.nn.GRU, and makes it one operation.

Given   while_loop(counter = 0, states = [h0, 0, 0, …]) whose body computes one step in 32 operators
Result  gru_loop(x, states, length, weights)

MIL's gru multiplies by the reset gate before the recurrent product, torch after it, so coremltools spells torch's out
(frontend/torch/ops.py, _add_gru_layer). Anything but exactly that stays a loop.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional

from coreml_runtime.ops.context import TensorType
from coreml_runtime.ops.open_sizes import hold
from coreml_runtime.ops.recurrent import iterate, prepare_lstm
from coreml_runtime.ops.table import Kernel, Value
from coreml_runtime.program import Argument, Block, Constant, Function, Operation, Reference

Producers = Mapping[str, Operation]

GRU_LOOP = "while_loop (gru)"
"""No operator of a file has such a name."""


@dataclass(frozen=True, slots=True)
class OpPattern:
    """Matches a constant of these numbers, or this text."""

    value: Value


@dataclass(frozen=True, slots=True)
class Var:
    """Matches one and the same value wherever it stands."""

    name: str


@dataclass(frozen=True, slots=True)
class Op:
    """Matches the result of an operation, through casts between floating types; `optional` arguments may be absent."""

    type: str
    arguments: Mapping[str, Pattern]
    optional: Mapping[str, Pattern] = field(default_factory=dict)


Pattern = OpPattern | Var | Op


def _gather(x: str) -> Op:
    row = Op(
        "gather", {"x": Var(x), "indices": Var("i"), "axis": OpPattern([0])},
        {"batch_dims": OpPattern([0]), "validate_indices": OpPattern([False])},
    )  # fmt: skip
    return Op("squeeze", {"x": row, "axes": OpPattern([0])})


def _linear(x: str, name: str) -> Op:
    return Op("linear", {"x": _gather(x), "weight": Var(f"weight_{name}")}, {"bias": Var(f"bias_{name}")})


def _gate(name: str) -> Op:
    return Op("sigmoid", {"x": Op("add", {"x": _linear("x", f"i{name}"), "y": _linear("states", f"h{name}")})})


_RESET = Op("mul", {"x": _gate("r"), "y": _linear("states", "hn")})
_NEW = Op("tanh", {"x": Op("add", {"x": _linear("x", "in"), "y": _RESET})})
_STATE = Op(
    "add",
    {
        "x": Op("mul", {"x": Op("sub", {"x": OpPattern([1.0]), "y": _gate("z")}), "y": _NEW}),
        "y": Op("mul", {"x": _gate("z"), "y": _gather("states")}),
    },
)
_NEXT = Op("add", {"x": Var("i"), "y": OpPattern([1])})
_STATES = Op(
    "scatter",
    {
        "data": Var("states"), "indices": _NEXT, "updates": Op("expand_dims", {"x": _STATE, "axes": OpPattern([0])}),
        "axis": OpPattern([0]), "mode": OpPattern("add"),
    },
    {"validate_indices": OpPattern([False])},
)  # fmt: skip
_COUNTER = Var("i")
_NOT_NEGATIVE = Op("greater_equal", {"x": _COUNTER, "y": OpPattern([0])})
_FLOATS, _INTEGERS = frozenset({"fp16", "fp32"}), frozenset({"int16", "uint16", "int32"})
_GOES_ON = Op("less", {"x": Var("i"), "y": Var("length")})


def fuse_loops(function: Function, *, rounds: bool) -> Function:
    """The function with each such loop as one operation; the same object where there is none.

    `rounds` says that fp16 values are rounded to half after each operation of a step, as the loop would.
    """
    outer = _producers(function.block)
    operations = tuple(_fused(each, outer, rounds) for each in function.block.operations)
    if all(new is old for new, old in zip(operations, function.block.operations, strict=True)):
        return function
    return replace(function, block=replace(function.block, operations=operations))


def _fused(operation: Operation, outer: Producers, rounds: bool) -> Operation:
    """The loop as one operation, or the operation as it is."""
    loop_vars, blocks = operation.inputs.get("loop_vars", ()), operation.blocks
    if operation.type != "while_loop" or len(loop_vars) != 2 or [len(each.inputs) for each in blocks] != [2, 2]:
        return operation
    condition, body = (_Match(block=each, outer=outer) for each in blocks)
    fits = condition.outputs(_GOES_ON) and body.outputs(_NEXT, _STATES) and body.matches(OpPattern([0]), loop_vars[0])
    values = {"length": condition.values.get("length"), **body.values}
    outside = {name: body.outside(value) for name, value in values.items() if value and name not in ("i", "states")}
    if not fits or None in outside.values():
        return operation
    inputs: dict[str, Argument] = {name: (value,) for name, value in outside.items() if value}
    half = Constant(value=torch.tensor(rounds and body.state == "fp16"), type=TensorType(dtype="bool", shape=()))
    inputs |= {"states": (loop_vars[1],), "rounds": (half,)}
    return replace(operation, type=GRU_LOOP, inputs=inputs, blocks=())


def _producers(block: Block) -> dict[str, Operation]:
    return {entry.name: each for each in block.operations for entry in each.outputs}


class _Match:
    """Matches a block of a loop against patterns; `values` are what variables stand for."""

    def __init__(self, *, block: Block, outer: Producers) -> None:
        """The block's two inputs are the counter and the states."""
        self._block, self._inner = block, _producers(block)
        self._all = {**outer, **self._inner}
        self.values: dict[str, Reference | Constant] = {
            name: Reference(name=entry.name) for name, entry in zip(("i", "states"), block.inputs, strict=True)
        }
        self.state = ""

    def outputs(self, *patterns: Pattern) -> bool:
        """Whether the block returns what the patterns describe."""
        return len(patterns) == len(self._block.outputs) and all(
            self.matches(pattern, Reference(name=name))
            for pattern, name in zip(patterns, self._block.outputs, strict=True)
        )

    def outside(self, value: Reference | Constant) -> Reference | Constant | None:
        """The value as the surroundings of the loop know it: a constant, or a name from there; else None."""
        if isinstance(value, Constant):
            return value
        made = self._all.get(value.name)
        if made is not None and made.type == "const":
            stored = made.inputs.get("val", ())
            return stored[0] if len(stored) == 1 else None
        own = value.name in self._inner or value.name in {entry.name for entry in self._block.inputs}
        return None if own else value

    def matches(self, pattern: Pattern, value: Reference | Constant) -> bool:
        """Whether the value is what the pattern describes."""
        if isinstance(pattern, OpPattern):
            return self._is(pattern, value)
        value = self._uncast(value, _INTEGERS if pattern == _COUNTER else _FLOATS)
        if pattern == _COUNTER:
            value = self._wrapped(value)
        if isinstance(pattern, Var):
            return self.values.setdefault(pattern.name, value) == value
        made = self._inner.get(value.name) if isinstance(value, Reference) else None
        if made is None or made.type != pattern.type:
            return False
        known = {**pattern.arguments, **pattern.optional}
        if not pattern.arguments.keys() <= made.inputs.keys() <= known.keys():
            return False
        if pattern is _STATE and isinstance(made.outputs[0].type, TensorType):
            self.state = made.outputs[0].type.dtype
        return all(len(given) == 1 and self.matches(known[name], given[0]) for name, given in made.inputs.items())

    def _is(self, pattern: OpPattern, value: Reference | Constant) -> bool:
        found = self.outside(value)
        if not isinstance(found, Constant):
            return False
        stored = found.value
        return bool((stored.reshape(-1).tolist() if isinstance(stored, torch.Tensor) else stored) == pattern.value)

    def _uncast(self, value: Reference | Constant, kinds: frozenset[str]) -> Reference | Constant:
        """What a chain of casts between these types inside the loop starts from."""
        while isinstance(value, Reference):
            made = self._inner.get(value.name)
            kind = made.outputs[0].type if made is not None and made.type == "cast" else None
            if made is None or not isinstance(kind, TensorType) or kind.dtype not in kinds:
                break
            value = made.inputs["x"][0]
        return value

    def _wrapped(self, value: Reference | Constant) -> Reference | Constant:
        """The counter itself, where iOS 17 chooses between it, if it is not negative, and it from the end on."""
        made = self._inner.get(value.name) if isinstance(value, Reference) else None
        if made is None or made.type != "select" or made.inputs.keys() != {"cond", "a", "b"}:
            return value
        (condition,), (counter,) = made.inputs["cond"], made.inputs["a"]
        return self._uncast(counter, _INTEGERS) if self.matches(_NOT_NEGATIVE, condition) else value


def gru_loop(
    *, x: Tensor, states: Tensor, length: int, weight_ir: Tensor, weight_iz: Tensor, weight_in: Tensor,
    weight_hr: Tensor, weight_hz: Tensor, weight_hn: Tensor, bias_ir: Tensor | None = None,
    bias_iz: Tensor | None = None, bias_in: Tensor | None = None, bias_hr: Tensor | None = None,
    bias_hz: Tensor | None = None, bias_hn: Tensor | None = None, rounds: bool = False,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """A GRU as torch has it, over a list of states: `length` steps, each of which adds the new state to the next row.

    x (S, B, I), states (S + 1, B, H), weights (H, I) and (H, H), biases (H); returns the counter (1) and the states.
    With `rounds` all values are half, as the operators of the loop are.
    """
    weights = (weight_ir, weight_iz, weight_in, weight_hr, weight_hz, weight_hn)
    joined = _joined(weights, (bias_ir, bias_iz, bias_in, bias_hr, bias_hz, bias_hn))
    return _gru_loop_on(joined, x=x, states=states, length=length, rounds=rounds)


_GRU = ("ir", "iz", "in", "hr", "hz", "hn")


def prepare_gru_loop(known: Mapping[str, Value]) -> tuple[Kernel, dict[str, object]]:
    """The loop with its weights joined once and for all, and the arguments that are left."""
    weights, biases = (tuple(known.get(f"{kind}_{gate}") for gate in _GRU) for kind in ("weight", "bias"))
    rest = {name: value for name, value in known.items() if not name.startswith(("weight", "bias"))}
    return partial(_gru_loop_on, _joined(weights, biases)), rest


def _joined(weights: Sequence[Value], biases: Sequence[Tensor | None]) -> list[Tensor]:
    """What torch.gru takes: weight_ih, weight_hh, bias_ih, bias_hh."""
    empty = weights[3].new_zeros(weights[3].shape[0])
    full = [empty if bias is None else bias for bias in biases]
    return [torch.cat(tuple(each)).float() for each in (weights[:3], weights[3:], full[:3], full[3:])]


def _gru_loop_on(
    joined: list[Tensor], *, x: Tensor, states: Tensor, length: int, rounds: bool
) -> tuple[Tensor, Tensor]:
    if isinstance(x.shape[0], torch.SymInt):
        return _gru_of_open_length(joined, x, states)
    if length <= 0:
        return torch.zeros(1, dtype=torch.int32), states
    if length > x.shape[0] or length >= states.shape[0]:
        raise IndexError(f"{length} steps, but {x.shape[0]} inputs and {states.shape[0]} states")
    if rounds or states[1 : length + 1].any():
        steps = _gru_steps(x[:length], states[: length + 1], joined, torch.float16 if rounds else torch.float32)
    else:
        steps, _ = torch.gru(x[:length], states[:1].contiguous(), joined, True, 1, 0.0, False, False, False)
    kept = states.half().to(states.dtype) if rounds else states
    return torch.tensor([length], dtype=torch.int32), torch.cat([kept[:1], steps.to(kept.dtype), kept[length + 1 :]])


def _gru_of_open_length(joined: list[Tensor], x: Tensor, states: Tensor) -> tuple[Tensor, Tensor]:
    """In a trace that leaves the length open: as many steps as there are inputs, which is what coremltools writes."""
    weight_ih, weight_hh, bias_ih, bias_hh = joined
    size = weight_hh.shape[1]
    hold(states.shape[0] == x.shape[0] + 1)  # it was computed by the program's own operators

    def step(given: Tensor, h: Tensor) -> tuple[Tensor]:
        row, after = given[:, : 3 * size], given[:, 3 * size :]
        product = functional.linear(h, weight_hh, bias_hh)
        r, z = torch.sigmoid(row[:, : 2 * size] + product[:, : 2 * size]).chunk(2, dim=1)
        n = torch.tanh(row[:, 2 * size :] + r * product[:, 2 * size :])
        return (after + ((1 - z) * n + z * h),)

    rows = torch.cat([functional.linear(x, weight_ih, bias_ih), states[1:]], dim=2)
    sequence, _ = iterate(step, rows, (states[0],))
    return rows.new_zeros(1, dtype=torch.int32) + x.shape[0], torch.cat([states[:1], sequence])


def _gru_steps(x: Tensor, states: Tensor, joined: list[Tensor], dtype: torch.dtype) -> Tensor:
    """Step by step in `dtype`, but for the products, which are computed in float32 and rounded."""
    weight_ih, weight_hh, bias_ih, bias_hh = joined
    size = weight_hh.shape[1]
    states, sequence = states.to(dtype), []
    h = states[0]
    for row, after in zip(
        functional.linear(x.to(dtype).float(), weight_ih, bias_ih).to(dtype), states[1:], strict=True
    ):
        product = functional.linear(h.float(), weight_hh, bias_hh).to(dtype)
        r, z = torch.sigmoid(row[:, : 2 * size] + product[:, : 2 * size]).chunk(2, dim=1)
        n = torch.tanh(row[:, 2 * size :] + r * product[:, 2 * size :])
        h = after + ((1 - z) * n + z * h)
        sequence.append(h)
    return torch.stack(sequence)


LOOPS: dict[str, Kernel] = {GRU_LOOP: gru_loop}
PREPARE: dict[str, Callable[[Mapping[str, Value]], tuple[Kernel, dict[str, Value]]]] = {
    "lstm": prepare_lstm,
    GRU_LOOP: prepare_gru_loop,
}
"""What brings constant weights into the form that the kernel computes on, once instead of at each call."""
