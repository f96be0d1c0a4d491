"""Weights are in memory once: what is prepared, captured and read back lies where the loaded model lies."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pytest
import torch

from builder.artifacts.stages import LoadedModel
from builder.data import make_examples
from builder.model.capture.archive import archived
from builder.stages.capture import capture
from builder.stages.prepare import prepare
from tests.unit.stages.small_builds import TENSOR, Convolutions, make_spec


def _places(tensors: Iterable[torch.Tensor]) -> set[int]:
    return {tensor.data_ptr() for tensor in tensors}


def test_a_captured_program_lies_on_the_loaded_weights(tmp_path: Path) -> None:
    # given a model that nothing rewrites
    spec = make_spec(input={"x": TENSOR})
    examples = make_examples(spec)
    module = Convolutions().eval()
    # when it is prepared, captured and read back from its archive
    prepared = prepare(LoadedModel(module=module, digest="0" * 64, origin={}), examples, spec)
    read = archived(capture(prepared, examples, "trace", {}), tmp_path / "program")
    # then no parameter was copied, but buffers were, since running a module may change them
    assert read is not None
    weights = _places(module.parameters())
    assert _places(prepared.module.parameters()) == _places(read.program.parameters()) == weights
    assert not _places(module.buffers()) & _places(prepared.module.buffers())
    assert not _places(prepared.module.buffers()) & _places(read.program.buffers())
    # and it computes the same
    x = examples.samples[0].tensors["x"]
    torch.testing.assert_close(read.run(x)[0], module(x))


@pytest.mark.parametrize("kind", ["batch_norm_folding"])
def test_a_model_that_is_rewritten_is_a_copy(kind: str) -> None:
    spec = make_spec(input={"x": TENSOR}, substitutions={kind: None})
    module = Convolutions().eval()
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    prepared = prepare(LoadedModel(module=module, digest="0" * 64, origin={}), make_examples(spec), spec)
    assert not _places(module.parameters()) & _places(prepared.module.parameters())
    assert all(torch.equal(tensor, before[name]) for name, tensor in module.state_dict().items())
