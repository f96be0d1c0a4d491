"""A release is refused where no check has data for an array, unless the recipe accepts that."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from builder.errors import VerificationError
from builder.release.make import Order, make_release
from builder.spec import BuildSpec
from builder.spec.coverage import uncovered_inputs

ARRAY = {"x": {"kind": "tensor", "shape": [1, 8]}}
IMAGE = {"image": {"kind": "image", "shape": [1, 3, 8, 8], "scale": 1.0}}


def _spec(inputs: dict[str, Any], checks: dict[str, Any]) -> BuildSpec:
    return BuildSpec.model_validate(
        {
            "source": {"kind": "python", "factory": "some:thing"},
            "input": inputs,
            "precision": {"kind": "fp16"},
            "target": {"name": "ios16"},
            "checks": checks,
            "tracking": {"kind": "none"},
        }
    )


@pytest.mark.parametrize(
    ("inputs", "checks", "open_inputs"),
    [
        (ARRAY, {"parity": {}}, ("x",)),
        (ARRAY, {"parity": {"accept_synthetic": True}}, ()),
        (ARRAY, {"parity": {"data": {"kind": "tables"}}}, ()),
        (ARRAY, {"parity": {"data": {"kind": "noise"}}}, ("x",)),
        (ARRAY, {"parity": {}, "real": {"kind": "parity", "data": {"kind": "tensors", "file": "x.npz"}}}, ()),
        ({**IMAGE, **ARRAY}, {"parity": {}}, ("x",)),
        (IMAGE, {"parity": {}}, ()),
        (ARRAY, {}, ()),
    ],
)
def test_inputs_without_data(inputs: dict[str, Any], checks: dict[str, Any], open_inputs: tuple[str, ...]) -> None:
    assert uncovered_inputs(_spec(inputs, checks)) == open_inputs


def test_a_release_is_refused_before_anything_is_built(tmp_path: Path) -> None:
    request: Any = SimpleNamespace(spec=_spec(ARRAY, {"parity": {}}))
    order = Order(request=request, final=tmp_path / "release", outputs=tmp_path / "outputs", sign_key=None)
    with pytest.raises(VerificationError, match="the checks have no data for x") as refused:
        make_release(order, lambda _: pytest.fail("nothing is begun"))
    assert "accept_synthetic: true" in str(refused.value.hint)
