"""Substitutions reach every place in the tree, leave the original alone, and are measured."""

from __future__ import annotations

import warnings

import pytest
import torch
from hypothesis import given as for_all
from hypothesis import settings
from hypothesis import strategies as st
from pydantic import ValidationError
from torch import nn

from builder.errors import ConfigurationError, ConversionError, SourceError
from builder.model.substitutions import substitute
from builder.model.substitutions.rewrite import rewrite
from builder.spec.substitutions import ReplaceModules, RewriteModel, ShippedRewrite


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
    with pytest.raises(ConfigurationError, match="matches nothing") as raised:
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


class Rounded(nn.Module):
    """What a user may declare exact although it is not."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.round(x * 100) / 100


def same(model: nn.Module) -> nn.Module:
    return model


def without_last(model: Nested) -> nn.Module:
    model.last = nn.Identity()
    return model


def wrapped(model: nn.Module) -> nn.Module:
    return nn.Sequential(model, nn.Hardtanh(-2, 2))


def doubled(model: Nested) -> nn.Module:
    with torch.no_grad():
        model.features[1].weight.mul_(2)
    return model


def patched(model: Nested) -> nn.Module:
    model.last.forward = torch.relu
    return model


@pytest.mark.parametrize(
    ("function", "replaced"),
    [(without_last, ("last",)), (wrapped, ("",)), (doubled, ("features.1",)), (patched, ("last",))],
)
def test_a_users_function_rewrites_the_whole_model_and_what_it_changed_is_found(function, replaced):
    # given
    model, given = Nested().eval(), RewriteModel(kind="rewrite", function=f"{__name__}:{function.__name__}")
    before = {name: value.clone() for name, value in model.state_dict().items()}
    # when
    new, (effect,) = substitute(model, {"mine": given}, run_on(torch.ones(4)))
    # then
    assert effect.replaced == replaced
    assert not effect.exact
    assert not new.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items()), "a copy is given"


def test_a_users_function_that_changes_nothing_matches_nothing():
    given = RewriteModel(kind="rewrite", function=f"{__name__}:same")
    with pytest.raises(ConfigurationError, match="matches nothing"):
        substitute(Nested(), {"mine": given}, run_on(torch.ones(4)))


def test_an_exact_rewrite_that_is_not_fails_unless_the_recipe_gives_a_limit():
    said = {"kind": "replace", "type": "torch.nn:ReLU6", "replacement": f"{__name__}:Rounded", "exact": True}
    model, run = nn.Sequential(nn.ReLU6()), run_on(torch.tensor([1.0, 2.004]))
    with pytest.raises(
        ConversionError, match=r"is exact, and changes an output by 0.004, which is 0.002 of its largest"
    ):
        substitute(model, {"mine": ReplaceModules(**said)}, run)
    _, (effect,) = substitute(model, {"mine": ReplaceModules(**said, effect={"max": 0.01})}, run)
    assert effect.exact


def test_each_pattern_has_to_match_what_is_replaced():
    given = ShippedRewrite(kind="relu6_to_relu", modules=["features.*", "featurs.2"])
    with pytest.raises(ConfigurationError, match=r"pattern featurs.2 of substitution r matches nothing") as raised:
        substitute(Nested(), {"r": given}, run_on(torch.ones(4)))
    assert raised.value.key == "substitutions.r.modules"
    assert "features.2" in (raised.value.hint or "")


def test_a_captured_program_says_that_it_has_no_modules():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # torch deprecates tracing, and many models are traces
        scripted = torch.jit.trace(Nested().eval(), torch.ones(4))
    with pytest.raises(ConfigurationError, match="matches nothing") as raised:
        substitute(scripted, {"r": relu6()}, run_on(torch.ones(4)))
    assert "captured" in (raised.value.hint or "")


def test_forward_hooks_are_not_lost_silently():
    model = Nested()
    model.last.register_forward_hook(lambda module, args, output: output * 2)
    with pytest.raises(ConversionError, match=r"last \(ReLU6\) has forward hooks, which its replacement would lose"):
        substitute(model, {"r": relu6()}, run_on(torch.ones(4)))
    # one that keeps the old module keeps its hooks
    given = ReplaceModules(kind="replace", type="torch.nn:ReLU6", replacement=f"{__name__}:around")
    _, (effect,) = substitute(model, {"around": given}, run_on(torch.ones(4)))
    assert effect.max_abs == 0


def around(old: nn.Module) -> nn.Module:
    return nn.Sequential(old)


def test_other_shapes_and_nan_are_refused():
    first = ReplaceModules(kind="replace", modules=["last"], replacement="torch.nn:Flatten")
    run = run_on(torch.ones(2, 2, 4))
    with pytest.raises(ConversionError, match=r"changes the outputs from .* to "):
        substitute(Nested(), {"flat": first}, run)
    nan = ReplaceModules(kind="replace", modules=["last"], replacement=f"{__name__}:Nan")
    with pytest.raises(ConversionError, match="infinite or NaN"):
        substitute(Nested(), {"nan": nan}, run)


class Nan(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x / 0 * 0


def test_infinity_that_stays_is_no_change():
    class Masked(nn.Sequential):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return super().forward(x).masked_fill(x > 2, -torch.inf)

    given = ShippedRewrite(kind="relu6_to_clamp")
    _, (effect,) = substitute(Masked(nn.ReLU6()), {"r": given}, run_on(torch.tensor([1.0, 3.0])))
    assert effect.max_abs == 0


def test_replacing_everything_by_mistake_is_refused_by_the_recipe():
    with pytest.raises(ValidationError, match="needs `type`, `modules` or both"):
        ReplaceModules(kind="replace", replacement="torch.nn:ReLU")


def test_the_parameters_of_a_computed_weight_can_be_copied():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        model = nn.Sequential(nn.utils.weight_norm(nn.Linear(4, 4)), nn.ReLU6())
    new, _ = rewrite(model, lambda m: type(m) is nn.ReLU6, None, lambda _: nn.ReLU())
    assert torch.equal(new(torch.ones(4)), torch.relu(model[0](torch.ones(4))))


class Leaf(nn.Linear):
    """A module of the trees that are drawn; those marked are replaced."""

    def __init__(self, *, marked: bool, seed: int) -> None:
        super().__init__(2, 2)
        self.marked = marked
        generator = torch.Generator().manual_seed(seed)
        for parameter in self.parameters():
            parameter.data = torch.randn(parameter.shape, generator=generator)


class Replaced(Leaf):
    """The same computation; also marked, so that replacing it again would show."""

    def __init__(self, old: Leaf) -> None:
        super().__init__(marked=True, seed=0)
        self.weight, self.bias = old.weight, old.bias
        self.times = getattr(old, "times", 0) + 1


@st.composite
def trees(draw: st.DrawFn) -> nn.Module:
    """Nested sequences and mappings whose leaves and containers may stand in several places."""
    pool: list[nn.Module] = [
        Leaf(marked=draw(st.booleans()), seed=draw(st.integers(0, 9))) for _ in range(draw(st.integers(1, 4)))
    ]
    for _ in range(draw(st.integers(0, 6))):
        children = draw(st.lists(st.sampled_from(pool), min_size=1, max_size=3))
        pool.append(nn.Sequential(*children))
    return pool[-1]


@settings(deadline=None)  # one machine's load is not a failure
@for_all(trees())
def test_in_every_tree_all_marked_modules_are_replaced_once_and_nothing_else(model):
    # given
    paths = [p for p, m in model.named_modules(remove_duplicate=False) if isinstance(m, Leaf) and m.marked]
    before = {p: id(m) for p, m in model.named_modules(remove_duplicate=False)}
    # when
    new, replaced = rewrite(model, lambda m: isinstance(m, Leaf) and m.marked, None, lambda m: Replaced(m))
    # then
    after = dict(new.named_modules(remove_duplicate=False))
    assert sorted(replaced) == sorted(paths)
    assert all(isinstance(after[p], Replaced) and after[p].times == 1 for p in paths)
    assert {p for p, m in after.items() if isinstance(m, Replaced)} == set(paths)
    assert after.keys() == before.keys()
    for p in before:
        assert [q for q in before if before[q] == before[p]] == [q for q in after if after[q] is after[p]], "as shared"
    assert torch.equal(new(torch.ones(2)), model(torch.ones(2)))
    assert {p: id(m) for p, m in model.named_modules(remove_duplicate=False)} == before, "the original stays"
