"""A comparison passes, fails, or says that it means nothing; never passes by saying nothing."""

from __future__ import annotations

import torch

from builder.checks.comparison import judge
from builder.spec.base import Limit

REFERENCE = [{"y": torch.tensor([[1.0, 2.0, 3.0]])}, {"y": torch.tensor([[3.0, 2.0, 1.0]])}]


def verdict(results, limits=None, references=REFERENCE, scores=None):
    return judge(
        name="parity",
        kind="parity",
        engine="runtime",
        references=references,
        results=results,
        scores=scores,
        limits={"snr_db": Limit(min=40)} if limits is None else limits,
    )


def test_equal_outputs_pass():
    report = verdict(REFERENCE)
    assert report.passed is True
    assert report.samples == 2


def test_the_worst_sample_decides():
    report = verdict([REFERENCE[0], {"y": REFERENCE[1]["y"] * 1.1}])
    assert report.passed is False
    assert report.reason is not None
    assert "snr_db is 20" in report.reason
    assert "at least 40" in report.reason


def test_nan_never_passes():
    assert verdict([REFERENCE[0], {"y": torch.full((1, 3), float("nan"))}]).passed is False


def test_another_shape_never_passes():
    assert verdict([REFERENCE[0], {"y": torch.ones(3, 1)}]).passed is False


def test_a_reference_that_proves_nothing_is_not_judged():
    zeros = [{"y": torch.zeros(1, 3)}] * 2
    report = verdict(zeros, references=zeros)
    assert report.passed is None
    assert report.reason is not None
    assert "not meaningful" in report.reason


def test_no_limit_is_no_pass():
    assert verdict(REFERENCE, limits={}).passed is None


def test_top1_counts_the_same_best_class():
    swapped = [REFERENCE[0], {"y": torch.tensor([[1.0, 2.0, 3.0]])}]
    report = verdict(swapped, limits={"top1_agreement": Limit(min=1.0)}, scores="y")
    assert report.values["y"]["top1_agreement"] == 0.5
    assert report.passed is False
