"""What two jobs have in common ends with the first stage that a setting of theirs tells apart."""

from __future__ import annotations

import pytest

from builder.config.compose import compose
from builder.sweep.prefixes import prefixes


@pytest.mark.parametrize(
    ("override", "first"),
    [
        ("seed=7", "load"),
        ("substitutions=silu", "prepare"),
        ("capture.method=export", "capture"),
        ("precision=fp32", "convert"),
        ("compression=int8", "compress"),
        ("compression=[prune_50,int8]", "compress"),
        ("metadata.author=somebody", "seal"),
    ],
)
def test_jobs_share_the_stages_before_their_difference(override: str, first: str) -> None:
    one, other = (
        prefixes(compose(["recipe=mobilenet_v2_fp16", "target=ios18", *more]).spec) for more in ([], [override])
    )
    assert next(stage for stage, digest in one.items() if other[stage] != digest) == first
    assert "verify" not in one
