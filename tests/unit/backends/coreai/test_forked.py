"""The process that holds Core AI as a fork: the same bytes as of a fresh process, and it holds nothing else."""

from __future__ import annotations

import fcntl
import hashlib
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import IO, Any

import numpy as np
import pytest
import torch

from builder.backends.coreai import forked
from builder.backends.coreai.conversion import Declared, Halves, convert
from builder.backends.coreai.forked import Forked, can_fork
from builder.backends.coreai.sealing import Metadata, seal
from tests.unit.backends.coreai.conftest import export

_CODE = """
import sys
from pathlib import Path
import numpy, torch
program, folder, x = torch.export.load(sys.argv[1]), Path(sys.argv[2]), numpy.load(sys.argv[3])
from builder.backends.coreai import child, engine
from builder.backends.coreai.conversion import Declared, Halves, convert
declared = Declared(inputs={"image": "float32"}, outputs={"logits": "float32"})
for again in ("first", "second"):  # torch counts what it has traced; the fork goes on with the count
    convert(program, folder / f"{again}.aimodel", declared, Halves())
    (running,) = child._CHILDREN.values()
    assert type(running._process).__name__ == "Forked"
((found,), _) = engine.predict(folder / "second.aimodel", [{"image": x.astype(numpy.float32)}])
assert found["logits"].shape == (1, 40)
child.end()
assert not list(Path(sys.argv[2]).glob("*.aimodelx"))
"""


def test_a_fork_converts_to_the_same_bytes_and_runs_them(small: Any, tmp_path: Path) -> None:
    # given a program, which this process, that has loaded coreai, converts in a fresh one
    program = export(small[0], (small[1],))
    torch.export.save(program, tmp_path / "program.pt2")
    np.save(tmp_path / "x.npy", small[1].numpy())
    assert not can_fork()
    declared = Declared(inputs={"image": "float32"}, outputs={"logits": "float32"})
    convert(program, tmp_path / "spawned.aimodel", declared, Halves())
    # when a process that has not converts it in forks
    arguments = [str(tmp_path / "program.pt2"), str(tmp_path), str(tmp_path / "x.npy")]
    environment = os.environ | {"TMPDIR": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", _CODE, *arguments], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    # then the programs are the same, before they are sealed too, but for names that Apple's library makes up
    (tmp_path / "sealed").mkdir()
    digests = set()
    for name in ("spawned", "first", "second"):
        seal({"": tmp_path / f"{name}.aimodel"}, tmp_path / "sealed" / f"{name}.aimodel", Metadata())
        content = (tmp_path / "sealed" / f"{name}.aimodel" / "main.mlirb").read_bytes()
        digests.add(hashlib.sha256(content).hexdigest())
    assert len(digests) == 1


def _repeat(questions: IO[bytes], answers: IO[bytes]) -> None:
    answers.write(b"ready")
    answers.flush()
    print(questions.read(), file=sys.stderr)


def test_a_fork_lets_go_of_its_parents_locks(tmp_path: Path) -> None:
    # given a lock that this process holds while a fork is made
    held = os.open(tmp_path / "lock", os.O_CREAT | os.O_RDWR)
    fcntl.flock(held, fcntl.LOCK_EX)
    with (tmp_path / "errors").open("w+b") as errors:
        process = Forked(_repeat, errors.fileno())
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.read(5) == b"ready"
        # when the parent lets go by closing it
        os.close(held)
        other = os.open(tmp_path / "lock", os.O_RDWR)
        # then another can have it while the fork runs
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.close(other)
        assert process.poll() is None
        # and the fork ends with its parent's end of the pipe; what it printed is in the file of errors
        process.stdin.write(b"asked")
        process.stdin.close()
        process.stdout.close()
        assert process.wait(30) == 0
        errors.seek(0)
        assert errors.read() == b"b'asked'\n"


def test_a_fork_that_hangs_can_be_ended(tmp_path: Path) -> None:
    with (tmp_path / "errors").open("w+b") as errors:
        process = Forked(lambda *_: threading.Event().wait(), errors.fileno())
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.05)
        process.kill()
        assert process.wait() == -9
        for stream in (process.stdin, process.stdout):
            assert stream is not None
            stream.close()


def test_only_a_process_with_one_thread_is_forked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forked.sys, "platform", "linux")
    monkeypatch.delitem(sys.modules, "coreai")
    monkeypatch.setattr(forked.threading, "active_count", lambda: 1)
    assert can_fork()
    monkeypatch.setattr(forked.threading, "active_count", lambda: 2)
    assert not can_fork()
    monkeypatch.setattr(forked.threading, "active_count", lambda: 1)
    monkeypatch.setattr(forked.sys, "platform", "darwin")
    assert not can_fork()
