"""Damaged files: each gives a clear error of ours, without a crash, a hang or a flood of memory."""

from __future__ import annotations

import json
import os
import resource
import shutil
import struct
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from coremltools.converters.mil.mil import Builder as mb  # noqa: N813 - the name that everybody gives it

from coreml_runtime import ModelError, RuntimeFailure, UnsupportedError, load
from coreml_runtime.proto import messages
from tests.runtime.damage import damage
from tests.runtime.programs import save_program

MODEL = Path("Data/com.apple.CoreML/model.mlmodel")
WEIGHTS = Path("Data/com.apple.CoreML/weights/weight.bin")
SEEDS = range(240)
SECONDS, MEGABYTES = 5.0, 200.0
"""A prediction of the sound file takes milliseconds and few megabytes; a busy machine may take its time."""


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    random = np.random.default_rng(0)

    def build(x: Any) -> Any:
        weight = random.standard_normal((8, 3, 3, 3)).astype(np.float32)
        hidden = mb.relu(x=mb.conv(x=x, weight=weight, strides=[2, 2], pad_type="same"))
        hidden = mb.mul(x=hidden, y=mb.reduce_mean(x=hidden, axes=[2, 3], keep_dims=True))
        flat = mb.reshape(x=hidden, shape=[1, -1])
        scores = mb.linear(x=flat, weight=random.standard_normal((10, 512)).astype(np.float32))
        return mb.softmax(x=scores), mb.topk(x=scores, k=3, axis=-1)[1]

    folder = tmp_path_factory.mktemp("sound")
    return save_program(folder, build, {"x": ((1, 3, 16, 16), "fp32")}, precision="fp16")


@pytest.fixture
def package(sound: Path, tmp_path: Path) -> Path:
    """A copy that a test may damage."""
    return Path(shutil.copytree(sound, tmp_path / "model.mlpackage"))


def predict(package: Path) -> None:
    load(package).predict({"x": np.ones((1, 3, 16, 16), np.float32)})


def edit(package: Path, change: Callable[[Any], Any]) -> None:
    """Change the parsed specification in place and write it back."""
    file = package / MODEL
    specification = messages("Model_pb2").Model.FromString(file.read_bytes())
    change(specification)
    file.write_bytes(specification.SerializeToString())


def operations(specification: Any, type_: str) -> list[Any]:
    function = specification.mlProgram.functions["main"]
    block = function.block_specializations[function.opset]
    return [operation for operation in block.operations if operation.type == type_]


def block(specification: Any) -> Any:
    function = specification.mlProgram.functions["main"]
    return function.block_specializations[function.opset]


def test_random_damage_never_escapes_as_a_foreign_error(package: Path) -> None:
    # given: one field changed at a time, by every seed
    sound = (package / MODEL).read_bytes()
    outcomes: dict[str, int] = {}
    for seed in SEEDS:
        specification = messages("Model_pb2").Model.FromString(sound)
        what = damage(specification, seed)
        (package / MODEL).write_bytes(specification.SerializeToString())
        before, started = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.monotonic()

        # when
        try:
            predict(package)
            outcome = "harmless"
        except RuntimeFailure:
            outcome = "refused"
        except Exception as error:
            raise AssertionError(f"seed {seed}, {what}: {error!r}") from error

        # then
        outcomes[outcome] = outcomes.get(outcome, 0) + 1
        assert time.monotonic() - started < SECONDS, what
        assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1e3 < MEGABYTES, what
    assert outcomes["refused"] > len(SEEDS) / 2


@pytest.mark.parametrize("kept", [0, 1, 10, 1000, 0.5, 0.99])
@pytest.mark.parametrize("file", [MODEL, WEIGHTS])
def test_truncated_files(package: Path, file: Path, kept: float) -> None:
    # given
    content = (package / file).read_bytes()
    (package / file).write_bytes(content[: int(kept * len(content)) if isinstance(kept, float) else kept])

    # when, then
    with pytest.raises(ModelError):
        predict(package)


@pytest.mark.parametrize("position", [0, 4, 8, 16])
@pytest.mark.parametrize("value", [0, 3, 2**31, 2**63 - 1, 2**64 - 1])
def test_weight_records_that_lie(package: Path, position: int, value: int) -> None:
    # given: the first record (at 64) with another sentinel, type, size or offset
    content = bytearray((package / WEIGHTS).read_bytes())
    width = "<I" if position < 8 else "<Q"
    struct.pack_into(width, content, 64 + position, value % 2 ** (32 if position < 8 else 64))
    (package / WEIGHTS).write_bytes(content)

    # when, then
    if position == 16 and value in (0, 3):
        predict(package)  # inside the file: wrong numbers, which nothing can tell from right ones
        return
    with pytest.raises(ModelError, match=r"weight\.bin"):
        predict(package)


def test_random_bytes_in_the_weights_only_change_numbers(package: Path) -> None:
    # given
    content = (package / WEIGHTS).read_bytes()
    (package / WEIGHTS).write_bytes(content[:192] + os.urandom(64) + content[256:])

    # when, then: infinities and NaN are numbers too
    predict(package)


def test_all_unknown_operators_are_named_at_once(package: Path) -> None:
    # given
    def rename(specification: Any) -> None:
        operations(specification, "relu")[0].type = "frobnicate"
        operations(specification, "softmax")[0].type = "custom_layer"

    edit(package, rename)

    # when, then
    with pytest.raises(UnsupportedError, match=r"custom_layer.*frobnicate"):
        load(package)


def test_an_unknown_argument_is_named(package: Path) -> None:
    # given
    def add(specification: Any) -> None:
        relu = operations(specification, "relu")[0]
        relu.inputs["slope"].CopyFrom(relu.inputs["x"])

    edit(package, add)

    # when, then
    with pytest.raises(UnsupportedError, match="relu with the argument 'slope'"):
        load(package)


def test_a_cycle_is_a_use_before_definition(package: Path) -> None:
    # given
    def tie(specification: Any) -> None:
        conv, relu = operations(specification, "conv")[0], operations(specification, "relu")[0]
        conv.inputs["x"].arguments[0].name = relu.outputs[0].name

    edit(package, tie)

    # when, then
    with pytest.raises(ModelError, match="not defined before it is used"):
        load(package)


def test_a_name_defined_twice(package: Path) -> None:
    # given
    def repeat(specification: Any) -> None:
        block(specification).operations.append(operations(specification, "relu")[0])

    edit(package, repeat)

    # when, then
    with pytest.raises(ModelError, match="defined twice"):
        load(package)


@pytest.mark.parametrize("sizes", [(2**40,), (2**62, 2**62), (2**31 - 1, 2**31 - 1), (2**20, 2**20)])
@pytest.mark.parametrize("where", ["input", "output", "constant", "description"])
def test_giant_declared_sizes(package: Path, sizes: tuple[int, ...], where: str) -> None:
    # given
    def enlarge(specification: Any) -> None:
        if where == "description":
            specification.description.input[0].type.multiArrayType.shape[:] = [min(size, 2**62) for size in sizes]
            return
        function = specification.mlProgram.functions["main"]
        constant = next(each for each in operations(specification, "const") if "weight" in each.outputs[0].name)
        types = {
            "input": [function.inputs[0].type.tensorType],
            "output": [operations(specification, "relu")[0].outputs[0].type.tensorType],
            "constant": [constant.outputs[0].type.tensorType, constant.attributes["val"].type.tensorType],
        }[where]
        for type_ in types:
            del type_.dimensions[:]
            type_.rank = len(sizes)
            for size in sizes:
                type_.dimensions.add().constant.size = size

    edit(package, enlarge)

    # when, then
    with pytest.raises(ModelError):
        predict(package)


def test_a_program_that_fills_the_memory_is_stopped(tmp_path: Path) -> None:
    # given: sizes that only the prediction reveals
    path = save_program(tmp_path, lambda n: mb.fill(shape=n, value=np.float32(1)), {"n": ((3,), "int32")})
    model = load(path)

    # when, then
    assert model.predict({"n": np.array([1, 2, 3])})["y0"].shape == (1, 2, 3)
    with pytest.raises(RuntimeFailure, match="fill"):
        model.predict({"n": np.array([2**20, 2**10, 2**10])})


@pytest.mark.parametrize(
    "name", ["../../../etc/passwd", "/etc/passwd", "@model_path/../../Manifest.json", "@model_path/", "@model_path/no"]
)
def test_weight_references_stay_inside_the_package(package: Path, name: str) -> None:
    # given
    def redirect(specification: Any) -> None:
        for constant in operations(specification, "const"):
            if constant.attributes["val"].HasField("blobFileValue"):
                constant.attributes["val"].blobFileValue.fileName = name

    edit(package, redirect)

    # when, then
    with pytest.raises(ModelError):
        load(package)


@pytest.mark.parametrize(
    "manifest",
    [
        "",
        "[]",
        "{}",
        "{" * 100_000,
        '{"rootModelIdentifier": "a", "itemInfoEntries": {}}',
        '{"rootModelIdentifier": ["a"], "itemInfoEntries": {"a": 1}}',
        '{"rootModelIdentifier": "a", "itemInfoEntries": {"a": {"path": 3}}}',
        '{"rootModelIdentifier": "a", "itemInfoEntries": {"a": {"path": "../../../../etc/passwd"}}}',
        '{"rootModelIdentifier": "a", "itemInfoEntries": {"a": {"path": "com.apple.CoreML"}}}',
    ],
)
def test_manifests(package: Path, manifest: str) -> None:
    # given
    (package / "Manifest.json").write_text(manifest)

    # when, then
    with pytest.raises(ModelError):
        load(package)


def test_a_link_out_of_the_package_is_not_followed(package: Path, tmp_path: Path) -> None:
    # given
    outside = tmp_path / "weight.bin"
    shutil.move(package / WEIGHTS, outside)
    (package / WEIGHTS).symlink_to(outside)

    # when, then
    with pytest.raises(ModelError, match="leads out of the package"):
        load(package)


@pytest.mark.parametrize("name", ["model.mlmodel", "folder.mlpackage/Manifest.json"])
def test_a_pipe_is_refused_and_not_waited_for(tmp_path: Path, name: str) -> None:
    # given
    file = tmp_path / name
    file.parent.mkdir(exist_ok=True)
    os.mkfifo(file)

    # when, then
    with pytest.raises(ModelError, match="not a regular file"):
        load(tmp_path / name.split("/")[0])


def test_what_is_no_model(tmp_path: Path) -> None:
    # given
    (tmp_path / "text.mlmodel").write_text("this is not a model")
    (tmp_path / "empty.mlmodel").touch()
    (tmp_path / "empty.mlpackage").mkdir()
    (tmp_path / "other.mlpackage").mkdir()
    (tmp_path / "other.mlpackage" / "Manifest.json").write_text(json.dumps({"a": 1}))
    (tmp_path / "compiled.mlmodelc").mkdir()

    for name in ("text.mlmodel", "empty.mlmodel", "empty.mlpackage", "other.mlpackage", "compiled.mlmodelc", "none"):
        # when, then
        with pytest.raises(ModelError, match=name.split(".", maxsplit=1)[0]):
            load(tmp_path / name)


def test_opsets_and_kinds_that_are_unknown(package: Path) -> None:
    # given
    def advance(specification: Any) -> None:
        specification.mlProgram.functions["main"].opset = "CoreML99"

    edit(package, advance)

    # when, then
    with pytest.raises(UnsupportedError, match="CoreML99"):
        load(package)
    edit(package, lambda specification: specification.treeEnsembleRegressor.SetInParent())
    with pytest.raises(UnsupportedError, match="treeEnsembleRegressor"):
        load(package)


def test_an_output_declared_twice_must_be_the_same(package: Path) -> None:
    # given the output declared twice, as of a model that returns one value twice
    edit(package, lambda specification: specification.description.output.append(specification.description.output[0]))
    assert len(load(package).outputs) == 2

    # when the declarations differ, then the file is damaged
    def differ(specification: Any) -> None:
        specification.description.output[-1].type.multiArrayType.shape.append(7)

    edit(package, differ)
    with pytest.raises(ModelError, match="declared twice, and differently"):
        load(package)
