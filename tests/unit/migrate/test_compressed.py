"""Compressed weights stay compressed in every format that can hold them: the same values, hardly more bytes."""

from __future__ import annotations

import warnings
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import coremltools as ct
import pytest
import torch

from builder.backends.coreai.installed import is_installed
from builder.migrate.migrate import migrate, size_of
from builder.migrate.pt2_archive import pack
from builder.migrate.targets import target_named
from tests.runtime.programs import save_program
from tests.runtime.test_export_storage import VARIANTS, compressed, network

# coremltools leaves its temporary folders to the collector
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")

FORMATS = [
    "pt2",
    pytest.param("onnx", marks=pytest.mark.skipif(find_spec("onnxscript") is None, reason="needs onnxscript")),
    pytest.param("aimodel", marks=pytest.mark.skipif(not is_installed(), reason="Core AI is not installed")),
]
QUICK = ("int4_blocks", "lut4_groups", "sparse_lut")
"""One of each kind; the others are slow, since Core AI converts in a process of its own."""
ALL = [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in VARIANTS]


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The network in half precision, by coremltools."""
    path = save_program(
        tmp_path_factory.mktemp("plain"), network, {"x": ((1, 16, 8, 8), "fp32")}, precision="fp16", opset="ios18"
    )
    return ct.models.MLModel(str(path), skip_model_load=True)


@pytest.mark.parametrize("variant", ALL)
@pytest.mark.parametrize("to", FORMATS)
def test_compressed_weights_stay_compressed(plain: Any, variant: str, to: str, tmp_path: Path) -> None:
    # given
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        file = compressed(plain, variant, tmp_path)

    # when: the proof compares both ends
    done = migrate(file, target_named(to), tmp_path / f"m.{to}")

    # then: as half numbers they would be 51 kB
    assert not [note for note in done.warnings if "plain" in note]
    assert _held(done.path, to) < 1.1 * _held(file, "mlpackage")
    if to == "pt2":
        assert size_of(done.path) < 1.2 * size_of(file)


def _held(path: Path, to: str) -> int:
    """Bytes of weights, without what the format needs for a graph of this size."""
    if to == "mlpackage":
        return sum(each.stat().st_size for each in path.rglob("*.bin"))
    if to == "pt2":
        return sum(value.nbytes for value in torch.export.load(path).state_dict.values())
    return size_of(path) - {"onnx": 12_000, "aimodel": 5_000}[to]


def test_the_text_of_a_pt2_is_packed_and_its_weights_can_be_mapped(tmp_path: Path) -> None:
    # given a program with many small operators
    class Net(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = torch.nn.ModuleList([torch.nn.Linear(5, 5) for _ in range(20)])

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            for layer in self.layers:
                x = layer(x).relu() + 1
            return x

    program = torch.export.export(Net().eval(), (torch.ones(1, 5),))
    files = [tmp_path / name / "m.pt2" for name in ("one", "two")]
    for file in files:
        file.parent.mkdir()
        torch.export.save(program, file, extra_files={"note": "kept"})
    before = size_of(files[0])

    # when
    for file in files:
        pack(file)

    # then
    note = {"note": ""}
    loaded = torch.export.load(files[0], extra_files=note)
    assert note["note"] == "kept"
    for name, value in program.state_dict.items():
        assert torch.equal(loaded.state_dict[name], value)
    assert size_of(files[0]) < before / 2
    assert files[0].read_bytes() == files[1].read_bytes()
    assert list(files[0].parent.iterdir()) == files[:1]
    content = files[0].read_bytes()
    weights = [value.detach().numpy().tobytes() for value in program.state_dict.values()]
    assert all(content.find(each) % 64 == 0 for each in weights)
