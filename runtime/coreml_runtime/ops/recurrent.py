"""MIL's recurrent layers: lstm, gru and rnn, over sequences (S, B, I)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from coreml_runtime.ops.context import is_real
from coreml_runtime.ops.table import Kernel, Value, table

# Fewer steps than these below the clip are not worth a call of torch's fused LSTM of their own.
_FUSED_FROM_STEPS = 4

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
    "scaled_tanh": torch.tanh,  # alpha and beta are 1 in MIL
    "relu": torch.relu,
    "linear": lambda x: x,
    "hard_sigmoid": lambda x: torch.clamp(0.2 * x + 0.5, 0, 1),
    "sigmoid_hard": lambda x: torch.clamp(0.2 * x + 0.5, 0, 1),
}


def lstm(
    *,
    x: Tensor,
    initial_h: Tensor,
    initial_c: Tensor,
    weight_ih: Tensor,
    weight_hh: Tensor,
    bias: Tensor | None = None,
    peephole: Tensor | None = None,
    weight_ih_back: Tensor | None = None,
    weight_hh_back: Tensor | None = None,
    bias_back: Tensor | None = None,
    peephole_back: Tensor | None = None,
    direction: str = "forward",
    output_sequence: bool = False,
    recurrent_activation: str = "sigmoid",
    cell_activation: str = "tanh",
    activation: str = "tanh",
    clip: float | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Long short-term memory; gates in the order input, forget, output, cell.

    x (S, B, I), initial_h and initial_c (B, D*H), weight_ih (4H, I), weight_hh (4H, H), bias (4H), peephole (3H);
    returns the sequence (S or 1, B, D*H), last h and last c (B, D*H). `clip` clamps the cell state. With direction
    "reverse" the sequence stays in the order of processing; only the backward half of "bidirectional" is flipped back.
    """
    forward = _gates(weight_ih, weight_hh, bias, peephole)
    backward = None
    if direction == "bidirectional":
        if weight_ih_back is None or weight_hh_back is None:
            raise ValueError(_ONE_DIRECTION)
        backward = _gates(weight_ih_back, weight_hh_back, bias_back, peephole_back)
    return _lstm_on(
        forward, backward, x=x, initial_h=initial_h, initial_c=initial_c, direction=direction,
        output_sequence=output_sequence, clip=clip, recurrent_activation=recurrent_activation,
        cell_activation=cell_activation, activation=activation,
    )  # fmt: skip


def prepare_lstm(known: Mapping[str, Value]) -> tuple[Kernel, dict[str, Value]]:
    """The lstm with its weights in torch's order once and for all, and the arguments that are left."""
    rest = {name: value for name, value in known.items() if not name.startswith(("weight", "bias", "peephole"))}
    backward = None
    if rest.get("direction") == "bidirectional":
        if known.get("weight_ih_back") is None or known.get("weight_hh_back") is None:
            raise ValueError(_ONE_DIRECTION)
        backward = _gates(*(known.get(f"{name}_back") for name in _WEIGHTS))
    return partial(_lstm_on, _gates(*(known.get(name) for name in _WEIGHTS)), backward), rest


_WEIGHTS = ("weight_ih", "weight_hh", "bias", "peephole")
_ONE_DIRECTION = "a bidirectional lstm needs weight_ih_back and weight_hh_back"


@dataclass(frozen=True, kw_only=True, slots=True)
class _Gates:
    """One direction's weights, gates in torch's order: input, forget, cell, output (peepholes: no cell)."""

    parameters: list[Tensor]
    """What torch.lstm takes: weight_ih, weight_hh, and the bias and zeros if there is one."""
    peephole: Tensor | None


def _gates(weight_ih: Any, weight_hh: Any, bias: Tensor | None, peephole: Tensor | None) -> _Gates:
    """From MIL's order: input, forget, output, cell."""

    def reordered(tensor: Tensor) -> Tensor:
        i, f, o, z = tensor.chunk(4)
        return torch.cat([i, f, z, o])

    parameters = [reordered(weight_ih), reordered(weight_hh)]
    if bias is not None:
        parameters += [reordered(bias), torch.zeros_like(bias)]
    return _Gates(parameters=parameters, peephole=peephole)


def _lstm_on(
    forward: _Gates, backward: _Gates | None, *, x: Tensor, initial_h: Tensor, initial_c: Tensor,
    direction: str = "forward", output_sequence: bool = False, recurrent_activation: str = "sigmoid",
    cell_activation: str = "tanh", activation: str = "tanh", clip: float | None = None,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    names = (recurrent_activation, cell_activation, activation)
    if direction != "bidirectional" or backward is None:
        sequence, h, c = _lstm(_in_order(x, direction), initial_h, initial_c, forward, names, clip)
        return (sequence if output_sequence else sequence[-1:]), h, c
    h0, h0_back = initial_h.chunk(2, dim=1)
    c0, c0_back = initial_c.chunk(2, dim=1)
    sequence, h, c = _lstm(x, h0, c0, forward, names, clip)
    sequence_back, h_back, c_back = _lstm(x.flip(0), h0_back, c0_back, backward, names, clip)
    if output_sequence:
        output = torch.cat([sequence, sequence_back.flip(0)], dim=2)
    else:
        output = torch.cat([sequence[-1:], sequence_back[-1:]], dim=2)
    return output, torch.cat([h, h_back], dim=1), torch.cat([c, c_back], dim=1)


def _lstm(
    x: Tensor, h: Tensor, c: Tensor, gates: _Gates, activations: tuple[str, str, str], clip: float | None
) -> tuple[Tensor, Tensor, Tensor]:
    """One direction, in the order of `x`: all hidden states, the last one, the last cell state."""
    usual = activations == ("sigmoid", "tanh", "tanh") and gates.peephole is None and not _is_open(x)
    parts = []
    while usual and (count := _steps_before_clip(clip, c, x.shape[0])) >= _FUSED_FROM_STEPS:
        sequence, last_h, last_c = torch.lstm(
            x[:count], (h.unsqueeze(0).contiguous(), c.unsqueeze(0).contiguous()), gates.parameters,
            len(gates.parameters) > 2, 1, 0.0, False, False, False,
        )  # fmt: skip
        h, c = last_h[0], last_c[0]
        parts.append(sequence)
        x = x[count:]
    if x.shape[0] or not parts:
        part, h, c = _stepwise_lstm(x, h, c, gates, activations, clip)
        parts.append(part)
    return (torch.cat(parts) if len(parts) > 1 else parts[0]), h, c


def _stepwise_lstm(
    x: Tensor, h: Tensor, c: Tensor, gates: _Gates, activations: tuple[str, str, str], clip: float | None
) -> tuple[Tensor, Tensor, Tensor]:
    """Any LSTM, one step after the other."""
    weight_ih, weight_hh, *bias = gates.parameters
    gate, cell, output = (ACTIVATIONS[name.lower()] for name in activations)
    transposed = weight_hh.t()
    peep_i, peep_f, peep_o = gates.peephole.chunk(3) if gates.peephole is not None else (None, None, None)

    def step(projected: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        i, f, z, o = torch.addmm(projected, h, transposed).chunk(4, dim=1)
        i = gate(i if peep_i is None else i + peep_i * c)
        f = gate(f if peep_f is None else f + peep_f * c)
        c = f * c + i * cell(z)
        if clip is not None:
            c = c.clamp(-clip, clip)
        return gate(o if peep_o is None else o + peep_o * c) * output(c), c

    sequence, (h, c) = iterate(step, functional.linear(x, weight_ih, bias[0] if bias else None), (h, c))
    return sequence, h, c


def _steps_before_clip(clip: float | None, c: Tensor, steps: int) -> int:
    """How many of `steps` surely stay below `clip`: a cell grows by less than one a step, its gates are below one."""
    if clip is None or not steps:
        return steps
    if not is_real(c):  # in a trace nobody knows
        return 0
    left = clip - float(c.abs().max()) if c.numel() else 0.0
    return int(min(float(steps), left)) if left > 0 else 0


def gru(
    *,
    x: Tensor,
    initial_h: Tensor,
    weight_ih: Tensor,
    weight_hh: Tensor,
    bias: Tensor | None = None,
    direction: str = "forward",
    output_sequence: bool = False,
    recurrent_activation: str = "sigmoid",
    activation: str = "tanh",
    reset_after: bool = False,
    input_bias: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Gated recurrent unit; gates in the order reset, output, update.

    x (S, B, I), initial_h (B, H), weight_ih (3H, I), weight_hh (3H, H), bias (3H); returns the sequence (S or 1, B, H),
    in the order of processing, and the last h. The reset gate acts on h before the recurrent product, or with
    `reset_after` (iOS18) on the product and its bias, as torch.nn.GRU does; `input_bias` (3H) then belongs to x.
    """
    gate, output = ACTIVATIONS[recurrent_activation.lower()], ACTIVATIONS[activation.lower()]
    weight_r, weight_o, weight_z = weight_hh.chunk(3)
    weight_rz = torch.cat([weight_r, weight_z]).t()
    x = _in_order(x, direction)

    def step_after(projected: Tensor, h: Tensor) -> tuple[Tensor]:
        x_r, x_o, x_z = projected.chunk(3, dim=1)
        h_r, h_o, h_z = functional.linear(h, weight_hh, bias).chunk(3, dim=1)
        o, z = output(x_o + gate(x_r + h_r) * h_o), gate(x_z + h_z)
        return (o + z * (h - o),)

    def step(projected: Tensor, h: Tensor) -> tuple[Tensor]:
        x_r, x_o, x_z = projected.chunk(3, dim=1)
        r, z = gate(torch.addmm(torch.cat([x_r, x_z], dim=1), h, weight_rz)).chunk(2, dim=1)
        o = output(torch.addmm(x_o, r * h, weight_o.t()))
        return (o + z * (h - o),)

    if reset_after:
        sequence, (h,) = iterate(step_after, functional.linear(x, weight_ih, input_bias), (initial_h,))
    else:
        both = bias if input_bias is None else input_bias if bias is None else bias + input_bias
        sequence, (h,) = iterate(step, functional.linear(x, weight_ih, both), (initial_h,))
    return (sequence if output_sequence else h.unsqueeze(0)), h


def rnn(
    *,
    x: Tensor,
    initial_h: Tensor,
    weight_ih: Tensor,
    weight_hh: Tensor,
    bias: Tensor | None = None,
    direction: str = "forward",
    output_sequence: bool = False,
    activation: str = "tanh",
) -> tuple[Tensor, Tensor]:
    """Elman network: x (S, B, I), initial_h (B, H), weight_ih (H, I), weight_hh (H, H), bias (H)."""
    output = ACTIVATIONS[activation.lower()]
    transposed = weight_hh.t()

    def step(projected: Tensor, h: Tensor) -> tuple[Tensor]:
        return (output(torch.addmm(projected, h, transposed)),)

    sequence, (h,) = iterate(step, functional.linear(_in_order(x, direction), weight_ih, bias), (initial_h,))
    return (sequence if output_sequence else h.unsqueeze(0)), h


def iterate(
    step: Callable[..., tuple[Tensor, ...]], inputs: Tensor, states: tuple[Tensor, ...]
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """The first state after each step (S, …) and the last states, of `step(inputs[i], *states)` for all i.

    In a trace that leaves the length open it is one loop, which the program runs as often as its input is long.
    """
    if _is_open(inputs):
        return _loop(step, inputs, states)
    sequence = []
    for each in inputs:
        states = step(each, *states)
        sequence.append(states[0])
    return torch.stack(sequence), states


def _is_open(inputs: Tensor) -> bool:
    return isinstance(inputs.shape[0], torch.SymInt)


def _loop(
    step: Callable[..., tuple[Tensor, ...]], inputs: Tensor, states: tuple[Tensor, ...]
) -> tuple[Tensor, tuple[Tensor, ...]]:
    def goes_on(turn: Tensor, *_: Tensor) -> Tensor:
        return turn < inputs.shape[0]

    def turn_of(turn: Tensor, sequence: Tensor, *states: Tensor) -> tuple[Tensor, ...]:
        place = turn.reshape(1)
        states = step(inputs.index_select(0, place)[0], *states)
        return turn + 1, sequence.index_copy(0, place, states[0].unsqueeze(0)), *states

    # of zeros that are in the trace, since a loop may not carry a constant of it
    sequence = inputs.new_zeros((inputs.shape[0], *states[0].shape))
    begin = inputs.new_zeros((), dtype=torch.int64)
    carried = (begin, sequence, *(state + inputs.new_zeros(()) for state in states))
    with torch._C.DisableTorchFunction():  # torch compiles the turn, and sees no more than it
        _, sequence, *last = torch.while_loop(goes_on, turn_of, carried)  # type: ignore[no-untyped-call] # torch has none
    return sequence, tuple(last)


def _in_order(x: Tensor, direction: str) -> Tensor:
    return x.flip(0) if direction == "reverse" else x


OPS = table(lstm, gru, rnn)
