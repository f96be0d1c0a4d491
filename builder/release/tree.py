"""Whether the git tree is clean: what is released must be what a commit holds."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from builder.errors import VerificationError

_SHOWN = 10
"""So many files a refusal names."""


@dataclass(frozen=True, kw_only=True)
class Tree:
    """A commit that the files on disk are equal to."""

    root: Path
    commit: str
    remote: str | None


def project_root(folder: Path) -> Path:
    """The top of the git repository around `folder`; `folder` itself outside of one."""
    found = _git(folder, "rev-parse", "--show-toplevel")
    return Path(found) if found else folder.absolute()


def clean_tree(folder: Path, *, besides: Iterable[Path]) -> Tree:
    """Return the tree around `folder`; raises VerificationError, naming files, unless it is equal to its commit.

    Files below the folders in `besides`, which hold outputs, do not count.
    """
    root = _git(folder, "rev-parse", "--show-toplevel")
    if not root:
        raise VerificationError(
            "a release needs a git repository, and the working directory is in none",
            code="B0601",
            hint="run `git init`, commit the recipe and what it reads, and release again",
        )
    commit = _git(folder, "rev-parse", "--verify", "HEAD")
    if not commit:
        raise VerificationError(
            "a release needs a commit, and this git repository has none", code="B0601", hint="commit first"
        )
    ignored = [path.absolute().resolve() for path in besides]
    changes = [
        (state, name)
        for state, name in _status(Path(root))
        if not any((Path(root) / name).resolve().is_relative_to(path) for path in ignored)
    ]
    if changes:
        message = ", ".join(f"{name} ({_WORDS.get(state, 'changed')})" for state, name in changes[:_SHOWN])
        more = f", and {len(changes) - _SHOWN} more" if len(changes) > _SHOWN else ""
        raise VerificationError(
            f"the git tree is not clean: {message}{more}",
            code="B0601",
            hint="commit, ignore or remove these files: a release is made of what a commit holds",
        )
    return Tree(root=Path(root), commit=commit, remote=_git(folder, "remote", "get-url", "origin") or None)


def require_tracked(tree: Tree, names: Iterable[str]) -> None:
    """Raise VerificationError unless git tracks each of `names` (relative to the root), so that a clone has them."""
    tracked = set((_git(tree.root, "ls-files", "-z") or "").split("\0"))
    missing = sorted(name for name in names if name not in tracked)
    if missing:
        raise VerificationError(
            f"the build reads what git does not track: {', '.join(missing)}",
            code="B0602",
            hint="commit these files: they may be ignored by .gitignore, so that `git status` does not show them",
        )


_WORDS = {"??": "untracked", " D": "deleted", "D ": "deleted", "A ": "added, not committed"}


def _status(root: Path) -> list[tuple[str, str]]:
    """Two letters of state and the name, for every file that differs from the commit."""
    answer = _git(root, "status", "--porcelain", "-z", "--untracked-files=all")
    if answer is None:
        raise VerificationError(
            f"git cannot say whether {root} is clean", code="B0601", hint="see what `git status` says there"
        )
    entries = answer.split("\0")
    found = []
    skip = False
    for entry in entries:
        if skip or not entry:
            skip = False
            continue
        found.append((entry[:2], entry[3:]))
        skip = entry[0] in "RC"  # the name that it had follows
    return found


def _git(folder: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(["git", *arguments], cwd=folder, capture_output=True, timeout=60, check=False)
    except (OSError, ValueError, subprocess.TimeoutExpired):
        return None
    return os.fsdecode(done.stdout).rstrip("\n") if done.returncode == 0 else None  # names may be of any bytes
