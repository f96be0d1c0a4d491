"""lstm, gru and rnn against torch's modules and against one step written out."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from coreml_runtime.ops import recurrent
from coreml_runtime.ops.recurrent import ACTIVATIONS, gru, lstm, rnn

STEPS, BATCH, INPUT, HIDDEN = 6, 2, 3, 4
# Single precision over six steps.
CLOSE = {"rtol": 1e-5, "atol": 1e-6}


def _reordered(tensor: Tensor) -> Tensor:
    """The gates of torch (input, forget, cell, output) in the order of MIL (input, forget, output, cell)."""
    i, f, z, o = tensor.detach().chunk(4)
    return torch.cat([i, f, o, z])


def _inputs(directions: int = 1) -> tuple[Tensor, Tensor, Tensor]:
    random = torch.Generator().manual_seed(1)
    x = torch.randn(STEPS, BATCH, INPUT, generator=random)
    return x, *(torch.randn(BATCH, directions * HIDDEN, generator=random) for _ in range(2))


@pytest.mark.parametrize("steps", [2, STEPS])
@pytest.mark.parametrize("bias", [True, False])
def test_lstm_agrees_with_torch_in_both_of_its_paths(steps: int, bias: bool) -> None:
    # given: two steps run in the loop, six in torch's kernel
    torch.manual_seed(0)
    module = nn.LSTM(INPUT, HIDDEN, bias=bias)
    x, h, c = _inputs()
    x = x[:steps]

    # when
    output, last_h, last_c = lstm(
        x=x, initial_h=h, initial_c=c, weight_ih=_reordered(module.weight_ih_l0),
        weight_hh=_reordered(module.weight_hh_l0),
        bias=_reordered(module.bias_ih_l0 + module.bias_hh_l0) if bias else None, output_sequence=True,
    )  # fmt: skip

    # then
    with torch.no_grad():
        expected, (expected_h, expected_c) = module(x, (h[None], c[None]))
    torch.testing.assert_close(output, expected, **CLOSE)
    torch.testing.assert_close(last_h, expected_h[0], **CLOSE)
    torch.testing.assert_close(last_c, expected_c[0], **CLOSE)


def test_bidirectional_lstm_agrees_with_torch() -> None:
    # given
    torch.manual_seed(0)
    module = nn.LSTM(INPUT, HIDDEN, bidirectional=True)
    x, h, c = _inputs(2)

    # when
    arguments = {
        "x": x, "initial_h": h, "initial_c": c, "direction": "bidirectional",
        "weight_ih": _reordered(module.weight_ih_l0), "weight_hh": _reordered(module.weight_hh_l0),
        "bias": _reordered(module.bias_ih_l0 + module.bias_hh_l0),
        "weight_ih_back": _reordered(module.weight_ih_l0_reverse),
        "weight_hh_back": _reordered(module.weight_hh_l0_reverse),
        "bias_back": _reordered(module.bias_ih_l0_reverse + module.bias_hh_l0_reverse),
    }  # fmt: skip
    output, last_h, _ = lstm(**arguments, output_sequence=True)
    last, _, _ = lstm(**arguments, output_sequence=False)

    # then
    with torch.no_grad():
        states = (torch.stack(h.chunk(2, 1)), torch.stack(c.chunk(2, 1)))
        expected, (expected_h, _) = module(x, states)
    torch.testing.assert_close(output, expected, **CLOSE)
    torch.testing.assert_close(last_h, torch.cat(list(expected_h), dim=1), **CLOSE)
    torch.testing.assert_close(last[0], last_h, **CLOSE)


def test_reverse_leaves_the_sequence_in_the_order_of_processing() -> None:
    # given
    x, h, c = _inputs()
    random = torch.Generator().manual_seed(7)
    weights = {
        "weight_ih": torch.randn(4 * HIDDEN, INPUT, generator=random),
        "weight_hh": torch.randn(4 * HIDDEN, HIDDEN, generator=random),
    }

    # when
    backwards = lstm(x=x, initial_h=h, initial_c=c, direction="reverse", output_sequence=True, **weights)
    flipped = lstm(x=x.flip(0), initial_h=h, initial_c=c, output_sequence=True, **weights)

    # then
    for ours, expected in zip(backwards, flipped, strict=True):
        assert torch.equal(ours, expected)


@pytest.mark.parametrize("clip", [3.5, 8.0, 50.0, float("inf")])
def test_a_clip_that_acts_late_gives_what_single_steps_give(clip: float) -> None:
    # given: gates that stay open, so that the cell grows by almost one a step
    torch.manual_seed(0)
    weights = recurrent._gates(torch.full((16, 3), 5.0), torch.randn(16, 4), torch.zeros(16), None)
    x, zeros = torch.ones(30, 2, 3), torch.zeros(2, 4)
    usual = ("sigmoid", "tanh", "tanh")

    # when
    fused = recurrent._lstm(x, zeros, zeros, weights, usual, clip)
    stepwise = recurrent._stepwise_lstm(x, zeros, zeros, weights, usual, clip)

    # then
    assert float(stepwise[2].max()) == pytest.approx(min(clip, 30.0), abs=0.01)
    for ours, expected in zip(fused, stepwise, strict=True):
        torch.testing.assert_close(ours, expected, **CLOSE)


def test_lstm_step_with_peepholes_clip_and_other_activations() -> None:
    # given: large weights, so that the clip of the cell state acts
    random = torch.Generator().manual_seed(3)
    x, h, c = (tensor * 3 for tensor in _inputs())
    weight_ih = torch.randn(4 * HIDDEN, INPUT, generator=random)
    weight_hh = torch.randn(4 * HIDDEN, HIDDEN, generator=random)
    bias, peephole = torch.randn(4 * HIDDEN, generator=random), torch.randn(3 * HIDDEN, generator=random)

    # when
    output, last_h, last_c = lstm(
        x=x[:1], initial_h=h, initial_c=c, weight_ih=weight_ih, weight_hh=weight_hh, bias=bias, peephole=peephole,
        recurrent_activation="hard_sigmoid", cell_activation="relu", activation="linear", clip=0.7,
    )  # fmt: skip

    # then
    i, f, o, z = (x[0] @ weight_ih.T + h @ weight_hh.T + bias).chunk(4, dim=1)
    peep_i, peep_f, peep_o = peephole.chunk(3)
    hard = ACTIVATIONS["hard_sigmoid"]
    cell = (hard(f + peep_f * c) * c + hard(i + peep_i * c) * z.relu()).clamp(-0.7, 0.7)
    expected = hard(o + peep_o * cell) * cell
    assert (cell.abs() == 0.7).any()
    torch.testing.assert_close(last_c, cell, **CLOSE)
    torch.testing.assert_close(last_h, expected, **CLOSE)
    torch.testing.assert_close(output[0], expected, **CLOSE)


@pytest.mark.parametrize("direction", ["forward", "reverse"])
def test_gru_resets_before_the_product(direction: str) -> None:
    # given
    random = torch.Generator().manual_seed(4)
    x, h, _ = _inputs()
    weight_ih = torch.randn(3 * HIDDEN, INPUT, generator=random)
    weight_hh = torch.randn(3 * HIDDEN, HIDDEN, generator=random)
    bias = torch.randn(3 * HIDDEN, generator=random)

    # when
    output, last = gru(
        x=x, initial_h=h, weight_ih=weight_ih, weight_hh=weight_hh, bias=bias, direction=direction,
        output_sequence=True,
    )  # fmt: skip

    # then
    (w_r, w_o, w_z), (u_r, u_o, u_z), (b_r, b_o, b_z) = weight_ih.chunk(3), weight_hh.chunk(3), bias.chunk(3)
    for t, step in enumerate(x if direction == "forward" else x.flip(0)):
        r = torch.sigmoid(step @ w_r.T + h @ u_r.T + b_r)
        z = torch.sigmoid(step @ w_z.T + h @ u_z.T + b_z)
        o = torch.tanh(step @ w_o.T + (r * h) @ u_o.T + b_o)
        h = (1 - z) * o + z * h
        torch.testing.assert_close(output[t], h, **CLOSE)
    torch.testing.assert_close(last, h, **CLOSE)


@pytest.mark.parametrize("nonlinearity", ["tanh", "relu"])
def test_rnn_agrees_with_torch(nonlinearity: str) -> None:
    # given
    torch.manual_seed(0)
    module = nn.RNN(INPUT, HIDDEN, nonlinearity=nonlinearity)
    x, h, _ = _inputs()

    # when
    output, last = rnn(
        x=x, initial_h=h, weight_ih=module.weight_ih_l0.detach(), weight_hh=module.weight_hh_l0.detach(),
        bias=(module.bias_ih_l0 + module.bias_hh_l0).detach(), activation=nonlinearity,
    )  # fmt: skip

    # then
    with torch.no_grad():
        _, expected = module(x, h[None])
    torch.testing.assert_close(last, expected[0], **CLOSE)
    assert output.shape == (1, BATCH, HIDDEN)
    assert torch.equal(output[0], last)


def test_the_hard_sigmoid_is_a_fifth_of_x_plus_a_half() -> None:
    # given, when
    result = ACTIVATIONS["hard_sigmoid"](torch.tensor([-3.0, -1.0, 0.0, 1.0, 3.0]))

    # then
    torch.testing.assert_close(result, torch.tensor([0.0, 0.3, 0.5, 0.7, 1.0]))
