"""The commands that messages give for missing packages are ones that work here."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from builder.util import install


def test_pins_of_a_checkout_and_of_a_wheel_are_named_where_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # given a wheel's package, whose pins are inside, in another folder than the working directory
    package = tmp_path / "site packages" / "builder"
    package.mkdir(parents=True)
    (package / "constraints.txt").write_text("")
    monkeypatch.setattr(install, "_PACKAGE", package)
    assert shlex.split(install.extra("search")) == [
        "pip",
        "install",
        "-c",
        str(package / "constraints.txt"),
        "coreml-builder[search]",
    ]

    # given a checkout, which is the working directory
    (package / "constraints.txt").unlink()
    for name in ("constraints.txt", "pyproject.toml"):
        (package.parent / name).write_text("")
    monkeypatch.chdir(package.parent)
    assert install.extra("search") == "pip install -c constraints.txt -e '.[search]'"

    # given no pins at all, then none are named
    for name in ("constraints.txt", "pyproject.toml"):
        (package.parent / name).unlink()
    assert install.install_command("torch") == "pip install torch"
