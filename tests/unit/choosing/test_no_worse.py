"""Where nothing passes, automatic precision ends with what misses the limits least, and with no more than float16."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from builder.auto.precision import choose_precision
from builder.spec.precision import Fp16


@pytest.mark.parametrize(
    ("half_db", "full_db", "half_failures", "full_failures", "kind"),
    [
        (14.1, -5.7, 1, 1, "fp16"),  # float32 is worse
        (14.1, 14.1, 1, 1, "fp16"),  # and no better
        (14.1, 28.0, 1, 1, "fp32"),
        (14.1, 40.0, 1, 2, "fp16"),  # one check more fails
    ],
)
def test_it_never_ends_worse_than_it_began(
    half_db: float, full_db: float, half_failures: int, full_failures: int, kind: str
) -> None:
    def attempt(_: str, precision: Any) -> Any:
        is_half = isinstance(precision, Fp16)
        return SimpleNamespace(
            passes=False,
            failures=half_failures if is_half else full_failures,
            snr_db=half_db if is_half else full_db,
            spec=SimpleNamespace(precision=precision),
            reports=(),
        )

    chosen = choose_precision(attempt, lambda _: [], lambda _: {})
    assert chosen.precision.kind == kind
    assert "does not pass" in chosen.notes[0]
