"""Measures agree with their formulas, and never call an empty comparison a good one."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from builder.util.measures import compare, why_meaningless

ARRAYS = npst.arrays(np.float32, st.integers(1, 20), elements=st.floats(-100, 100, width=32))


@given(ARRAYS)
def test_equal_arrays_have_no_difference(values):
    measured = compare(values, values.copy())
    assert measured.max_abs == 0
    assert measured.snr_db == math.inf
    assert measured.relative_error == 0


def test_known_difference():
    measured = compare(torch.tensor([3.0, 4.0]), torch.tensor([3.0, 4.5]))
    assert measured.max_abs == pytest.approx(0.5)
    assert measured.relative_error == pytest.approx(0.125)
    assert measured.snr_db == pytest.approx(20.0)  # 10 log10(25 / 0.25)
    assert measured.cosine == pytest.approx((9 + 18) / (5 * math.hypot(3, 4.5)))


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_not_finite_makes_every_measure_nan(bad):
    measured = compare(torch.tensor([1.0, 2.0]), torch.tensor([1.0, bad]))
    assert all(math.isnan(v) for v in (measured.max_abs, measured.relative_error, measured.snr_db, measured.cosine))


def test_other_shapes_are_refused():
    with pytest.raises(ValueError, match="differ"):
        compare(torch.ones(2), torch.ones(3))


@pytest.mark.parametrize(
    ("references", "said"),
    [
        ([torch.full((3,), 1e-9), torch.full((3,), 2e-9)], "nearly zero"),
        ([torch.full((3,), 5.0), torch.full((3,), 4.0)], "constant"),
        ([torch.tensor([1.0, 2.0]), torch.tensor([1.0, 2.0])], "same for every sample"),
        ([torch.tensor([math.inf, math.nan])], "no finite number"),
        ([torch.tensor([1.0, math.nan]), torch.tensor([2.0, math.nan])], None),
        ([torch.tensor([1.0, 2.0]), torch.tensor([2.0, 1.0])], None),
        ([torch.tensor([1.0]), torch.tensor([2.0])], None),
    ],
)
def test_what_proves_nothing_is_told(references, said):
    reason = why_meaningless(references)
    assert (reason is None) if said is None else (said in reason)
