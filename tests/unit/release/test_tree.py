"""A clean tree is what a commit holds; what is not, is named."""

from __future__ import annotations

from pathlib import Path

import pytest

from builder.errors import VerificationError
from builder.release.tree import clean_tree, require_tracked
from tests.unit.release.project import git


def test_a_committed_tree_is_clean(project: Path) -> None:
    # given a committed project with ignored files, when it is looked at, then it is clean and has its commit
    (project / "notes.local").write_text("ignored")
    tree = clean_tree(project, besides=[])
    assert tree.root == project.resolve()
    assert len(tree.commit) == 40


def test_every_kind_of_change_is_named(project: Path) -> None:
    # given a changed, a deleted, a renamed, a staged and an untracked file
    (project / "net.py").write_text("changed")
    (project / "unsteady.py").unlink()
    git(project, "mv", "labels.txt", "names.txt")
    (project / "staged.py").write_text("")
    git(project, "add", "staged.py")
    (project / "further").mkdir()
    (project / "further" / "stray file.txt").write_text("")
    # when the tree is looked at
    with pytest.raises(VerificationError) as refused:
        clean_tree(project, besides=[])
    # then each is named
    for name in ("net.py", "unsteady.py", "names.txt", "staged.py", "further/stray file.txt (untracked)"):
        assert name in refused.value.message
    assert refused.value.exit_code == 6


def test_folders_for_outputs_do_not_count(project: Path) -> None:
    # given an untracked file in a folder for outputs, when that folder is left out, then the tree is clean
    (project / "made").mkdir()
    (project / "made" / "artifact").write_text("")
    clean_tree(project, besides=[project / "made"])
    with pytest.raises(VerificationError, match="made/artifact"):
        clean_tree(project, besides=[])


def test_code_that_git_ignores_is_refused(project: Path) -> None:
    # given a clean tree, when the build read a file that no clone would have, then it is named
    tree = clean_tree(project, besides=[])
    require_tracked(tree, ["net.py"])
    with pytest.raises(VerificationError, match=r"hidden\.local"):
        require_tracked(tree, ["net.py", "hidden.local"])


def test_a_release_needs_a_repository_and_a_commit(tmp_path: Path) -> None:
    # given a folder outside of any repository, and a repository without a commit, then both are refused
    with pytest.raises(VerificationError, match="needs a git repository"):
        clean_tree(tmp_path, besides=[])
    git(tmp_path, "init", "-q")
    with pytest.raises(VerificationError, match="needs a commit"):
        clean_tree(tmp_path, besides=[])
