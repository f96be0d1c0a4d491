"""Which commit of the user's project a build was made from."""

from __future__ import annotations

import subprocess
from typing import TypedDict


class GitState(TypedDict, total=False):
    """Of the user's project; empty outside a repository."""

    commit: str
    dirty: bool


def git_state() -> GitState:
    """The commit of the working directory and whether it has uncommitted changes; empty outside a repository."""
    commit = _git("rev-parse", "HEAD")
    if commit is None:
        return {}
    return {"commit": commit, "dirty": bool(_git("status", "--porcelain", "--untracked-files=no"))}


def _git(*arguments: str) -> str | None:
    try:
        done = subprocess.run(["git", *arguments], capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
