"""The recurrent operators of ONNX, in both directions; onnxsim converts none of them.

Each takes X (S, B, I) and gives Y (S, D, B, H), Y_h (D, B, H) and an LSTM Y_c as well, with D directions. Biases of
input and state are added up, but where a GRU resets after its product with the state, as torch's does.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from builder.backends.coreml.lowerings.lowering import Size, Var
from builder.backends.coreml.lowerings.onnx_lowerer import Attributes, Inputs, Node, OnnxLowerer
from builder.backends.coreml.lowerings.packed import after_end, at_end, gru_layer, lstm_layer, reversed_by

_ACTIVATIONS = {"LSTM": ["Sigmoid", "Tanh", "Tanh"], "GRU": ["Sigmoid", "Tanh"]}
_GATES = {"LSTM": (0, 2, 1, 3), "GRU": (1, 2, 0), "RNN": (0,)}
"""Where Core ML's gates are in ONNX's order: i, f, o, c in i, o, f, c; and r, o, z in z, r, h."""
_PEEPHOLES = (0, 2, 1)
"""The peepholes i, f, o in i, o, f."""
_TORCH_GRU = (1, 0, 2)
"""The gates r, z, n in z, r, h."""


@dataclass(frozen=True, kw_only=True)
class _Layer:
    """One direction: weights (gates * H, I) and (gates * H, H), both biases (gates * H), initial states (1, B, H).

    An LSTM may have peepholes (3 * H): what its cell adds to the gates i, o, f.
    """

    weight: Var
    recurrent: Var
    input_bias: Var
    state_bias: Var
    states: tuple[Var, ...]
    peephole: Var | None = None


def _recurrent(kind: str, lowerer: OnnxLowerer, node: Node, inputs: Inputs, attributes: Attributes) -> list[Var]:
    _refuse(kind, inputs, attributes)
    mb, x = lowerer.mb, inputs[0]
    direction, lengths = attributes.get("direction", "forward"), _lengths(inputs)
    found = []
    for index in range(inputs[2].shape[0]):
        backwards = direction == "reverse" or index == 1
        given = _turned(lowerer, node, x, lengths) if backwards else x
        layer = _layer(kind, lowerer, node, inputs, index)
        if lengths is None:
            y, *last = _STEPS[kind](mb, attributes, lowerer.fresh_name(node, "layer"), given, layer)
        else:
            y, *last = _of_lengths(mb, kind, given, lengths, layer)
        found.append((_turned(lowerer, node, y, lengths) if backwards else y, *last))
    sequences, *finals = zip(*found, strict=True)
    y = mb.stack(values=sequences, axis=1, name=lowerer.fresh_name(node))
    return [y, *(mb.stack(values=final, axis=0, name=lowerer.fresh_name(node, "last")) for final in finals)]


def _lengths(inputs: Inputs) -> Var | None:
    """The length of each sequence (B), None where all have every step."""
    given = inputs[4] if len(inputs) > 4 else None
    return None if given is None or (given.val is not None and all(given.val == inputs[0].shape[0])) else given


def _turned(lowerer: OnnxLowerer, node: Node, x: Var, lengths: Var | None) -> Var:
    """Each sequence from its end to its beginning."""
    if lengths is not None:
        return reversed_by(lowerer.mb, x, lengths)
    return lowerer.mb.reverse(x=x, axes=[0], name=lowerer.fresh_name(node, "reversed"))


def _of_lengths(mb: Var, kind: str, x: Var, lengths: Var, layer: _Layer) -> tuple[Var, ...]:
    """As the steps of a kind, but with zeros after the end of each sequence, and the last states from there."""
    run, order = _WITH_LENGTHS[kind]
    weights = (layer.weight, layer.recurrent, layer.input_bias, layer.state_bias)
    ended = after_end(mb, lengths, x.shape[0])
    states = [mb.squeeze(x=state, axes=[0]) for state in layer.states]
    flag = mb.cast(x=ended, dtype="fp32")
    y, *others = run(mb, x, flag, states, [_in_order(value, order) for value in weights])
    return mb.select(cond=ended, a=0.0, b=y), at_end(mb, y, lengths), *others


def _lstm(mb: Var, _: Attributes, name: str, x: Var, layer: _Layer) -> tuple[Var, ...]:
    hidden, cell = (mb.squeeze(x=state, axes=[0]) for state in layer.states)
    arguments = _weights("LSTM", layer)
    if layer.peephole is not None:
        arguments["peephole"] = _in_order(layer.peephole, _PEEPHOLES)
    return tuple(mb.lstm(x=x, initial_h=hidden, initial_c=cell, output_sequence=True, name=name, **arguments))


def _gru(mb: Var, attributes: Attributes, name: str, x: Var, layer: _Layer) -> tuple[Var, ...]:
    """Where the reset gate acts on the product with the state, Core ML has no operator before iOS 18 but a loop."""
    if not attributes.get("linear_before_reset", 0):
        hidden = mb.squeeze(x=layer.states[0], axes=[0])
        return tuple(mb.gru(x=x, initial_h=hidden, output_sequence=True, name=name, **_weights("GRU", layer)))
    from coremltools.converters.mil.frontend.torch.ops import _add_gru_layer

    gates = (layer.weight, layer.recurrent, layer.input_bias, layer.state_bias)
    ordered = (_in_order(value, _TORCH_GRU) for value in gates)
    y, last = _add_gru_layer(x, layer.states[0], *ordered, f"{name}_sequence", f"{name}_last")
    return y, mb.squeeze(x=last, axes=[0])


def _rnn(mb: Var, attributes: Attributes, name: str, x: Var, layer: _Layer) -> tuple[Var, ...]:
    activation = _names(attributes.get("activations", ["Tanh"]))[0].lower()
    hidden = mb.squeeze(x=layer.states[0], axes=[0])
    return tuple(
        mb.rnn(x=x, initial_h=hidden, output_sequence=True, activation=activation, name=name, **_weights("RNN", layer))
    )


_WITH_LENGTHS = {"LSTM": (lstm_layer, (0, 2, 3, 1)), "GRU": (gru_layer, _TORCH_GRU)}
"""What knows lengths, and where torch's gates are in ONNX's order."""
_STEPS: Mapping[str, Callable[..., tuple[Var, ...]]] = {"LSTM": _lstm, "GRU": _gru, "RNN": _rnn}


def _refuse(kind: str, inputs: Inputs, attributes: Attributes) -> None:
    """Raise RuntimeError for what has no counterpart."""
    for name, plain in {"clip": None, "input_forget": 0, "layout": 0}.items():
        if attributes.get(name, plain) != plain:
            raise RuntimeError(f"{kind} with {name} {attributes[name]} is not converted")
    directions = inputs[2].shape[0]
    activations = _names(attributes.get("activations", []))
    usual = (
        set(activations) <= {"Tanh", "Relu", "Sigmoid"} and len(set(activations)) < 2
        if kind == "RNN"
        else activations in ([], _ACTIVATIONS[kind] * directions)
    )
    if not usual:
        raise RuntimeError(f"{kind} with activations {', '.join(activations)} is not converted")
    if any(given is None or given.val is None for given in inputs[1:3]):
        raise RuntimeError(f"{kind} whose weights are computed is not converted")
    resets_first = kind == "GRU" and not attributes.get("linear_before_reset", 0)
    if _lengths(inputs) is not None and (kind not in _WITH_LENGTHS or resets_first):
        before = " and linear_before_reset 0" if resets_first else ""
        raise RuntimeError(f"{kind} with sequence lengths{before} is not converted")
    if len(inputs) > 7 and inputs[7] is not None and (inputs[7].val is None or _lengths(inputs) is not None):
        raise RuntimeError(f"{kind} with peepholes that are computed, or with sequence lengths, is not converted")


def _layer(kind: str, lowerer: OnnxLowerer, node: Node, inputs: Inputs, index: int) -> _Layer:
    import numpy as np

    given = [*inputs, *[None] * 7]
    weight, recurrent = (np.asarray(value.val)[index] for value in given[1:3])
    none = np.zeros(2 * recurrent.shape[0], dtype=np.float32)
    biases = none if given[3] is None else np.asarray(given[3].val)[index]
    input_bias, state_bias = np.split(biases, 2)
    size = (inputs[0].shape[1], recurrent.shape[1])
    initial = given[5:7] if kind == "LSTM" else given[5:6]
    return _Layer(
        weight=weight,
        recurrent=recurrent,
        input_bias=input_bias,
        state_bias=state_bias,
        states=tuple(_state(lowerer, node, value, index, size) for value in initial),
        peephole=None if given[7] is None else np.asarray(given[7].val)[index],
    )


def _state(lowerer: OnnxLowerer, node: Node, given: Var | None, index: int, size: tuple[Size, int]) -> Var:
    """The initial state of one direction, (1, B, H), of those of all, (D, B, H); zeros where there is none."""
    import numpy as np

    if given is None:
        if not isinstance(size[0], int):
            raise RuntimeError("the size of a batch must be fixed where a recurrent operator begins with zeros")
        return lowerer.make_const(lowerer.fresh_name(node, "zeros"), np.zeros((1, *size), dtype=np.float32))
    if given.shape[0] == 1:
        return given
    return lowerer.mb.slice_by_index(
        x=given,
        begin=[index, 0, 0],
        end=[index + 1, 0, 0],
        begin_mask=[False, True, True],
        end_mask=[False, True, True],
        name=lowerer.fresh_name(node, "state"),
    )


def _weights(kind: str, layer: _Layer) -> dict[str, Var]:
    """The arguments of Core ML's operator, whose bias is the sum of both."""
    return {
        "weight_ih": _in_order(layer.weight, _GATES[kind]),
        "weight_hh": _in_order(layer.recurrent, _GATES[kind]),
        "bias": _in_order(layer.input_bias + layer.state_bias, _GATES[kind]),
    }


def _in_order(gates: Var, order: Sequence[int]) -> Var:
    """Weights or biases with their gates, which follow each other on the first axis, in another order."""
    import numpy as np

    parts = np.split(gates, len(order))
    return np.concatenate([parts[index] for index in order])


def _names(values: Sequence[object]) -> list[str]:
    return [value.decode() if isinstance(value, bytes) else str(value) for value in values]


RECURRENT: Mapping[str, Callable[..., list[Var]]] = {kind: partial(_recurrent, kind) for kind in _STEPS}
"""By ONNX's name."""
