"""Files merged in Hydra's order into one tree, in which every value knows where it was written."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from builder.config.documents import Document, Origin, Path
from builder.config.hydra.overrides import Setting
from builder.errors import Diagnostic
from builder.util.suggest import nearest

MISSING = "???"


class Tree:
    """A mutable configuration while it is put together; later layers win."""

    def __init__(self) -> None:
        self.data: dict[str, Any] = {}
        self.origins: dict[Path, Origin] = {}

    def add(self, document: Document, package: Path, *, without: frozenset[str]) -> None:
        """Merge a document at `package`, leaving out its `defaults` and the keys in `without`."""
        content = document.data if isinstance(document.data, Mapping) else {}
        for key, value in content.items():
            if key != "defaults" and key not in without:
                here = {path: origin for path, origin in document.origins.items() if path[:1] == (key,)}
                self.put((*package, key), value, {(*package, *path): origin for path, origin in here.items()})
        if package and package not in self.origins and () in document.origins:
            self.put(package, {}, {package: document.origins[()]})

    def put(self, path: Path, value: object, origins: Mapping[Path, Origin]) -> None:
        """Set or merge `value` at `path`; mappings merge, everything else is replaced."""
        parent = self._open(path[:-1], origins.get(path))
        key: Any = path[-1]
        if isinstance(parent, list):
            parent[int(key)] = value
        else:
            old = parent.get(key)
            if isinstance(value, Mapping) and isinstance(old, dict):
                self._note(path, origins)
                for name, child in value.items():
                    self.put((*path, name), child, origins)
                return
            if value == MISSING and key in parent:
                return
            parent[key] = _copy(value)
        self.forget(path)
        for place, origin in origins.items():
            if place[: len(path)] == path:
                self.origins[place] = origin

    def _note(self, path: Path, origins: Mapping[Path, Origin]) -> None:
        if path in origins:
            self.origins[path] = origins[path]

    def _open(self, path: Path, origin: Origin | None) -> Any:
        """Return the container at `path`; what is missing, or a single value, becomes an empty mapping.

        Raises ValueError or IndexError for a key that is not a place in a list.
        """
        node: Any = self.data
        for depth, key in enumerate(path, start=1):
            place: Any = int(key) if isinstance(node, list) else key
            child = node[place] if isinstance(node, list) else node.get(place)
            if not isinstance(child, dict | list):
                self.forget(path[:depth])
                child = node[place] = {}
                if origin:
                    self.origins[path[:depth]] = origin
            node = child
        return node

    def forget(self, path: Path) -> None:
        """Drop the origins of `path` and of all below."""
        for place in [place for place in self.origins if place[: len(path)] == path]:
            del self.origins[place]

    def borrow(self, path: Path, other: Path) -> None:
        """Let what lies below `path`, where a name stands for `other`, come from where `other` was written."""
        for place, origin in list(self.origins.items()):
            if place[: len(other)] == other and len(place) > len(other):
                self.origins[(*path, *place[len(other) :])] = origin

    def apply(self, setting: Setting) -> Diagnostic | None:
        """Set or delete a value of the command line; returns what is wrong with it."""
        if setting.deletes:
            return self._delete(setting)
        origins = dict.fromkeys([setting.path, *_paths(setting)], setting.origin)
        try:
            self.put(setting.path, setting.value, origins)
        except (ValueError, IndexError):
            message = f"`{setting.path[-1]}` is not a place in a list"
            return Diagnostic(code="B0211", path=setting.path, message=message, span=setting.span)
        return None

    def _delete(self, setting: Setting) -> Diagnostic | None:
        parent, _ = self.get(setting.path[:-1])
        key = setting.path[-1]
        if not isinstance(parent, dict) or key not in parent:
            names = list(parent) if isinstance(parent, dict) else []
            return Diagnostic(
                code="B0209",
                path=setting.path,
                message="there is no such key to delete",
                span=setting.span,
                allowed=names,
                nearest=nearest(key, names),
            )
        if setting.value not in (None, "", parent[key]):
            message = f"is not deleted: its value is {parent[key]!r}, and not {setting.value!r}"
            return Diagnostic(code="B0209", path=setting.path, message=message, span=setting.span)
        del parent[key]
        self.forget(setting.path)
        return None

    def get(self, path: Path) -> tuple[Any, bool]:
        """Return the value at `path`, and whether there is one."""
        node: object = self.data
        for key in path:
            if isinstance(node, dict) and key in node:
                node = node[key]
            elif isinstance(node, list) and key.isdigit() and int(key) < len(node):
                node = node[int(key)]
            else:
                return None, False
        return node, True

    def origin(self, path: Path) -> Origin | None:
        """Return where the value at `path`, or the nearest that contains it, was written."""
        for length in range(len(path), 0, -1):
            if path[:length] in self.origins:
                return self.origins[path[:length]]
        return None


def _copy(value: object) -> Any:
    if isinstance(value, Mapping):
        return {key: _copy(child) for key, child in value.items()}
    if isinstance(value, list):
        return [_copy(child) for child in value]
    return value


def _paths(setting: Setting) -> list[Path]:
    return [(*setting.path, *path) for path, _ in leaves(setting.value, containers=True)]


def leaves(value: object, path: Path = (), *, containers: bool = False) -> list[tuple[Path, object]]:
    """Return every scalar below `value` with its path; with `containers` also mappings and lists."""
    children: list[tuple[str, object]] = []
    if isinstance(value, Mapping):
        children = [(str(key), child) for key, child in value.items()]
    elif isinstance(value, list):
        children = [(str(index), child) for index, child in enumerate(value)]
    else:
        return [(path, value)]
    own: list[tuple[Path, object]] = [(path, value)] if containers and path else []
    return own + [leaf for key, child in children for leaf in leaves(child, (*path, key), containers=containers)]
