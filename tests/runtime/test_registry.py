"""The operator table against coremltools' registry: nothing that a program may hold is missing."""

from __future__ import annotations

import pytest
from coremltools.converters.mil.mil.ops.registry import SSAOpRegistry

from coreml_runtime.ops import operators
from coreml_runtime.ops.table import parameters, table

NEVER_SAVED = {"const", "_const_symbolic"}
"""The reader handles constants itself; a symbolic one exists only while coremltools converts."""

ONLY_SAVED = {"write_state"}
"""coremltools keeps `coreml_update_state` in memory and saves it as write_state and read_state."""


def test_every_operator_of_the_registry_has_a_kernel() -> None:
    assert operators().keys() == (SSAOpRegistry.core_ops.keys() - NEVER_SAVED) | ONLY_SAVED


@pytest.mark.parametrize("name", sorted(SSAOpRegistry.core_ops.keys() - NEVER_SAVED))
def test_a_kernel_takes_every_argument_of_every_opset(name: str) -> None:
    # given: the arguments of all versions; a leading underscore marks what is saved as a nested block
    declared = {
        argument
        for version in SSAOpRegistry.core_ops[name].values()
        for argument in version.input_spec.input_types
        if not argument.startswith("_")
    }

    # when
    accepted = {parameter.name for parameter in parameters(operators()[name])}

    # then
    assert declared <= accepted


def test_a_name_defined_twice_is_refused() -> None:
    def relu() -> None: ...

    with pytest.raises(ValueError, match="relu is defined twice"):
        table(relu, relu)


def test_a_parameter_that_could_not_be_bound_is_refused() -> None:
    def positional(x: int) -> int:
        return x

    def unknown(*, x: complex) -> complex:
        return x

    for kernel in (positional, unknown):
        with pytest.raises(TypeError, match=kernel.__name__):
            parameters(kernel)
