"""Inputs and outputs in the report, in words."""

from __future__ import annotations

import pytest

from builder.reports.page_interface import feature_text


@pytest.mark.parametrize(
    ("feature", "said"),
    [
        ({"shape": [1, 100], "ranges": [[1, 1], [40, 160]]}, "float32 1 × 100 (sizes may be 1 × 40 to 160)"),
        ({"shape": [1, 2], "ranges": [[1, 1], [1, -1]]}, "float32 1 × 2 (sizes may be 1 × 1 to any)"),
        ({"shape": [1, 2], "enumerated_shapes": [[1, 2], [1, 4]]}, "float32 1 × 2 (sizes may be 1 × 2, 1 × 4)"),
        ({"shape": [1, 2], "optional": True}, "float32 1 × 2 (optional true)"),
    ],
)
def test_sizes_read_as_in_the_swift_interface(feature: dict[str, object], said: str) -> None:
    assert feature_text({"name": "x", "kind": "tensor", "dtype": "float32", **feature}) == said
