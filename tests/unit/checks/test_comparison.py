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


def test_top5_counts_the_reference_s_best_class_among_the_five_best():
    scores = torch.arange(8.0)[None]
    near, far = scores.roll(-3, 1), scores.roll(-6, 1)  # the best class comes fourth, then seventh
    report = verdict([{"y": near}, {"y": far}], references=[{"y": scores}, {"y": scores + 1}], scores="y", limits={})
    assert report.values["y"]["top5_agreement"] == 0.5
    assert report.values["y"]["top1_agreement"] == 0.0


def test_nan_is_no_answer_even_where_no_limit_is_known():
    report = verdict([REFERENCE[0], {"y": torch.tensor([[3.0, 2.0, float("nan")]])}], limits={})
    assert report.passed is False
    assert report.reason == "y: 1 of 6 values are NaN where the original has numbers, in 1 of 2 samples"
    assert verdict([REFERENCE[0], REFERENCE[1]], limits={"nan_count": Limit(max=0)}).passed
    few = {"nan_count": Limit(max=1)}
    assert verdict([REFERENCE[0], {"y": torch.tensor([[3.0, 2.0, float("nan")]])}], limits=few).passed


def test_overflows_are_counted_and_may_be_limited():
    reference = [{"y": torch.tensor([[1.0, 65505.0, 3.0]])}, {"y": torch.tensor([[2.0, 65504.0, 1.0]])}]
    report = verdict(reference, references=reference, limits={"overflow_count": Limit(max=0)})
    assert report.values["y"]["overflow_count"] == 1
    assert report.passed is False


def test_every_measure_of_floats_can_be_limited():
    results = [{"y": r["y"] + 0.1} for r in REFERENCE]
    for measure, limit in {
        "max_abs": Limit(max=0.01),
        "relative_error": Limit(max=0.01),
        "snr_db": Limit(min=60),
        "psnr_db": Limit(min=60),
        "cosine": Limit(min=0.99999),
    }.items():
        report = verdict(results, limits={measure: limit})
        assert report.passed is False, measure
        assert str(report.reason).startswith(f"y: {measure} is")
