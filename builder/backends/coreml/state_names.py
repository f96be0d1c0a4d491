"""Gives the states of an ML program the names of the recipe, where coremltools names them after the buffers."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from coremltools.converters.mil.mil import Block
    from google.protobuf.message import Message


def rename_state(specification: Message, *, buffer: str, name: str) -> None:
    """Rename the state that was made from the model's `buffer`, in the description and wherever the program reads it.

    Given:   state model_decoder_keys;  %a = read_state(input=%model_decoder_keys)
    Result:  state keys;  %a = read_state(input=%keys)
    """
    old = re.sub(r"\W", "_", f"model.{buffer}")
    described = (specification.description, *specification.description.functions)
    declared = [state for each in described for state in each.state if state.name == old]
    if not declared:  # an existing Core ML model has the recipe's names already
        return
    for state in declared:
        state.name = name
    for function in specification.mlProgram.functions.values():
        for given in function.inputs:
            if given.name == old:
                given.name = name
        for block in function.block_specializations.values():
            _rename_in(block, old, name)


def _rename_in(block: Block, old: str, new: str) -> None:
    for operation in block.operations:
        for argument in operation.inputs.values():
            for binding in argument.arguments:
                if binding.name == old:
                    binding.name = new
        for inner in operation.blocks:
            _rename_in(inner, old, new)
