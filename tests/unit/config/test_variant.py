"""The variant: readable, safe, the same in every order, and only of what changes the artifact."""

from __future__ import annotations

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from builder.config.variant import LONGEST, variant_name
from tests.unit.config.conftest import Compose


@pytest.mark.parametrize(
    ("overrides", "variant"),
    [
        ((), "default"),
        (("tracking=none", "checks=none", "checks.parity.samples=2"), "default"),
        (("precision=fp32",), "precision=fp32"),
        (("target=ios16", "precision=fp32", "tracking=none"), "precision=fp32,target=ios16"),
        (("precision=fp16",), "default"),
        (("+seed=3",), "seed=3"),
        (("~source.weights",), "without=source.weights"),
    ],
)
def test_variant_names(overrides: tuple[str, ...], variant: str, composed: Compose) -> None:
    checks = [o for o in overrides if not (o.startswith("checks.") and "checks=none" in overrides)]
    assert composed(*checks).variant == variant
    assert composed(*reversed(checks)).variant == variant


def test_overrides_that_need_each_other_are_both_kept(composed: Compose) -> None:
    # the format needs the older target, so that neither can be left out
    assert composed("format=mlmodel", "target=ios14").variant == "format=mlmodel,target=ios14"


def test_long_and_odd_values_end_in_a_digest() -> None:
    long = variant_name(["metadata.description='" + "long " * 80 + "'"])
    assert len(long) <= LONGEST + 9
    assert variant_name(["source.file=a/b.pth"]) != variant_name(["source.file=a-b.pth"])


@given(st.lists(st.text(min_size=1, max_size=40), max_size=4))
@example(values=["0,0"])
@example(values=["choice(1,2)", "range(1,3)"])
def test_variants_are_safe_folder_names(values: list[str]) -> None:
    name = variant_name([f"metadata.author{i}={value}" for i, value in enumerate(values)])
    assert re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._=,-]*", name)
    assert len(name) <= LONGEST + 9
