"""LSTMs and GRUs over packed sequences: what follows a sequence's end neither changes its last state nor is returned.

A packed sequence stays padded, (S, B, I) beside its lengths (B), where torch keeps its steps without gaps beside how
many sequences go on at each step. Core ML's operators know no lengths, so steps after the end carry a flag of their
own, whose weights close the gate to what is new and open that to what was: sigmoid(±1e4) is 0 or 1 in half precision
too, and an LSTM's cell, or a GRU's state, stays.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from builder.backends.coreml.lowerings.lowering import Builder, Lowering, UpstreamBug, Var

if TYPE_CHECKING:
    import numpy as np

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
    padded = mb.select(cond=after_end(mb, lengths, data.shape[0]), a=float(padding_value), b=data)
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
    shape = (int(num_layers), 2 if bidirectional else 1)
    x, h, c = _layers(mb, lstm_layer, data, batch_sizes, states, _by_direction(weights, has_biases, shape), shape[1])
    return x, h, c


def gru(
    mb: Builder,
    data: Var,
    batch_sizes: Var,
    state: Var,
    weights: Sequence[Var],
    has_biases: bool = True,
    num_layers: int = 1,
    dropout: float = 0.0,
    train: bool = False,
    bidirectional: bool = False,
) -> tuple[Var, Var]:
    """Given: `gru(data, batch_sizes, h, weights, …)` of a packed sequence, data (S, B, I) and lengths (B).

    Result: (S, B, D * H) and the last state (L * D, B, H), of L layers in D directions.
    """
    del dropout, train  # they concern training
    shape = (int(num_layers), 2 if bidirectional else 1)
    x, h = _layers(mb, gru_layer, data, batch_sizes, [state], _by_direction(weights, has_biases, shape), shape[1])
    return x, h


Layer = Callable[[Builder, Var, Var, Sequence[Var], "Sequence[np.ndarray]"], Sequence[Var]]
"""One layer in one direction: takes x (S, B, I), where it has ended (S, B, 1), first states (B, H) and weights.

It gives (S, B, H) and the last states but that which is also returned at each step.
"""


def _layers(
    mb: Builder,
    run: Layer,
    data: Var,
    lengths: Var,
    states: Sequence[Var],
    weights: Sequence[Sequence[np.ndarray]],
    directions: int,
) -> tuple[Var, ...]:
    """All layers, each on the results of the one before: (S, B, D * H), and each last state of all (L * D, B, H)."""
    steps, batch = data.shape[:2]
    flag = mb.cast(x=after_end(mb, lengths, steps), dtype="fp32")
    rows: list[Sequence[Var]] = []
    sequences = [data]
    for number, given in enumerate(weights):
        backwards = number % directions == 1
        if not backwards:
            x = mb.concat(values=sequences, axis=2) if len(sequences) > 1 else sequences[0]
            sequences = []
        begin = [_state(mb, state, number, batch, given[1].shape[1]) for state in states]
        turned = reversed_by(mb, x, lengths) if backwards else x
        y, *others = run(mb, turned, flag, begin, given)
        rows.append([at_end(mb, y, lengths), *others])
        sequences.append(reversed_by(mb, y, lengths) if backwards else y)
    result = mb.concat(values=sequences, axis=2) if len(sequences) > 1 else sequences[0]
    return result, *(mb.stack(values=column, axis=0) for column in zip(*rows, strict=True))


def reversed_by(mb: Builder, x: Var, lengths: Var) -> Var:
    """Each sequence from its end to its beginning; what follows it stays."""
    return mb.reverse_sequence(x=x, lengths=lengths, seq_axis=0, batch_axis=1)


def at_end(mb: Builder, y: Var, lengths: Var) -> Var:
    """The last step of each sequence: (B, H)."""
    import numpy as np

    batch = np.arange(y.shape[1], dtype=np.int32)
    return mb.gather_nd(x=y, indices=mb.stack(values=[mb.sub(x=lengths, y=1), batch], axis=1))


def lstm_layer(mb: Builder, x: Var, flag: Var, states: Sequence[Var], weights: Sequence[np.ndarray]) -> tuple[Var, ...]:
    """A `Layer` by weights in torch's order; its cell stays where the flag is 1."""
    import numpy as np

    weight, recurrent, *biases = weights
    bias = {"bias": _in_order(biases[0] + biases[1])} if biases else {}
    y, _, c = mb.lstm(
        x=mb.concat(values=[x, flag], axis=2),
        initial_h=states[0],
        initial_c=states[1],
        weight_ih=np.concatenate([_in_order(weight), _shut(weight, (-_SHUT, _SHUT, 0.0, 0.0))], axis=1),
        weight_hh=_in_order(recurrent),
        output_sequence=True,
        **bias,
    )
    return y, c


def gru_layer(mb: Builder, x: Var, flag: Var, states: Sequence[Var], weights: Sequence[np.ndarray]) -> tuple[Var, ...]:
    """A `Layer` by weights in torch's order; its state stays where the flag is 1.

    Torch's reset gate acts on the product with the state, for which Core ML has a loop and no operator.
    """
    import numpy as np
    from coremltools.converters.mil.frontend.torch.ops import _add_gru_layer

    weight, recurrent, *biases = weights
    none = np.zeros(weight.shape[0], dtype=weight.dtype)
    widened = np.concatenate([weight, _shut(weight, (0.0, _SHUT, 0.0))], axis=1)
    given, first = mb.concat(values=[x, flag], axis=2), mb.expand_dims(x=states[0], axes=[0])
    y, _ = _add_gru_layer(
        given, first, widened, recurrent, *(biases or (none, none)), f"{x.name}_all", f"{x.name}_last"
    )
    return (y,)


def _shut(weight: np.ndarray, gates: Sequence[float]) -> np.ndarray:
    """The weights (G * H, 1) of the flag, one value for each of G gates."""
    import numpy as np

    return np.repeat(np.asarray(gates, dtype=weight.dtype), weight.shape[0] // len(gates))[:, None]


def _by_direction(weights: Sequence[Var], has_biases: bool, shape: tuple[int, int]) -> list[list[np.ndarray]]:
    """The values of all weights, those of each direction of each layer together."""
    if any(weight.val is None for weight in weights):  # Core ML's operators take constants only
        raise NotImplementedError("a recurrent layer whose weights are computed is not converted")
    each = 4 if has_biases else 2
    if len(weights) != each * shape[0] * shape[1]:  # a projection is one more, which Core ML's LSTM does not have
        raise NotImplementedError("a recurrent layer over a packed sequence with projections is not converted")
    return [[weight.val for weight in weights[start : start + each]] for start in range(0, len(weights), each)]


def after_end(mb: Builder, lengths: Var, steps: int) -> Var:
    """Whether each step is after the end of each sequence: (S, B, 1)."""
    import numpy as np

    if not isinstance(steps, int):  # the places of all steps are a constant
        raise NotImplementedError("a packed sequence of a flexible number of steps is not converted")
    places = np.arange(steps, dtype=np.int32).reshape(steps, 1, 1)
    return mb.greater_equal(x=places, y=mb.expand_dims(x=lengths, axes=[0, 2]))


def _state(mb: Builder, given: Var, number: int, batch: int, hidden: int) -> Var:
    """The first state of a layer, (B, H), of those of all.

    Where torch makes zeros it asks the packed sequence how many they are, which its lengths do not tell.
    """
    import numpy as np

    if not isinstance(batch, int):  # the zeros, and the rows of the last steps, are constants
        raise NotImplementedError("packed sequences of a flexible batch are not converted")
    made = given.op
    if made is not None and made.op_type == "fill" and made.value.val == 0:
        return np.zeros((batch, hidden), dtype=np.float32)
    begin, size = [number, 0, 0], [1, batch, hidden]
    return mb.squeeze(x=mb.slice_by_size(x=given, begin=begin, size=size), axes=[0])


def _in_order(gates: np.ndarray) -> np.ndarray:
    """Weights or biases of the four gates, (4 * H, …), in MIL's order."""
    import numpy as np

    parts = np.split(gates, 4)
    return np.concatenate([parts[place] for place in _GATES])


_TAKES_LENGTHS = UpstreamBug(issue=None, summary="takes the lengths of packed sequences for their number at each step")

_GOES_ON = UpstreamBug(issue=None, summary="goes on after the end of packed sequences")

PACKED = (
    Lowering(operator="_pack_padded_sequence", lower=pack_padded_sequence, wrong=_TAKES_LENGTHS),
    Lowering(operator="_pad_packed_sequence", lower=pad_packed_sequence, wrong=_TAKES_LENGTHS),
    Lowering(
        operator="lstm",
        lower=lstm,
        wrong=_GOES_ON,
        applies=lambda batch_sizes: not isinstance(batch_sizes, list | tuple),  # the pair of states, where not packed
    ),
    Lowering(
        operator="gru",
        lower=gru,
        wrong=_GOES_ON,
        applies=lambda state: not isinstance(state, list | tuple),  # the weights, where not packed
    ),
)
