"""Substitutions reach every place in the tree, leave the original alone, and are measured."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from builder.errors import ConversionError, SourceError
from builder.spec.substitutions import ReplaceModules, ShippedRewrite
from builder.substitutions import substitute
from builder.substitutions.rewrite import rewrite


class Nested(nn.Module):
    """ReLU6 two levels down, once shared between two places, and a Linear."""

    def __init__(self) -> None:
        super().__init__()
        shared = nn.ReLU6()
        self.features = nn.Sequential(nn.Sequential(nn.Linear(4, 4), shared), nn.Linear(4, 4), shared)
        self.last = nn.ReLU6()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(self.features(x) * 10)


def run_on(*inputs: torch.Tensor):
    return lambda module: (torch.stack([module(x) for x in inputs]),)


def relu6() -> ShippedRewrite:
    return ShippedRewrite(kind="relu6_to_relu")


def test_nested_and_shared_modules_are_replaced_and_the_original_stays():
    # given
    model = Nested().eval()
    # when
    new, replaced = rewrite(model, lambda m: type(m) is nn.ReLU6, None, lambda _: nn.ReLU())
    # then
    assert replaced == ("features.0.1", "features.2", "last")
    assert not any(isinstance(m, nn.ReLU6) for m in new.modules())
    assert new.features[0][1] is new.features[2], "a shared module stays shared"
    assert isinstance(model.last, nn.ReLU6)
    assert new.features[0][0].weight is not model.features[0][0].weight, "a stage never changes its input"


def test_the_root_itself_is_replaced():
    new, replaced = rewrite(nn.ReLU6(), lambda m: type(m) is nn.ReLU6, None, lambda _: nn.ReLU())
    assert type(new) is nn.ReLU
    assert replaced == ("",)


def test_name_patterns_select():
    new, replaced = rewrite(Nested(), lambda m: type(m) is nn.ReLU6, ["features.*"], lambda _: nn.ReLU())
    assert replaced == ("features.0.1", "features.2")
    assert isinstance(new.last, nn.ReLU6)


def test_replaced_modules_keep_eval_mode():
    new, _ = rewrite(Nested().eval(), lambda m: type(m) is nn.ReLU6, None, lambda _: nn.ReLU())
    assert not any(m.training for m in new.modules())


def test_effect_is_measured_by_what_the_rewrite_changes():
    # given a model whose activations pass 6, so that ReLU gives 9 where ReLU6 gave 6
    model = nn.Sequential(nn.Identity(), nn.ReLU6())
    # when
    _, (effect,) = substitute(model, {"relu6_to_relu": relu6()}, run_on(torch.tensor([1.0, 9.0])))
    # then
    assert effect.max_abs == pytest.approx(3.0)
    assert effect.snr_db is not None
    assert not effect.exact


def test_effect_over_its_limit_fails():
    given = ShippedRewrite(kind="relu6_to_relu", effect={"max": 1.0})
    with pytest.raises(ConversionError, match="changes an output by 3, and its limit is max 1"):
        substitute(nn.Sequential(nn.ReLU6()), {"r": given}, run_on(torch.tensor([9.0])))


def test_matching_nothing_is_an_error_unless_optional():
    model = nn.Sequential(nn.Linear(2, 2))
    with pytest.raises(ConversionError, match="matches nothing") as raised:
        substitute(model, {"relu6_to_relu": relu6()}, run_on(torch.ones(2)))
    assert raised.value.key == "substitutions.relu6_to_relu"
    optional = ShippedRewrite(kind="relu6_to_relu", optional=True)
    _, (effect,) = substitute(model, {"relu6_to_relu": optional}, run_on(torch.ones(2)))
    assert effect.replaced == ()


def widen(old: nn.Linear) -> nn.Module:
    new = nn.Linear(old.in_features, old.out_features)
    new.load_state_dict(old.state_dict())
    return nn.Sequential(new)


def broken(old: nn.Module) -> nn.Module:
    raise RuntimeError(f"no {type(old).__name__} today")


def test_a_users_replacement_carries_parameters_over():
    # given
    given = ReplaceModules(kind="replace", type="torch.nn:Linear", replacement=f"{__name__}:widen")
    # when
    new, (effect,) = substitute(Nested().eval(), {"widen": given}, run_on(torch.ones(4)))
    # then: same outputs, both layers replaced
    assert effect.replaced == ("features.0.0", "features.1")
    assert effect.max_abs == 0.0
    assert isinstance(new.features[1], nn.Sequential)


def test_a_torch_type_as_replacement_is_made_without_arguments():
    given = ReplaceModules(kind="replace", type="torch.nn:ReLU6", replacement="torch.nn:Hardswish")
    new, _ = substitute(Nested(), {"swish": given}, run_on(torch.ones(4)))
    assert isinstance(new.last, nn.Hardswish)


@pytest.mark.parametrize(
    ("type_", "replacement", "error", "said"),
    [
        (
            "torch.nn:Linear",
            f"{__name__}:broken",
            ConversionError,
            r"raised RuntimeError: no Linear today \(at .*test_",
        ),
        ("torch.nn:Linnear", f"{__name__}:widen", SourceError, "torch.nn has no Linnear"),
        ("math:pi", f"{__name__}:widen", ConversionError, "not a type of torch.nn.Module"),
        ("torch.nn:Linear", "builtins:repr", ConversionError, "returned a str"),
        ("torch.nn:Linear", "nowhere.at_all:f", SourceError, "there is no module nowhere"),
    ],
)
def test_wrong_user_code_is_named(type_, replacement, error, said):
    given = ReplaceModules(kind="replace", type=type_, replacement=replacement)
    with pytest.raises(error, match=said):
        substitute(Nested(), {"mine": given}, run_on(torch.ones(4)))
