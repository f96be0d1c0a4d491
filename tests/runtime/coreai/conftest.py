"""What the tests of Core AI share: assets written and run by Apple's packages, once."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

_ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="session")
def computed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Assets of all cases and programs, and what Apple's interpreter makes of them.

    In a new process, because the interpreter hangs after a fork. Skips where coreai-core is missing.
    """
    pytest.importorskip("coreai", reason="coreai-core is not installed: there is no interpreter to compare with")
    folder = tmp_path_factory.mktemp("coreai")
    command = [sys.executable, "-m", "tests.runtime.coreai.apple", str(folder)]
    done = subprocess.run(command, cwd=_ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-300:]
    return folder
