"""LSTMs over packed sequences: what follows a sequence's end neither changes its last state nor is returned.

A packed sequence stays padded, (S, B, I) beside its lengths (B), where torch keeps its steps without gaps beside how
many sequences go on at each step. Core ML's LSTM knows no lengths, so steps after the end carry a flag of their own,
whose weights close the input gate and open the forget gate: sigmoid(±1e4) is 0 or 1 in half precision too, and the cell
stays.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from builder.lowerings.lowering import Builder, Lowering, Var, Wrong

_SHUT = 1e4
_GATES = (0, 1, 3, 2)
"""Where MIL's gates i, f, o, g are in torch's order."""


def pack_padded_sequence(mb: Builder, x: Var, lengths: Var, batch_first: bool = False) -> tuple[Var, Var]:
    """Given: `_pack_padded_sequence(x, lengths, batch_first)`, x (S, B, I), or (B, S, I) with the batch first.

    Result: x (S, B, I) and the lengths (B), where torch counts the sequences at each step.
    """
    return (mb.transpose(x=x, perm=[1, 0, 2]) if batch_first else mb.identity(x=x)), mb.cast(x=lengths, dtype="int32")


def pad_packed_sequence(
    mb: Builder,
    data: Var,
    lengths: Var,
    batch_first: bool = False,
    padding_value: float = 0.0,
    total_length: Var | None = None,
) -> tuple[Var, Var]:
    """Given: `_pad_packed_sequence(data, batch_sizes, batch_first, padding_value, total_length)`.

    Result: the data (S, B, H) with the value after the end of each sequence, and the lengths. S is that of the padded
    input, as with `total_length=S`; without, torch cuts to the longest sequence, a size that no program can have.
    """
    del total_length  # a trace has the number of batch sizes here where none is given
    padded = mb.select(cond=_after_end(mb, lengths, data.shape[0]), a=float(padding_value), b=data)
    return (mb.transpose(x=padded, perm=[1, 0, 2]) if batch_first else padded), mb.identity(x=lengths)


def lstm(
    mb: Builder,
    data: Var,
    batch_sizes: Var,
    states: Sequence[Var],
    weights: Sequence[Var],
    has_biases: bool = True,
    num_layers: int = 1,
    dropout: float = 0.0,
    train: bool = False,
    bidirectional: bool = False,
) -> tuple[Var, Var, Var]:
    """Given: `lstm(data, batch_sizes, (h, c), weights, …)` of a packed sequence, data (S, B, I) and lengths (B).

    Result: (S, B, D * H) and the last states, (L * D, B, H) each, of L layers in D directions.
    """
    del dropout, train  # they concern training
    directions = 2 if bidirectional else 1
    each = 4 if has_biases else 2
    if len(weights) != each * num_layers * directions:
        raise NotImplementedError("an LSTM over a packed sequence with projections is not converted")
    last_h, last_c, x = [], [], data
    for layer in range(num_layers):
        sequences = []
        for direction in range(directions):
            number = layer * directions + direction
            given = [_known(weight) for weight in weights[number * each : (number + 1) * each]]
            begin = [_state(mb, state, number, data.shape[1], given[1].shape[1]) for state in states]
            y, h, c = _direction(mb, x, batch_sizes, begin, given, backwards=direction == 1)
            sequences.append(y)
            last_h.append(h)
            last_c.append(c)
        x = mb.concat(values=sequences, axis=2) if bidirectional else sequences[0]
    return x, mb.stack(values=last_h, axis=0), mb.stack(values=last_c, axis=0)


def _direction(
    mb: Builder, x: Var, lengths: Var, states: Sequence[Var], weights: Sequence[Any], *, backwards: bool
) -> tuple[Var, Var, Var]:
    """One layer in one direction: (S, B, H), and h and c (B, H) after the last step of each sequence."""
    import numpy as np

    steps, batch = x.shape[:2]
    if backwards:
        x = mb.reverse_sequence(x=x, lengths=lengths, seq_axis=0, batch_axis=1)
    flag = mb.cast(x=_after_end(mb, lengths, steps), dtype="fp32")
    weight, recurrent, *biases = weights
    hidden = recurrent.shape[1]
    gates = np.repeat(np.asarray([-_SHUT, _SHUT, 0.0, 0.0], dtype=weight.dtype), hidden)[:, None]
    bias = {"bias": _in_order(biases[0] + biases[1])} if biases else {}
    y, _, c = mb.lstm(
        x=mb.concat(values=[x, flag], axis=2),
        initial_h=states[0],
        initial_c=states[1],
        weight_ih=np.concatenate([_in_order(weight), gates], axis=1),
        weight_hh=_in_order(recurrent),
        output_sequence=True,
        **bias,
    )
    ends = mb.stack(values=[mb.sub(x=lengths, y=1), np.arange(batch, dtype=np.int32)], axis=1)
    h = mb.gather_nd(x=y, indices=ends)
    return (mb.reverse_sequence(x=y, lengths=lengths, seq_axis=0, batch_axis=1) if backwards else y), h, c


def _after_end(mb: Builder, lengths: Var, steps: int) -> Var:
    """Whether each step is after the end of each sequence: (S, B, 1)."""
    import numpy as np

    if not isinstance(steps, int):
        raise NotImplementedError("a packed sequence of a flexible number of steps is not converted")
    places = np.arange(steps, dtype=np.int32).reshape(steps, 1, 1)
    return mb.greater_equal(x=places, y=mb.expand_dims(x=lengths, axes=[0, 2]))


def _state(mb: Builder, given: Var, number: int, batch: int, hidden: int) -> Var:
    """The first state of a layer, (B, H), of those of all.

    Where torch makes zeros it asks the packed sequence how many they are, which its lengths do not tell.
    """
    import numpy as np

    if not isinstance(batch, int):
        raise NotImplementedError("packed sequences of a flexible batch are not converted")
    made = given.op
    if made is not None and made.op_type == "fill" and made.value.val == 0:
        return np.zeros((batch, hidden), dtype=np.float32)
    begin, size = [number, 0, 0], [1, batch, hidden]
    return mb.squeeze(x=mb.slice_by_size(x=given, begin=begin, size=size), axes=[0])


def _in_order(gates: Any) -> Any:
    """Weights or biases of the four gates, (4 * H, …), in MIL's order."""
    import numpy as np

    parts = np.split(gates, 4)
    return np.concatenate([parts[place] for place in _GATES])


def _known(weight: Var) -> Any:
    if weight.val is None:
        raise NotImplementedError("an LSTM whose weights are computed is not converted")
    return weight.val


def _is_packed(batch_sizes: Any) -> bool:
    """Whether the second argument is one tensor; of sequences that are not packed it is the pair of states."""
    return not isinstance(batch_sizes, list | tuple)


_TAKES_LENGTHS = Wrong(issue=None, said="takes the lengths of packed sequences for their number at each step")

PACKED = (
    Lowering(operator="_pack_padded_sequence", lower=pack_padded_sequence, wrong=_TAKES_LENGTHS),
    Lowering(operator="_pad_packed_sequence", lower=pad_packed_sequence, wrong=_TAKES_LENGTHS),
    Lowering(
        operator="lstm",
        lower=lstm,
        wrong=Wrong(issue=None, said="goes on after the end of packed sequences"),
        applies=lambda batch_sizes: _is_packed(batch_sizes),
    ),
)
