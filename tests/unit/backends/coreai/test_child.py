"""The child process: what goes wrong in it is a clear error here, and the next call works."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from builder.backends.coreai import engine
from builder.backends.coreai.child import Child, ChildError, call


def test_a_wrong_shape_is_an_error(converted: Any) -> None:
    with pytest.raises(ChildError, match="image has an invalid shape"):
        engine.predict(converted(False)[0], [{"image": np.zeros((1, 4, 8, 9), np.float32)}])


def test_a_file_that_aborts_the_library_is_an_error(small: Any, converted: Any, tmp_path: Path) -> None:
    asset, _ = converted(False)
    damaged = tmp_path / "d.aimodel"
    shutil.copytree(asset, damaged)
    program = bytearray((damaged / "main.mlirb").read_bytes())
    program[300:400] = b"x" * 100
    (damaged / "main.mlirb").write_bytes(program)
    with pytest.raises(ChildError, match="ended its process"):
        engine.predict(damaged, [{"image": small[1].numpy()}])
    # and the next call works
    assert len(engine.predict(asset, [{"image": small[1].numpy()}])[0]) == 1


def test_a_call_that_takes_too_long_is_stopped(converted: Any, small: Any) -> None:
    with pytest.raises(ChildError, match=r"did not end within 0\.001 s"):
        engine.predict(converted(False)[0], [{"image": small[1].numpy()}] * 2000, seconds=0.001)


def test_a_process_that_is_closed_leaves_no_file(
    converted: Any, small: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # given a process in which Apple's library has unpacked an asset
    asset = str(converted(False)[0].absolute())
    room = tmp_path / "temporary"
    room.mkdir()
    monkeypatch.setenv("TMPDIR", str(room))
    child = Child()
    child.call("engine:run", (asset, [{"image": small[1].numpy()}], {}, "main"), {}, 60)
    assert list(room.glob("*.aimodelx"))
    # when the command that started it ends
    child.close()
    # then it has ended, and the unpacked asset is gone
    assert not child.is_alive()
    assert not list(room.glob("*.aimodelx"))


def test_a_function_that_does_not_exist_is_named() -> None:
    with pytest.raises(ChildError, match="nothing_such") as raised:
        call("engine:nothing_such", seconds=60)
    assert raised.value.kind == "AttributeError"
