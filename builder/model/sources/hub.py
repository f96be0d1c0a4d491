"""A repository of the Hugging Face hub as a local folder: from the hub's own cache, or downloaded now."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from builder.errors import SourceError
from builder.model.sources.download import OfflineError
from builder.model.sources.optional import optional_packages
from builder.progress import Progress

_FILES = ["*.json", "*.safetensors", "*.txt", "*.model"]
"""What a model is made from; pickled weights and other frameworks' files are not fetched."""


def repository_folder(name: str, revision: str | None, *, timeout: float, progress: Progress) -> Path:
    """Return the folder with the repository's files; no code is fetched.

    Raises OfflineError when the hub cannot be reached, SourceError when there is no such repository or revision.
    """
    with optional_packages("huggingface"):
        import huggingface_hub as hub
        from huggingface_hub import errors
    with contextlib.suppress(errors.LocalEntryNotFoundError, errors.HFValidationError):
        found = Path(hub.snapshot_download(name, revision=revision, allow_patterns=_FILES, local_files_only=True))
        if any(found.glob("*.safetensors")):
            progress.detail(f"{name} is at hand: {found}")
            return found
    progress.detail(f"Downloading {name} from the hub")
    try:
        with _patience(timeout), contextlib.redirect_stderr(io.StringIO()):
            return Path(hub.snapshot_download(name, revision=revision, allow_patterns=_FILES, etag_timeout=timeout))
    except errors.HFValidationError as error:
        raise SourceError(
            f"{name} is neither a folder nor the name of a repository",
            code="B0308",
            hint="write owner/name",
            key="source.model",
        ) from error
    except errors.RevisionNotFoundError as error:
        raise SourceError(f"{name} has no revision {revision}", code="B0308", key="source.revision") from error
    except errors.RepositoryNotFoundError as error:
        raise SourceError(
            f"the hub has no repository {name}, or it is private",
            code="B0308",
            hint="log in for a private one",
            key="source.model",
        ) from error
    except (errors.LocalEntryNotFoundError, errors.OfflineModeIsEnabled, OSError) as error:
        raise OfflineError(
            f"the hub cannot be reached for {name}: {_reason(error)}", code="B0306", key="source.model"
        ) from error


@contextmanager
def _patience(timeout: float) -> Iterator[None]:
    """Give up a download after `timeout` seconds without data; the hub's client reads it when it asks."""
    from huggingface_hub import constants

    before = constants.HF_HUB_DOWNLOAD_TIMEOUT
    constants.HF_HUB_DOWNLOAD_TIMEOUT = max(1, round(timeout))
    try:
        yield
    finally:
        constants.HF_HUB_DOWNLOAD_TIMEOUT = before


def _reason(error: BaseException) -> str:
    cause = error.__cause__ or error
    return (str(cause).strip() or type(cause).__name__).splitlines()[0]
