"""What is right passes and what is wrong fails, also where the original is not sure of its own last digits."""

from __future__ import annotations

import copy

import pytest
import torch

from builder.checks.comparison import judge
from builder.checks.limits import CAPTURE, HALF
from builder.model.uncertainty import Uncertainty


def verdict(original, artifact, samples, limits=HALF, **more):
    """`artifact` against `original`, both functions of one tensor that return one tensor."""
    module = _Tuple(original) if isinstance(original, torch.nn.Module) else None
    answers = Uncertainty(module, [(x,) for x in samples], {}) if module is not None else None
    with torch.no_grad():
        return judge(
            name="parity",
            kind="parity",
            engine="runtime",
            references=[{"y": original(x)} for x in samples],
            results=[{"y": artifact(x)} for x in samples],
            scores=None,
            limits=limits,
            others=None if answers is None else lambda number: [{"y": each[0]} for each in answers(number)],
            **more,
        )


class _Tuple(torch.nn.Module):
    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, x):
        return (self.model(x),)


class Finder(torch.nn.Module):
    """A detector: a map of probabilities, near 1 on what it looks for, and below 1e-6 where there is nothing."""

    def __init__(self):
        super().__init__()
        self.conv = torch.nn.Conv2d(1, 1, 3, padding=1)
        torch.nn.init.constant_(self.conv.weight, 1 / 9)
        torch.nn.init.constant_(self.conv.bias, 0.0)

    def forward(self, x):
        return torch.sigmoid(24 * self.conv(x) - 16)


def in_half(module):
    half = copy.deepcopy(module).half()
    return lambda x: half(x.half()).float()


def pages():
    torch.manual_seed(0)
    text = torch.zeros(1, 1, 24, 24)
    text[..., 8:16, 4:20] = 1.0
    return [text, torch.zeros(1, 1, 24, 24), 0.02 * torch.rand(1, 1, 24, 24), text.roll(5, 3)]


def test_a_detector_that_is_right_passes_on_pages_with_nothing_on_them():
    report = verdict(Finder(), in_half(Finder()), pages())
    assert report.passed is True, report.reason


def scaled(module):
    module.conv.weight.data *= 1.05


def turned(module):
    forward = module.forward
    module.forward = lambda x: forward(x.transpose(2, 3))


def blind(module):
    module.conv.bias.data += 0.5  # sees something where nothing is


@pytest.mark.parametrize("mutate", [scaled, turned, blind])
def test_a_detector_that_is_wrong_fails(mutate):
    wrong = Finder()
    mutate(wrong)
    report = verdict(Finder(), wrong, pages())
    assert report.passed is False
    assert report.failed_on["y"]


def test_the_samples_that_fail_are_named_the_worst_first():
    right = Finder()
    pages_ = pages()
    report = verdict(right, lambda x: right(x) * (0.5 if x is pages_[3] else 0.97), pages_)
    assert report.failed_on["y"][:2] == (3, 0)


def test_a_score_that_happens_to_be_near_zero_is_judged_on_its_scale():
    scores = [torch.tensor([[value]]) for value in (1.3, -0.8, 2e-4, 0.4)]
    assert verdict(lambda x: x, lambda x: x + 5e-4, scores).passed is True  # 60 dB below 0.6
    assert verdict(lambda x: x, lambda x: x * 1.05, scores).passed is False
    assert verdict(lambda x: x, lambda x: x + 0.05, scores).passed is False


def test_what_the_original_gives_as_nan_or_infinity_is_not_asked():
    def masked(x):
        return torch.where(x > 0.5, torch.log(x - 0.5), torch.nan)

    samples = [torch.rand(1, 64, generator=torch.Generator().manual_seed(n)) for n in range(3)]
    assert verdict(masked, lambda x: torch.nan_to_num(masked(x), nan=-9.0), samples).passed is True
    wrong = verdict(masked, lambda x: torch.where(x > 0.9, torch.nan, masked(x)), samples)
    assert wrong.passed is False
    assert "NaN where the original has numbers" in str(wrong.reason)
    endless = verdict(masked, lambda x: torch.where(x > 0.9, torch.inf, masked(x)), samples)
    assert endless.passed is False
    assert "infinite where the original has numbers" in str(endless.reason)


def test_nothing_but_nan_is_not_judged():
    report = verdict(lambda x: x * torch.nan, lambda x: x, [torch.rand(4)] * 2)
    assert report.passed is None
    assert "no finite number" in str(report.reason)


class Cancels(torch.nn.Module):
    """Three digits are left in float32."""

    def forward(self, x):
        return (x + 1e4) - 1e4


def test_digits_that_the_original_lost_are_not_asked():
    samples = [torch.rand(1, 64, generator=torch.Generator().manual_seed(n)) for n in range(3)]
    report = verdict(Cancels(), lambda x: x, samples, CAPTURE)
    assert report.values["y"]["snr_db"] < 90
    assert report.passed is True, report.reason
    assert report.values["y"]["own_snr_db"] < 80
    assert "computed with other rounding" in str(report.reason)


def test_what_is_beyond_them_is():
    samples = [torch.rand(1, 64, generator=torch.Generator().manual_seed(n)) for n in range(3)]
    assert verdict(Cancels(), lambda x: x * 1.01, samples, CAPTURE).passed is False
    assert verdict(Cancels(), lambda x: x.abs().clamp(max=0.9), samples, CAPTURE).passed is False


def test_an_output_that_is_constant_must_be_the_same():
    anchors = torch.arange(6.0)
    assert verdict(lambda x: anchors, lambda x: anchors, [torch.rand(2)] * 2).passed is None
    assert verdict(lambda x: anchors, lambda x: anchors.flip(0), [torch.rand(2)] * 2).passed is False


def test_nothing_is_no_licence_for_something():
    zeros = torch.zeros(1, 8)
    assert verdict(lambda x: zeros, lambda x: zeros + 1e-4, [torch.rand(2)] * 2).passed is None
    assert verdict(lambda x: zeros, lambda x: zeros + 0.5, [torch.rand(2)] * 2).passed is False


def test_what_half_holds_with_few_bits_on_all_samples_is_inconclusive():
    pages_ = [0.3 * torch.rand(1, 1, 24, 24, generator=torch.Generator().manual_seed(n)) for n in range(3)]

    def rough(x):
        return Finder()(x) * (1 + 0.5 * torch.rand(x.shape, generator=torch.Generator().manual_seed(9)))

    report = verdict(Finder(), rough, pages_, half=True)
    assert report.passed is None
    assert "nearly zero on all samples" in str(report.reason)
    assert verdict(Finder(), rough, pages_).passed is False  # float32 holds it
    assert verdict(Finder(), lambda x: Finder()(x) + 0.1, pages_, half=True).passed is False
    assert verdict(Finder(), rough, pages(), half=True).passed is False  # with text on a page there is a scale


def test_a_limit_that_the_recipe_gives_is_held_as_it_is():
    samples = [torch.rand(1, 64, generator=torch.Generator().manual_seed(n)) for n in range(3)]
    assert verdict(Cancels(), lambda x: x, samples, CAPTURE).passed is True
    assert verdict(Cancels(), lambda x: x, samples, CAPTURE, given=("snr_db",)).passed is False


def test_an_uncertainty_far_below_the_difference_is_not_mentioned():
    samples = [torch.rand(1, 64, generator=torch.Generator().manual_seed(n)) for n in range(3)]
    assert "other rounding" not in str(verdict(Finder(), lambda x: Finder()(x) * 2, pages()).reason)
    assert "other rounding" in str(verdict(Cancels(), lambda x: x * 1.0003, samples, CAPTURE).reason)


class Nearest(torch.nn.Module):
    """Which of two is larger, after 1e4 was added to both: what is below 1e-4 all but ties."""

    def forward(self, x):
        return torch.stack([1e4 - x, x + 1e4]).argmax(0)


def test_integers_that_the_original_is_not_sure_of_are_not_asked():
    large = [torch.randn(1, 64, generator=torch.Generator().manual_seed(n)) for n in range(3)]
    samples = [torch.cat([x, x * 1e-5], 1) for x in large]
    report = verdict(Nearest(), lambda x: (x > 0).long(), samples)
    assert report.values["y"]["agreement"] < 0.98
    assert report.passed is True, report.reason
    assert report.values["y"]["own_agreement"] < 0.98
    assert verdict(Nearest(), lambda x: (x < 0).long(), samples).passed is False
    assert verdict(Nearest(), lambda x: (x > 0.2).long(), samples).passed is False


def test_an_original_that_draws_random_numbers_proves_nothing():
    # given a model whose dropout stays on, and an artifact that drops as much
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(8, 64), torch.nn.Dropout(0.7)).train()
    report = verdict(model, model, [torch.randn(1, 8) for _ in range(4)])
    # then nothing is proven
    assert report.passed is None
    assert "draw random numbers" in report.reason
