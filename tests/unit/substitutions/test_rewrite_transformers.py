"""Attention, LayerNorm and linear layers: the same outputs in every way of calling them, and through Core ML."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import nn

from builder.errors import ConfigurationError, ConversionError
from builder.model.substitutions import substitute
from builder.model.substitutions.attention import ExplicitAttention
from builder.model.substitutions.fast_path import attention_in_operators
from builder.model.torchvision_import import import_torchvision
from builder.spec.substitutions import ShippedRewrite
from tests.unit.substitutions.rewriting import agree, apply, randomized, run_on, types_in

N, L, S, E = 3, 5, 7, 8


def masks(kind: str) -> tuple[torch.Tensor | None, torch.Tensor | None]:
    """An attention mask and a padding mask that leave something to every query."""
    generator = torch.Generator().manual_seed(1)
    boolean = torch.rand(L, S, generator=generator) < 0.3
    boolean[:, 0] = False
    padding = torch.zeros(N, S, dtype=torch.bool)
    padding[0, -2:] = True
    return {
        "none": (None, None),
        "boolean": (boolean, padding),
        "added": (torch.randn(L, S, generator=generator), -5 * padding.float()),
        "infinite": tuple(torch.zeros(m.shape).masked_fill(m, -torch.inf) for m in (boolean, padding)),
        "per head": (torch.randn(N * 2, L, S, generator=generator), None),
        "padding": (None, padding),
    }[kind]


@pytest.mark.parametrize("mask", ["none", "boolean", "added", "infinite", "per head", "padding"])
@pytest.mark.parametrize(
    "settings",
    [
        {"batch_first": True},
        {"batch_first": False, "bias": False},
        {"batch_first": True, "kdim": 6, "vdim": 10},
        {"batch_first": True, "add_bias_kv": True, "add_zero_attn": True},
    ],
)
def test_attention_is_the_same_for_all_masks_and_weights(settings, mask):
    # given
    old = randomized(nn.MultiheadAttention(E, 2, dropout=0.1, **settings))
    new = ExplicitAttention(old).eval()
    query, key, value = (torch.randn(N, n, d) for n, d in ((L, E), (S, old.kdim), (S, old.vdim)))
    if not old.batch_first:
        query, key, value = (x.transpose(0, 1) for x in (query, key, value))
    attention, padding = masks(mask)
    for need, average in itertools.product((True, False), (True, False)):
        # when
        options = {
            "attn_mask": attention,
            "key_padding_mask": padding,
            "need_weights": need,
            "average_attn_weights": average,
        }
        expected, got = old(query, key, value, **options), new(query, key, value, **options)
        # then
        torch.testing.assert_close(got[0], expected[0], atol=1e-5, rtol=1e-5)
        assert (got[1] is None) is (not need)
        if need:
            torch.testing.assert_close(got[1], expected[1], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("average", [True, False])
def test_attention_without_a_batch(average):
    old = randomized(nn.MultiheadAttention(E, 2, batch_first=True))
    query, key = torch.randn(L, E), torch.randn(S, E)
    boolean, padding = masks("boolean")
    options = {"attn_mask": boolean, "key_padding_mask": padding[0], "average_attn_weights": average}
    expected, got = old(query, key, key, **options), ExplicitAttention(old).eval()(query, key, key, **options)
    for one, other in zip(expected, got, strict=True):
        torch.testing.assert_close(other, one, atol=1e-5, rtol=1e-5)


def test_parameters_carry_over_with_their_dtype_and_whether_they_learn():
    old = nn.MultiheadAttention(E, 2, dtype=torch.float64)
    old.out_proj.requires_grad_(False)
    new = ExplicitAttention(old)
    assert {p.dtype for p in new.parameters()} == {torch.float64}
    assert new.query_projection.weight.requires_grad
    assert not new.out_projection.weight.requires_grad
    assert sum(p.numel() for p in new.parameters()) == sum(p.numel() for p in old.parameters())


@pytest.mark.parametrize("kind", ["multi_head_attention", "layer_norm", "linear_to_conv1x1", "gelu_to_sigmoid"])
@pytest.mark.parametrize("norm_first", [True, False])
def test_an_encoder_of_torch_does_not_pass_its_new_layers_by(kind, norm_first):
    """torch.nn.TransformerEncoderLayer hands the weights of its children to one fused kernel, where it can."""
    # given
    layer = nn.TransformerEncoderLayer(E, 2, 16, activation=nn.GELU(), batch_first=True, norm_first=norm_first)
    model = randomized(nn.TransformerEncoder(layer, 2, enable_nested_tensor=not norm_first))
    x = torch.randn(2, L, E)
    # when the fast path is on, as it is by default
    new, effect = apply(kind, model, x)
    # then what was measured is what runs, but for rounding (attention itself may be fused)
    with attention_in_operators(), torch.no_grad():
        by_operators = new(x)
    with torch.no_grad():
        torch.testing.assert_close(new(x), by_operators, atol=1e-5, rtol=1e-5)
    assert effect.replaced
    if effect.exact:
        agree(model, new, x)
    else:
        assert effect.max_abs > 1e-3


@pytest.mark.parametrize(("shape", "normalized"), [((2, 5, 8), 8), ((2, 3, 4, 8), (4, 8)), ((8,), 8)])
@pytest.mark.parametrize("affine", [True, False])
def test_layer_norm_over_the_last_dimensions(shape, normalized, affine):
    model = randomized(nn.Sequential(nn.LayerNorm(normalized, eps=1e-3, elementwise_affine=affine)))
    new, effect = apply("layer_norm", model, torch.randn(shape) + 3)
    assert effect.exact
    agree(model, new, torch.randn(shape) + 3)


def test_layer_norm_without_a_bias_and_rms_norm():
    for model in (nn.LayerNorm(8, bias=False), nn.RMSNorm(8), nn.RMSNorm((4, 8), eps=1e-2, elementwise_affine=False)):
        kind = "layer_norm" if isinstance(model, nn.LayerNorm) else "rms_norm"
        new, _ = apply(kind, randomized(nn.Sequential(model)), torch.randn(2, 4, 8))
        agree(randomized(nn.Sequential(model)), new, torch.randn(2, 4, 8))


def test_the_channel_norms_of_convnext_lose_their_transpositions():
    convnext = import_torchvision().models.convnext
    blocks = [convnext.CNBlockConfig(8, 12, 1), convnext.CNBlockConfig(12, None, 1)]
    model, x = randomized(convnext.ConvNeXt(blocks, num_classes=10)), torch.rand(1, 3, 32, 32)
    new, effect = apply("layer_norm", model, x)
    assert len(effect.replaced) == 5
    assert not types_in(new) & {"LayerNorm", "LayerNorm2d"}
    agree(model, new, x)


@pytest.mark.parametrize("shape", [(8,), (2, 8), (2, 5, 8), (2, 3, 4, 8), (2, 2, 3, 4, 8)])
@pytest.mark.parametrize("bias", [True, False])
def test_a_linear_layer_is_a_convolution_for_any_number_of_dimensions(shape, bias):
    model, x = randomized(nn.Sequential(nn.Linear(8, 6, bias=bias))), torch.randn(shape)
    new, effect = apply("linear_to_conv1x1", model, x)
    assert effect.exact
    assert new[0].weight.shape == (6, 8)
    agree(model, new, x)


def test_the_output_projection_inside_attention_is_not_taken_for_a_linear_layer():
    new, effect = apply("linear_to_conv1x1", import_vit(), torch.rand(1, 3, 32, 32))
    assert all(isinstance(m.out_proj, nn.Linear) for m in new.modules() if isinstance(m, nn.MultiheadAttention))
    assert not any("out_proj" in path for path in effect.replaced)


def test_weights_stay_tied_to_the_copy():
    model = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8))
    model[1].weight = model[0].weight
    new, _ = apply("linear_to_conv1x1", model.eval(), torch.randn(2, 8))
    assert new[0].kernel.data_ptr() == new[1].kernel.data_ptr() != model[0].weight.data_ptr()


def test_everything_in_a_vision_transformer_one_after_the_other():
    # given
    model, x = import_vit(), torch.rand(2, 3, 32, 32)
    kinds = ["multi_head_attention", "layer_norm", "dropout_removal", "gelu_to_tanh", "linear_to_conv1x1"]
    # when
    given = {kind: ShippedRewrite(kind=kind) for kind in kinds}
    new, effects = substitute(model, given, run_on(x))
    # then
    counts = {e.name: len(e.replaced) for e in effects}
    assert counts == {
        "multi_head_attention": 2, "layer_norm": 5, "dropout_removal": 9, "gelu_to_tanh": 2, "linear_to_conv1x1": 13,
    }  # fmt: skip
    assert [e.max_abs == 0 or e.snr_db > 60 for e in effects] == [True] * 5
    agree(model, new, x, within=2e-3)  # GELU by tanh is the one that is not exact


def test_a_type_of_ones_own_is_rewritten_when_it_is_named():
    class MyNorm(nn.LayerNorm):
        pass

    globals()["MyNorm"] = MyNorm
    model = nn.Sequential(MyNorm(8))
    with pytest.raises(ConfigurationError, match="matches nothing"):
        apply("layer_norm", model, torch.randn(2, 8))
    new, effect = apply("layer_norm", model, torch.randn(2, 8), type=f"{__name__}:MyNorm")
    assert effect.replaced == ("0",)
    with pytest.raises(
        ConversionError, match=r"applies to torch.nn:LayerNorm, .* and torch.nn:Linear is none"
    ) as raised:
        apply("layer_norm", model, torch.randn(2, 8), type="torch.nn:Linear")
    assert raised.value.key == "substitutions.layer_norm.type"
    agree(model, new, torch.randn(2, 8))


def import_vit() -> nn.Module:
    """A vision transformer of torchvision, small."""
    import_torchvision()
    from torchvision.models.vision_transformer import VisionTransformer

    model = VisionTransformer(32, 8, num_layers=2, num_heads=2, hidden_dim=16, mlp_dim=32, num_classes=10)
    return randomized(model)
