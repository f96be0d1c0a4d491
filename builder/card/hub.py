"""Pushes an artifact, its card and its release to the Hugging Face Hub: in one commit, or not at all."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from builder.errors import ConfigurationError, UnfitEnvironmentError
from builder.util.redact import redacted

_ADDRESS = re.compile(r"hf://([\w.-]{1,96}/[\w.-]{1,96})", re.ASCII)
_TOKENS = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN")
_HINT = "`hf auth login`, or HF_TOKEN with the right to write; HF_ENDPOINT names another hub"


def read_address(text: str) -> str:
    """The repository that `hf://org/name` means. Raises ConfigurationError."""
    found = _ADDRESS.fullmatch(text)
    if found is None or any(part.strip(".-") != part or ".." in part or "--" in part for part in found[1].split("/")):
        raise ConfigurationError(f"`{text}` is not a repository of the Hub", code="B0227", hint="write hf://org/name")
    return found[1]


@dataclass(frozen=True, kw_only=True)
class Published:
    """What the Hub answered."""

    repository: str
    revision: str
    """The commit that has all of it."""
    url: str


def publish(repository: str, files: Mapping[str, Path | bytes], message: str, *, private: bool) -> Published:
    """Make one commit in which the repository has these files, by path; others of ours from before are gone.

    A repository that is not there is made, empty. Raises UnfitEnvironmentError where the Hub does not take it: then the
    repository is as it was.
    """
    try:
        import huggingface_hub
        from huggingface_hub.errors import HfHubHTTPError
    except ImportError as error:
        raise UnfitEnvironmentError(
            f"huggingface_hub is not installed: {error}", code="B0711", hint="pip install 'coreml-builder[publish]'"
        ) from error
    api = huggingface_hub.HfApi(endpoint=os.environ.get("HF_ENDPOINT") or None)
    try:
        api.create_repo(repository, exist_ok=True, private=private)
        now = api.repo_info(repository).sha
        there = set(api.list_repo_files(repository, revision=now)) if now else set()
        added = [
            huggingface_hub.CommitOperationAdd(name, content if isinstance(content, bytes) else str(content))
            for name, content in sorted(files.items())
        ]
        removed = [huggingface_hub.CommitOperationDelete(name) for name in sorted(_stale(there, files))]
        done = api.create_commit(repository, [*added, *removed], commit_message=message, parent_commit=now)
    except Exception as error:  # the Hub's answers, and whatever its transport raises
        raise UnfitEnvironmentError(
            f"{repository} was not published: {_without_token(error)}",
            code="B0711",
            hint=_HINT if isinstance(error, HfHubHTTPError) else f"is there a network? Then: {_HINT}",
        ) from error
    return Published(repository=repository, revision=done.oid, url=redacted(str(done.commit_url)))


def _stale(there: set[str], files: Mapping[str, object]) -> Iterator[str]:
    """Files of an earlier publication: in the folders that we write, and no longer among what is written."""
    folders = {name.partition("/")[0] for name in files if "/" in name}
    for name in there - files.keys():
        first, slash, _ = name.partition("/")
        if slash and (first in folders or first == RELEASE or first.endswith((".mlpackage", ".aimodel"))):
            yield name


RELEASE = "release"
"""The folder of a release in the repository."""


def _without_token(error: Exception) -> str:
    """What happened, in one line, without anything that opens the repository."""
    causes = [error, *([error.__cause__] if error.__cause__ is not None else [])]
    text = " ".join(" ".join(dict.fromkeys(map(str, causes))).split())  # a transport's error repeats its cause
    for name in _TOKENS:
        token = os.environ.get(name, "")
        text = text.replace(token, "…") if token else text
    return redacted(re.sub(r"\bhf_\w+", "…", text))[:500] or type(error).__name__
