"""A small project in a git repository, and a release of it that is made once for all tests."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from tests import warm

REPOSITORY = Path(__file__).parents[3]

FILES = {
    "net.py": """
import torch
from widths import WIDTH


def make():
    return torch.nn.Sequential(
        torch.nn.Conv2d(3, WIDTH, 3), torch.nn.ReLU(), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(),
        torch.nn.Linear(WIDTH, 3),
    )
""",
    "unsteady.py": """
import os

import torch


def make():
    layer = torch.nn.Linear(16, 64)
    layer.weight.data = torch.frombuffer(bytearray(os.urandom(1024)), dtype=torch.uint8).reshape(64, 16) / 256
    return layer
""",
    "widths.py": "WIDTH = 4\n",
    "labels.txt": "ant\nbee\ncat\n",
    ".gitignore": "outputs/\n__pycache__/\n*.local\n",
    "recipes/tiny.yaml": """
# A small network with labels.
schema: 1
defaults:
  - source: python
  - precision: fp16
  - target: ios16
  - checks: none
  - tracking: none
source:
  factory: net:make
input:
  image: {kind: image, shape: [1, 3, 32, 32], mean: 0.5, std: 0.5}
classifier:
  labels: labels.txt
checks:
  structure: {kind: structure}
  parity: {kind: parity, samples: 1}
metadata:
  author: tests
  license: Apache-2.0
""",
    "recipes/unsteady.yaml": """
# A network whose weights differ from build to build.
schema: 1
defaults:
  - source: python
  - precision: fp32
  - target: ios16
  - checks: none
  - tracking: none
source:
  factory: unsteady:make
input:
  x: {kind: tensor, shape: [1, 16], dtype: float32}
""",
}


def make_project(folder: Path) -> Path:
    """Write and commit the project."""
    for name, text in FILES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    git(folder, "init", "-q", "-b", "main")
    commit(folder)
    return folder


def git(folder: Path, *arguments: str) -> None:
    identity = ["-c", "user.name=tests", "-c", "user.email=tests@localhost", "-c", "commit.gpgsign=false"]
    subprocess.run(["git", *identity, *arguments], cwd=folder, check=True, capture_output=True)


def commit(folder: Path) -> None:
    git(folder, "add", "-A")
    git(folder, "commit", "-q", "-m", "state")


def builder(folder: Path, *arguments: str, cache: Path) -> subprocess.CompletedProcess[str]:
    """Run the command line in `folder`."""
    return subprocess.run(
        [warm.python(), "-m", "builder", *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY), "BUILDER_CACHE": str(cache), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )


def write_keys(folder: Path) -> tuple[Path, Path]:
    """A new EC key: the private and the public file."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    private, public = folder / "key.pem", folder / "public.pem"
    encoding, plain = serialization.Encoding.PEM, serialization.NoEncryption()
    private.write_bytes(key.private_bytes(encoding, serialization.PrivateFormat.PKCS8, plain))
    public.write_bytes(key.public_key().public_bytes(encoding, serialization.PublicFormat.SubjectPublicKeyInfo))
    return private, public


def signed_release(base: Path) -> Path:
    """The folder `base/signed_release` with `project/`, `release/` and keys; made by the first who asks."""
    room = base / "signed_release"
    if not room.exists():
        room.mkdir()
        project = make_project(room / "project")
        private, _ = write_keys(room)
        for arguments in (
            ("lock", "recipe=tiny"),
            ("release", "recipe=tiny", f"release.sign_key={private}", "--output", "../release"),
        ):
            done = builder(project, *arguments, cache=room / "cache")
            assert done.returncode == 0, done.stderr
            commit(project) if arguments[0] == "lock" else None
    return room
