"""Files of weights: what is read, and what each file that is not weights is called."""

from __future__ import annotations

import argparse
import os
import sys
import warnings
import zipfile
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from builder.errors import SourceError
from builder.model.sources.weights import read_checkpoint, read_state_dict

STATE = {"a.weight": torch.arange(6.0).reshape(2, 3), "a.count": torch.tensor(7)}


def _equal(state: dict[str, torch.Tensor]) -> bool:
    return state.keys() == STATE.keys() and all(torch.equal(state[k], STATE[k]) for k in STATE)


class _Malicious:
    def __reduce__(self) -> tuple[object, ...]:
        return (os.mkdir, ("harm",))


def test_safetensors_and_both_formats_of_torch_save_are_read(tmp_path: Path) -> None:
    save_file(STATE, tmp_path / "s.safetensors")
    torch.save(STATE, tmp_path / "zip.pth")
    torch.save(STATE, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    for name in ("s.safetensors", "zip.pth", "old.pth"):
        assert _equal(read_state_dict(tmp_path / name, trust_pickle=False)), name


def test_a_nested_training_state_is_read_as_it_is(tmp_path: Path) -> None:
    torch.save({"epoch": 3, "model": STATE}, tmp_path / "c.pth")
    assert read_checkpoint(tmp_path / "c.pth", trust_pickle=False)["epoch"] == 3
    with pytest.raises(SourceError, match="names with tensors: epoch is an int") as caught:
        read_state_dict(tmp_path / "c.pth", trust_pickle=False)
    assert caught.value.hint == "write `state_dict_key: model` under source"
    assert _equal(read_state_dict(tmp_path / "c.pth", trust_pickle=False, state_dict_key="model"))


def test_arguments_of_a_training_script_are_data(tmp_path: Path) -> None:
    torch.save({"optimizer": {"state": {}}, "args": argparse.Namespace(lr=0.1), "ema": STATE}, tmp_path / "c.pth")
    assert read_checkpoint(tmp_path / "c.pth", trust_pickle=False)["args"].lr == 0.1
    with pytest.raises(SourceError) as caught:
        read_state_dict(tmp_path / "c.pth", trust_pickle=False)
    assert caught.value.hint == "write `state_dict_key: ema` under source"


@pytest.mark.parametrize(
    ("content", "name"),
    [
        (torch.nn.Linear(2, 2), "torch.nn.modules.linear.Linear"),
        ({"args": argparse.Namespace(a=_Malicious()), **STATE}, "mkdir"),
        (_Malicious(), "mkdir"),
    ],
)
@pytest.mark.parametrize("new_format", [True, False])
def test_what_could_run_code_is_named_and_not_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: object, name: str, new_format: bool
) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save(content, tmp_path / "m.pth", _use_new_zipfile_serialization=new_format)
    with pytest.raises(SourceError, match=name) as caught:
        read_checkpoint(tmp_path / "m.pth", trust_pickle=False)
    assert "trust_pickle: true" in str(caught.value.hint)
    assert not (tmp_path / "harm").exists()


def test_a_trusted_whole_module_is_read(tmp_path: Path) -> None:
    torch.save(torch.nn.Linear(2, 3), tmp_path / "m.pth")
    assert isinstance(read_checkpoint(tmp_path / "m.pth", trust_pickle=True), torch.nn.Linear)
    assert read_state_dict(tmp_path / "m.pth", trust_pickle=True)["weight"].shape == (3, 2)


def test_a_class_that_is_not_found_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "vanishing_module.py").write_text("class Net:\n    pass\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    import vanishing_module  # type: ignore[import-not-found]  # written above

    torch.save(vanishing_module.Net(), tmp_path / "m.pth")
    monkeypatch.delitem(sys.modules, "vanishing_module")
    (tmp_path / "vanishing_module.py").unlink()
    with pytest.raises(SourceError, match="vanishing_module"):
        read_checkpoint(tmp_path / "m.pth", trust_pickle=True)


def _write(path: Path, kind: str) -> None:
    match kind:
        case "empty":
            path.write_bytes(b"")
        case "text":
            path.write_text("these are not weights")
        case "web page":
            path.write_text("<!doctype html><title>Sign in</title>")
        case "git lfs":
            path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n")
        case "zip":
            with zipfile.ZipFile(path, "w") as archive:
                archive.writestr("a/readme.txt", "hello")
        case "torchscript":
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # torch.jit is deprecated, and its files are what is refused here
                torch.jit.trace(torch.nn.Linear(2, 2), torch.zeros(1, 2)).save(str(path))
        case "exported":
            torch.export.save(torch.export.export(torch.nn.Linear(2, 2), (torch.zeros(1, 2),)), path)
        case "cut":
            torch.save(STATE, path)
            path.write_bytes(path.read_bytes()[:-100])
        case "cut old":
            torch.save(STATE, path, _use_new_zipfile_serialization=False)
            path.write_bytes(path.read_bytes()[:60])
        case "garbled":
            torch.save(STATE, path)
            content = bytearray(path.read_bytes())
            start = content.index(b"data.pkl") + 8
            content[start + 60 : start + 120] = bytes(60)
            path.write_bytes(bytes(content))


@pytest.mark.parametrize("trust_pickle", [False, True])
@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("missing", "there is no file"),
        ("empty", "is empty"),
        ("text", "is not a checkpoint"),
        ("web page", "is a web page"),
        ("git lfs", "pointer of Git LFS"),
        ("zip", "that torch.save did not write"),
        ("torchscript", "is a TorchScript archive"),
        ("exported", "is an exported program"),
        ("cut", "is damaged: its end is missing"),
        ("cut old", "is damaged|cannot be read"),
        ("garbled", "is damaged|cannot be read"),
    ],
)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch.export.save warns about its own serialisation
def test_what_is_no_checkpoint_is_named(tmp_path: Path, kind: str, message: str, trust_pickle: bool) -> None:
    path = tmp_path / "file.pth"
    _write(path, kind)
    with pytest.raises(SourceError, match=message):
        read_checkpoint(path, trust_pickle=trust_pickle)


def test_a_damaged_safetensors_file_is_named(tmp_path: Path) -> None:
    save_file(STATE, tmp_path / "s.safetensors")
    whole = (tmp_path / "s.safetensors").read_bytes()
    for content in (whole[:-4], b"garbage" * 9):
        (tmp_path / "d.safetensors").write_bytes(content)
        with pytest.raises(SourceError, match="damaged, or not a safetensors file"):
            read_state_dict(tmp_path / "d.safetensors", trust_pickle=False)


@pytest.mark.parametrize("content", [{}, [1, 2], torch.zeros(2)])
def test_what_is_no_state_dict_is_described(tmp_path: Path, content: object) -> None:
    torch.save(content, tmp_path / "x.pth")
    with pytest.raises(SourceError, match="not a state dict"):
        read_state_dict(tmp_path / "x.pth", trust_pickle=False)
