"""Whoever refused a conversion is named, and what went wrong within is explained, with its place."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from builder.backends.coreml.convert import conversion_errors
from builder.backends.coreml.refusals import refused_by, why_refused
from builder.errors import ConversionError
from builder.stages.capture import capture
from tests.unit.stages.small_builds import capture_module, make_spec


def raised_in(file: str, statement: str) -> Exception:
    """The error that a statement raises in code of this file."""
    code = compile(f"def run():\n    {statement}\n", file, "exec")
    names: dict[str, object] = {}
    exec(code, names)
    try:
        names["run"]()  # type: ignore[operator]
    except Exception as error:
        return error
    raise AssertionError


COREMLTOOLS = "/site-packages/coremltools/converters/mil/frontend/torch/ops.py"


def ours() -> str:
    import builder.backends.coreml.lowerings.resampling as lowering

    return str(lowering.__file__)


def test_a_refusal_of_ours_is_not_attributed_to_coremltools() -> None:
    error = raised_in(ours(), "raise NotImplementedError('resizing without a size is not converted')")
    assert refused_by(error) == "builder"
    with pytest.raises(ConversionError, match="builder refused: resizing without a size"), conversion_errors("no"):
        raise error


def test_a_refusal_of_coremltools_is() -> None:
    error = raised_in(COREMLTOOLS, "raise ValueError('Unsupported padding')")
    assert (refused_by(error), why_refused(error)) == ("coremltools", "Unsupported padding")


@pytest.mark.parametrize("statement", ["assert False", "[][1]", "None.shape"])
def test_an_accident_within_is_explained_and_placed(statement: str) -> None:
    said = why_refused(raised_in(COREMLTOOLS, statement))
    assert said.startswith("it was not written for this case and ended in an internal error (")
    assert said.endswith("ops.py:2)")
    assert not said.startswith("AssertionError")


def test_what_torchs_compiler_calls_its_own_bug_is_named() -> None:
    torchs = "We don\\'t have an op for aten::mul but it isn\\'t a special case.  Argument types: Tensor, bool, "
    said = why_refused(raised_in(COREMLTOOLS, f"raise RuntimeError('{torchs}')"))
    assert said == "torch's compiler has no mul that takes Tensor, bool: write a Python bool as 1 or 0 there"


class Untypable(nn.Module):
    """TorchScript makes its class, and then does not compile its method."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.no_such_function(x)  # type: ignore[attr-defined]


def test_scripting_a_class_twice_gives_the_first_reason_twice() -> None:
    prepared, _, examples, _ = capture_module(Sign(), make_spec(input={"x": {"kind": "tensor", "shape": [1, 4]}}))
    reasons = []
    for _ in range(2):
        with pytest.raises(ConversionError) as raised:
            capture(prepared, examples, "script", {})
        reasons.append(raised.value.message)
    assert "TorchScript cannot compile the model" in reasons[0]
    assert "no_such_function" in reasons[0]
    assert "test_refusals.py:" in reasons[0]
    assert reasons[1] == reasons[0]


class Sign(nn.Module):
    """Runs, since what does not compile is never called."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = Untypable()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if x.shape[0] > 100:
            return self.inner(x)
        return x * 2
