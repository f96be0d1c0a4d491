"""The table of replaced names: each exists, is what it was when it was replaced, and is missed as its purpose says."""

from __future__ import annotations

import ast
import inspect
import io
import typing
from dataclasses import replace
from importlib import metadata
from pathlib import Path

import pytest
import torch

import builder
from builder.backends.coreml.importing import import_coremltools
from builder.backends.coreml.patches import apply
from builder.backends.coreml.patches.apply import find_owner, patched, source_digest
from builder.backends.coreml.patches.archives import fast_archives
from builder.backends.coreml.patches.table import PATCHES
from builder.errors import UnfitEnvironmentError

TESTED = {"coremltools": "9.0", "onnxsim": metadata.version("onnxsim"), "torch": metadata.version("torch")}


@pytest.fixture(autouse=True)
def coremltools() -> None:
    import_coremltools()


@pytest.mark.parametrize("target", PATCHES)
def test_what_is_replaced_is_what_it_was(target: str) -> None:
    # given the version that the table was written for
    package = target.partition(".")[0]
    if metadata.version(package) != TESTED[package]:
        pytest.skip(f"the table is for {package} {TESTED[package]}")

    # then its source is the same, or upstream changed what we replace: look at the row's reason
    assert source_digest(target) == PATCHES[target].source, PATCHES[target].reason


def test_every_replaced_name_has_a_row_and_every_row_is_used() -> None:
    # given the names in calls of `patched`, and the pairs that fast_conversion hands to it
    folder = Path(builder.__file__).parent / "backends"
    texts = {file: file.read_text() for file in folder.rglob("*.py") if file.name != "table.py"}
    for target in PATCHES:
        name = target.rpartition(":")[2]
        assert any(name.rpartition(".")[2] in text for text in texts.values()), target

    # and nothing else in the backends sets attributes of coremltools' modules
    for file, text in texts.items():
        calls = [n for n in ast.walk(ast.parse(text)) if isinstance(n, ast.Call) and ast.unparse(n.func) == "setattr"]
        allowed = {"apply.py", "raised.py"}  # raised.py watches torch.Tensor while a model is traced
        assert not calls or file.name in allowed, file


def test_a_name_is_replaced_within_the_block_and_restored_after_an_error() -> None:
    # given a plain function and a static method
    for target in (
        "coremltools.models.model:_load_spec",
        "coremltools.converters.mil.mil.passes.defs.quantization:FP16ComputePrecision.fp16_overflow",
    ):
        owner, name = find_owner(target)
        before = inspect.getattr_static(owner, name)

        # when
        seen = []
        with pytest.raises(ZeroDivisionError), patched(target, lambda original: lambda *_: original):
            _ = seen.append((inspect.getattr_static(owner, name), getattr(owner, name)(1))) or 1 / 0

        # then
        ((replaced, given),) = seen
        assert replaced is not before
        assert callable(given)
        assert inspect.getattr_static(owner, name) is before


@pytest.mark.parametrize("purpose", ["speed", "quiet"])
def test_a_missing_target_of_a_patch_for_speed_costs_speed(purpose: str, monkeypatch: pytest.MonkeyPatch) -> None:
    gone = "coremltools.models.model:_gone"
    row = replace(next(iter(PATCHES.values())), target=gone, purpose=purpose)
    monkeypatch.setattr(apply, "PATCHES", {gone: row})
    with patched(gone, lambda _: pytest.fail("there is nothing to replace")):
        pass


@pytest.mark.parametrize("purpose", ["correctness", "determinism"])
def test_a_missing_target_of_a_patch_for_correctness_says_what_to_install(
    purpose: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = "coremltools.gone:Class.method"
    row = replace(next(iter(PATCHES.values())), target=gone, purpose=purpose, reason="multiplies wrongly")
    monkeypatch.setattr(apply, "PATCHES", {gone: row})
    said = r"coremltools 9\S* has no coremltools\.gone"
    with pytest.raises(UnfitEnvironmentError, match=said) as caught, patched(gone, lambda original: original):
        pytest.fail("the build must not go on")
    assert "pip install" in (caught.value.hint or "")
    assert caught.value.exit_code == 7


@pytest.mark.filterwarnings("ignore::FutureWarning")  # torch's own use of what it deprecates
def test_archives_are_read_the_same_with_types_of_a_class_looked_up_once(monkeypatch: pytest.MonkeyPatch) -> None:
    # given a program, and who asks for the types of a class
    program = torch.export.export(torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.ReLU()), (torch.rand(2, 3),))
    asked: list[object] = []
    original = typing.get_type_hints
    monkeypatch.setattr(typing, "get_type_hints", lambda of, **named: asked.append(of) or original(of, **named))

    # when it is read by torch alone, and faster
    file = io.BytesIO()
    torch.export.save(program, file)
    expected = torch.export.load(io.BytesIO(file.getvalue()))
    usual, asked[:] = list(asked), []
    with fast_archives():
        found = torch.export.load(io.BytesIO(file.getvalue()))

    # then it is the same
    assert str(found.graph) == str(expected.graph)
    assert str(found.graph_signature) == str(expected.graph_signature)
    assert len(asked) == len(set(asked)) < len(usual) / 3
