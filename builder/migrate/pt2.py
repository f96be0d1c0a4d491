"""`.pt2`: the exported program as torch saves it, with what it does not say in a file inside."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from builder.artifacts.stages import Sample
from builder.migrate.original import Inputs, same_draws
from builder.migrate.proof import Engine
from builder.migrate.pt2_archive import pack
from builder.migrate.pt2_weights import store
from builder.util.patient import patient
from coreml_runtime.export import Exported
from coreml_runtime.features import ImageFeature

if TYPE_CHECKING:
    from google.protobuf.message import Message

NAME = "builder.json"
"""The extra file of the archive: inputs and outputs by name, labels, and what the original says of itself."""


def write(exported: Exported, inputs: Inputs, destination: Path) -> Sequence[str]:  # noqa: ARG001 - as all formats
    """Save the program, compressed weights as buffers of few bytes and the operators that make them dense."""
    program = copy.deepcopy(exported.program)
    store(program, exported.forms)
    with patient(destination) as stream:
        torch.export.save(program, stream, extra_files={NAME: json.dumps(described(exported), indent=1)})
    pack(destination)
    return ()


def described(exported: Exported) -> dict[str, Any]:
    """What an app must know that a program does not say."""
    return {
        "inputs": {each.name: _described(exported, each.name) for each in exported.inputs},
        "outputs": list(exported.outputs),
        "states": dict(exported.states),
        "labels": None if exported.labels is None else list(exported.labels),
        "metadata": metadata_of(exported.specification),
    }


def _described(exported: Exported, name: str) -> dict[str, object]:
    feature = exported.features[name]
    if isinstance(feature, ImageFeature):
        return {"levels": "0 to 255, as float32 (1, C, H, W)", "color": feature.color}
    return {"shape": repr(feature)}


def metadata_of(specification: Message) -> dict[str, Any]:
    """Author, licence, version, description and the author's own entries, without those that are empty."""
    own = specification.description.metadata
    found = {
        "author": own.author,
        "license": own.license,
        "version": own.versionString,
        "description": own.shortDescription,
        "user": dict(own.userDefined),
    }
    return {key: value for key, value in found.items() if value}


def engines(exported: Exported, path: Path) -> Sequence[Engine]:
    """torch, on the CPU."""
    module = torch.export.load(path).module()
    states = {name: module.get_buffer(place) for name, place in exported.states.items()}

    def begin() -> None:
        for state in states.values():
            state.zero_()

    def execute(sample: Sample) -> Mapping[str, torch.Tensor]:
        given = [sample.tensors[each.name].to(each.dtype) for each in exported.inputs]
        with torch.no_grad(), same_draws():
            found: Mapping[str, torch.Tensor] = module(*given)
        return {name: value.clone() for name, value in found.items()}

    return (Engine(name=f"torch {torch.__version__}", execute=execute, begin=begin),)
