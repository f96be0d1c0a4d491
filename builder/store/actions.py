"""The other half of the store: what each stage gave for a key, as one JSON file that is written last."""

from __future__ import annotations

import contextlib
import errno
import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from builder.noop import is_trusted
from builder.progress import Progress
from builder.store.digests import canonical, digest_of
from builder.store.objects import Objects, atomic_file, is_digest
from builder.util.links import own_files, refuse_links
from builder.util.locks import exclusive, exclusive_or_none
from builder.util.reading import open_regular, parse_json, read_regular
from builder.util.redact import redacted_values

if TYPE_CHECKING:
    from builder.store.remote.remote import Remote

Facts = TypeVar("Facts")

SCHEMA = 4
"""Raised when an action result changes its meaning; others are not read."""


@dataclass(frozen=True, kw_only=True)
class ActionResult:
    """The result of one stage for one key: plain values, and digests of what lies beside it in the store."""

    stage: str
    key: str
    inputs: Mapping[str, Any]
    """Everything that the key is made of, by a readable label."""
    output: str
    """The digest that later stages have in their keys."""
    line: str
    """One line for people."""
    record: Mapping[str, Any]
    """What the stage tells later ones in plain values."""
    objects: Mapping[str, str] = field(default_factory=dict)
    """Files, and manifests of folders (by a name that ends in `/`), each with its digest."""
    seconds: float = 0.0
    """How long the stage took when it ran."""


_MOST = 1 << 28
"""Bytes of a result; the largest, of load, have every line of the labels and the lists of other files."""


class ForeignError(OSError):
    """A result belongs to another user, who could have written anything."""


class Store:
    """A store below one folder, which may be shared, on a network, or not writable: then it is only read.

    A result says itself what its digest is, so whoever can write it can forge it: results of other users are not hits,
    unless `BUILDER_TRUSTED_OWNERS` names them. Objects are what their names say, whoever wrote them.
    What is not there is sought in the remote store behind it, and what is written here is marked to be sent there.
    """

    def __init__(self, root: Path, progress: Progress, remote: Remote | None = None) -> None:
        self.root = root
        self.remote = remote
        self.objects = Objects(root, fetch=None if remote is None else remote.fetch)
        self._progress = progress
        self._writable = True
        self._told_foreign = False

    def find(self, stage: str, key: str, read: Callable[[ActionResult], Facts]) -> Facts | None:
        """What `read` makes of the result under `key`; None where there is none.

        There is a warning for one that is damaged, foreign, or that `read` refuses by ValueError.
        """
        path = self._path(stage, key)
        try:
            text = _own_text(path)
        except ForeignError as error:
            self._tell_foreign(error)
            return None
        except OSError as error:
            if not isinstance(error, FileNotFoundError | NotADirectoryError):
                self._unusable(stage, f"cannot be read: {error}")
                return None
            return self._arrived(stage, key, read)
        action = _read(text, stage, key)
        facts = None if action is None else _facts(action, read)
        if facts is None:
            self._unusable(stage, f"is damaged: {path}")
            with contextlib.suppress(OSError):
                path.unlink()
            return None
        with contextlib.suppress(OSError):
            os.utime(path)  # garbage collection goes by the last use
        return facts

    def _arrived(self, stage: str, key: str, read: Callable[[ActionResult], Facts]) -> Facts | None:
        """What `read` makes of the remote store's result, which is written here as soon as it is known to be one."""
        text = None if self.remote is None else self.remote.result(stage, key)
        if self.remote is None or text is None:
            return None
        action = _read(text, stage, key)
        facts = None if action is None else _facts(action, read)
        if action is None or facts is None:
            self.remote.warn_damaged(stage)
            return None
        self._progress.detail(f"{stage}: from the remote store {self.remote.address}")
        self._write(action)
        return facts

    def own(self, stage: str, key: str) -> tuple[bytes, ActionResult] | None:
        """The bytes of a result and what they say; None where there is none that is whole and ours."""
        try:
            text = _own_text(self._path(stage, key))
        except OSError:
            return None
        action = _read(text, stage, key)
        return None if action is None else (text, action)

    def _tell_foreign(self, error: ForeignError) -> None:
        """Say once that the store has results of others."""
        if not self._told_foreign:
            message = f"{error}; BUILDER_TRUSTED_OWNERS names the users whose results are used"
            self._progress.warn(message, code="B0012")
        self._told_foreign = True

    def put(self, action: ActionResult) -> None:
        """Write a result, unless one of its objects could not be written."""
        if self.objects.failures:
            self._cannot_write(self.objects.failures[-1])
        elif self._write(action) and self.remote is not None:
            self.remote.mark(action.stage, action.key)

    def _write(self, action: ActionResult) -> bool:
        """Write a result; False where that is impossible, which is said."""
        body = json.loads(canonical(asdict(action)))
        body["inputs"] = redacted_values(body["inputs"])
        text = canonical({"schema": SCHEMA, "digest": digest_of(body), "action": body})
        try:
            with atomic_file(self._path(action.stage, action.key), self.root / "tmp") as stream:
                stream.write(text.encode())
        except OSError as error:
            self._cannot_write(error)
            return False
        return True

    def drop(self, action: ActionResult, reason: str) -> None:
        """Forget a result that turned out to be unusable, and say why."""
        self._unusable(action.stage, f"is not usable: {reason}")
        with contextlib.suppress(OSError):
            self._path(action.stage, action.key).unlink()
        if self.remote is not None:
            self.remote.refuse(action.stage, action.key)

    def _cannot_write(self, error: OSError) -> None:
        """Say once that the store cannot be written, and go on: a build does not need it."""
        self.objects.failures.clear()
        if self._writable:
            message = f"the store {self.root} cannot be written, so results are not stored: {error.strerror}"
            self._progress.warn(message, code="B0013")
        self._writable = False

    def _unusable(self, stage: str, why: str) -> None:
        self._progress.warn(f"{stage} runs again, since the store's result of it {why}", code="B0011")

    @contextmanager
    def alone(self, stage: str, key: str) -> Iterator[None]:
        """Let one process at a time compute what belongs under `key`; a store that cannot be written has no locks."""
        lock = self.root / "locks" / f"{stage}-{key.rpartition(':')[2]}.lock"

        def waiting() -> None:
            self._progress.detail(f"waiting: another build computes {stage}")

        with contextlib.ExitStack() as held:
            try:
                refuse_links(lock.parent, self.root)
                held.enter_context(exclusive(lock, on_wait=waiting))
            except OSError as error:
                self._progress.detail(f"{stage} is computed without a lock: {error.strerror}")
            yield

    def tidy(self) -> None:
        """Remove the locks that killed builds left."""
        for lock in own_files(self.root / "locks"):
            with contextlib.suppress(OSError), exclusive_or_none(lock):
                pass

    def actions(self, stage: str = "*", *, foreign: bool = False) -> Iterator[tuple[Path, ActionResult]]:
        """Every readable result, or those of one stage, each with its file; with `foreign` those of others as well."""
        for path in sorted((self.root / "actions").glob(f"{stage}/*.json")):
            with contextlib.suppress(OSError):
                text = read_regular(path, most=_MOST) if foreign else _own_text(path)
                action = _read(text, path.parent.name, f"sha256:{path.stem}")
                if action is not None:
                    yield path, action

    def _path(self, stage: str, key: str) -> Path:
        return self.root / "actions" / stage / f"{key.rpartition(':')[2]}.json"


def _own_text(path: Path) -> bytes:
    """The bytes of a result; raises ForeignError where another user owns it, and OSError where it cannot be read."""
    with open_regular(path) as stream:
        owner = os.fstat(stream.fileno()).st_uid
        if not is_trusted(owner):
            raise ForeignError(errno.EPERM, f"the store's results of the user {owner} are not used", str(path))
        return stream.read(_MOST)


def _read(text: bytes, stage: str, key: str) -> ActionResult | None:
    """Return the action that a file holds, None unless it is complete, well formed, and of this stage and key."""
    try:
        document = parse_json(text)
        body = document["action"]
        if document["schema"] != SCHEMA or digest_of(body) != document["digest"]:
            return None
        action = ActionResult(**body)
    except (ValueError, TypeError, KeyError, RecursionError):
        return None
    return action if (action.stage, action.key) == (stage, key) and _is_well_formed(action) else None


def _facts(action: ActionResult, read: Callable[[ActionResult], Facts]) -> Facts | None:
    try:
        return read(action)
    except ValueError:
        return None


def _is_well_formed(action: ActionResult) -> bool:
    """Whether every field has its type, and every object is named by a digest, and not by a way to another file."""
    return (
        isinstance(action.inputs, dict)
        and isinstance(action.output, str)
        and isinstance(action.line, str)
        and isinstance(action.record, dict)
        and isinstance(action.seconds, int | float)
        and isinstance(action.objects, dict)
        and all(is_digest(digest) for digest in action.objects.values())
    )
