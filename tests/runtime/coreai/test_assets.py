"""Reading assets: what they say of themselves, what is refused by name, and damage, which ends in a clear error.

The sample lies beside the tests, written by coreai-core 1.0.0b3 from `programs.SAMPLE`: nothing of Apple's is needed.
"""

from __future__ import annotations

import hashlib
import json
import random
import shutil
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import torch

from coreml_runtime import InputError, ModelError, RuntimeFailure, UnsupportedError, load
from coreml_runtime.coreai.asset import open_asset
from coreml_runtime.coreai.bytecode import Container, RawBlock
from coreml_runtime.coreai.description import describe_asset
from coreml_runtime.coreai.dialect import Decoder
from coreml_runtime.coreai.ops import operators
from coreml_runtime.coreai.translate import translate
from coreml_runtime.executor import Step
from coreml_runtime.observed import run_observed
from tests.runtime.coreai.comparing import assert_close
from tests.runtime.coreai.programs import SAMPLE

DATA = Path(__file__).parent / "data"
PROGRAM, DIGEST, METADATA = "main.mlirb", "main.hash", "metadata.json"
POSITIONS = 100
SECONDS = 5.0
"""A prediction of the sound file takes milliseconds; a busy machine may take its time."""


@pytest.fixture
def sample(tmp_path: Path) -> Path:
    """A copy that a test may damage."""
    return Path(shutil.copytree(DATA / "sample.aimodel", tmp_path / "sample.aimodel"))


def run(path: Path) -> None:
    """Load and predict with each function."""
    for function in ("main", "twice"):
        model = load(path, function=function)
        inputs = {
            name: np.zeros(getattr(feature, "shape", ()), bool if name == "flag" else np.float32)
            for name, feature in model.inputs.items()
        }
        model.predict(inputs, state=model.make_state() if model.states else None)


def test_the_sample_computes_what_apples_interpreter_computed() -> None:
    model = load(DATA / "sample.aimodel", function="main")
    expected, state = np.load(DATA / "sample.npz"), model.make_state()

    for place, (_, inputs) in enumerate(SAMPLE.calls):
        scores = model.predict(inputs, state=state)["scores"]

        assert_close(scores, expected[f"{place}.scores"], ulps=4, context=f"call {place}")
        assert_close(state.read_state("total"), expected[f"{place}.state.total"], ulps=4, context=f"state {place}")


def test_an_asset_describes_itself() -> None:
    found = describe_asset(DATA / "sample.aimodel")

    assert list(found.functions) == ["main", "twice"]
    assert repr(found.functions["main"].inputs) == "{'image': <fp16 array (1, 3, 8, 8)>, 'flag': <bool array ()>}"
    assert repr(found.functions["twice"].inputs) == "{'x': <fp32 array (1 or more, 2)>}"
    assert list(found.functions["main"].states) == ["total"]
    assert found.private == ("scaled_abc",)
    assert found.operators["conv2d"] == found.operators["blockwise_shift_scale"] == found.operators["if"] == 1
    assert found.storage["uint4"] == 8 * 4 + 4
    weight = next(each for each in found.constants if each.dtype == "fp16" and len(each.shape) == 4)
    assert (weight.shape, weight.bytes, weight.used_by) == ((8, 3, 3, 3), 432, ("conv2d",))
    codes = next(each for each in found.constants if each.dtype == "uint4" and each.shape == (8, 4))
    assert (codes.bytes, codes.used_by) == (16, ("batch_matmul", "blockwise_shift_scale"))
    assert found.metadata["producer"] == "coreai-core 1.0.0b3"


def test_a_function_has_to_be_chosen_where_there_are_several_and_no_main(sample: Path) -> None:
    assert load(sample).function == "main"
    with pytest.raises(InputError, match="no function 'absent'; the model has main, twice"):
        load(sample, function="absent")


def test_inputs_are_checked() -> None:
    model = load(DATA / "sample.aimodel", function="twice")

    assert model.predict({"x": np.ones((3, 2))})["y"].shape == (3, 2)
    with pytest.raises(InputError, match=r"the shape is \(3, 4\), the model expects \(1 or more, 2\)"):
        model.predict({"x": np.ones((3, 4))})


def test_an_observer_sees_every_value_and_may_change_it() -> None:
    model = load(DATA / "sample.aimodel", function="twice")
    seen = []

    def observe(step: Step | None, name: str, value: torch.Tensor) -> torch.Tensor | None:
        seen.append((step.type if step else "input", name))
        return value + 1 if step is not None and step.type == "add" else None

    outputs = run_observed(model, {"x": np.ones((1, 2))}, observe)

    assert seen == [("input", "x"), ("add", "add"), ("identity", "output y")]
    assert outputs["y"].tolist() == [[3, 3]]


def test_operators_that_the_runtime_lacks_are_all_named_before_anything_runs() -> None:
    program = open_asset(DATA / "sample.aimodel").program
    kernels = {name: kernel for name, kernel in operators().items() if name not in ("conv2d", "add", "relu")}

    with pytest.raises(UnsupportedError, match=r"operators that this runtime lacks: add \(2 times\), conv2d, relu"):
        translate(program, program.graphs["main"], kernels)


def test_a_program_that_is_not_the_one_its_digest_was_made_of_is_refused(sample: Path) -> None:
    (sample / DIGEST).write_bytes(bytes(32))
    with pytest.raises(ModelError, match="one of them was changed"):
        load(sample)

    (sample / DIGEST).unlink()
    assert load(sample).function == "main"


@pytest.mark.parametrize("name", [PROGRAM, DIGEST, METADATA])
def test_damage_ends_in_an_error_of_ours(name: str, sample: Path) -> None:
    sound = (sample / name).read_bytes()
    chance = random.Random(name)
    for position in sorted(chance.sample(range(len(sound)), min(POSITIONS, len(sound)))):
        (sample / name).write_bytes(sound[:position] + bytes([sound[position] ^ 0x5A]) + sound[position + 1 :])
        try:
            run(sample)
        except RuntimeFailure:
            continue
        assert name == METADATA, f"byte {position} of {name} was changed and nobody saw it"


def _resealed(folder: Path, content: bytes) -> None:
    """Write a program with the digest that belongs to it."""
    (folder / PROGRAM).write_bytes(content)
    (folder / DIGEST).write_bytes(hashlib.sha256(content).digest())


@pytest.mark.parametrize("seed", range(4))
def test_damage_that_the_digest_covers_neither_hangs_nor_raises_anything_else(seed: int, sample: Path) -> None:
    sound = (sample / PROGRAM).read_bytes()
    chance = random.Random(seed)
    for _ in range(POSITIONS):
        position = chance.randrange(len(sound))
        width = chance.choice([1, 1, 2, 8])
        _resealed(sample, sound[:position] + chance.randbytes(width) + sound[position + width :])
        started = time.perf_counter()
        with suppress(RuntimeFailure):
            run(sample)
        assert time.perf_counter() - started < SECONDS, f"{width} bytes at {position}"


@pytest.mark.parametrize("seed", range(2))
def test_a_program_that_breaks_off_is_refused(seed: int, sample: Path) -> None:
    sound = (sample / PROGRAM).read_bytes()
    for size in sorted(random.Random(seed).sample(range(len(sound)), 50)):
        _resealed(sample, sound[:size])
        with pytest.raises(RuntimeFailure):
            run(sample)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (METADATA, b"{", "unreadable"),
        (METADATA, b"[]", "not an object"),
        (METADATA, json.dumps({"assetVersion": "3.0"}).encode(), "version is '3.0'; version 2 is read"),
        (PROGRAM, b"", "announced"),
        (PROGRAM, b"ML\xefR\x0f", "version 7; versions 5 to 6 are read"),
    ],
)
def test_what_is_wrong_is_named(name: str, content: bytes, message: str, sample: Path) -> None:
    if name == PROGRAM:
        _resealed(sample, content)
    else:
        (sample / name).write_bytes(content)
    with pytest.raises(RuntimeFailure, match=message):
        load(sample)


def test_what_is_no_asset_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no such file"):
        load(tmp_path / "absent.aimodel")
    (tmp_path / "file.aimodel").write_bytes(b"x")
    with pytest.raises(ModelError, match="is not a folder"):
        load(tmp_path / "file.aimodel")
    (tmp_path / "empty.aimodel").mkdir()
    with pytest.raises(ModelError, match=r"no main\.mlirb"):
        load(tmp_path / "empty.aimodel")


def test_an_integer_is_read_with_its_signedness_in_one_byte() -> None:
    for signedness in (0, 1, 2):
        data = bytes([2 << 1 | 1, 64 << 1 | 1, signedness, 4 << 1 | 1, 0])  # kind 2, 64 bits, and 2 as zigzag has it
        container = Container(
            data=data, producer="", strings=(), dialect_version=None, types=(), attributes=((0, 4),), resources=(),
            root=RawBlock(arguments=(), operations=()),
        )  # fmt: skip
        assert Decoder(container).attribute(0) == 2
