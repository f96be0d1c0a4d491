"""The table of lowerings, and how it meets coremltools' registry."""

from __future__ import annotations

import inspect
import subprocess
import sys
from typing import Any

import pytest

from builder.backends.coreml.lowerings.lowering import Lowering, UpstreamBug, by_operator
from builder.backends.coreml.lowerings.register import registered_lowerings, replaces_upstream
from builder.backends.coreml.lowerings.table import known_lowerings


def _lower(mb: Any, x: Any) -> Any:
    return x


def _registry() -> dict[str, Any]:
    from coremltools.converters.mil.frontend.torch import ops  # noqa: F401
    from coremltools.converters.mil.frontend.torch.torch_op_registry import _TORCH_OPS_REGISTRY

    return _TORCH_OPS_REGISTRY.name_to_func_mapping  # type: ignore[no-any-return]


def test_listing_imports_nothing_heavy() -> None:
    code = (
        "import sys; from builder.backends.coreml.lowerings.table import known_lowerings; known_lowerings(); "
        "print(sorted({'torch', 'coremltools', 'numpy'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_two_of_one_operator_are_refused() -> None:
    one = Lowering(operator="diff", lower=_lower)
    with pytest.raises(ValueError, match="two lowerings for diff"):
        by_operator((one,), (one,))


def test_the_registry_is_restored_also_after_a_failure() -> None:
    before = dict(_registry())
    with pytest.raises(RuntimeError, match="stop"):
        _fail_within_a_conversion()
    assert _registry() == before


def _fail_within_a_conversion() -> None:
    before = set(_registry())
    with registered_lowerings():
        assert set(_registry()) - before
        raise RuntimeError("stop")


def test_ours_steps_aside_where_coremltools_has_the_operator() -> None:
    upstream = _registry()["relu"]
    with registered_lowerings({"relu": Lowering(operator="relu", lower=_lower)}):
        assert _registry()["relu"] is upstream
    with registered_lowerings({"relu": Lowering(operator="relu", lower=_lower, upstream_gap="a case")}):
        assert _registry()["relu"] is not upstream


@pytest.mark.parametrize(("fixed_in", "replaces"), [(None, True), ("99", True), ("8.0", False)])
def test_ours_steps_aside_where_coremltools_is_right(fixed_in: str | None, replaces: bool) -> None:
    wrong = UpstreamBug(issue=1, summary="is wrong", fixed_in=fixed_in)
    assert replaces_upstream(Lowering(operator="sub", lower=_lower, wrong=wrong)) is replaces


def test_every_entry_says_why_and_names_no_operator_of_the_common_suffixes() -> None:
    for lowering in known_lowerings():
        assert lowering.why
        assert lowering.operator == lowering.operator.lower()
        assert not lowering.operator.endswith((".default", ".tensor", ".scalar")), lowering.operator
        if lowering.applies is not None:
            why = f"{lowering.operator}: without either ours steps aside anyway"
            assert lowering.upstream_gap or lowering.wrong, why
            asked = inspect.signature(lowering.applies).parameters
            known = {*inspect.signature(lowering.lower).parameters, "second_is_read"}
            assert set(asked) <= known, lowering.operator
