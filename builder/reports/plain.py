"""Values and whole records as plain JSON types, and the short forms in which people read them."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Iterator, Mapping
from datetime import date, datetime
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from builder.util.text import size as size


def plain(value: object, *, finite: bool = True) -> Any:
    """`value` as JSON types; numbers that JSON lacks become the texts `inf`, `-inf` and `nan` (unless not `finite`).

    Raises TypeError for what has no plain form, rather than writing a guess.
    """
    if value is None or isinstance(value, (str, bool, int)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) or not finite else str(value)
    if isinstance(value, Mapping):
        return {str(key): plain(entry, finite=finite) for key, entry in value.items()}
    if isinstance(value, (set, frozenset)):
        return sorted(plain(entry, finite=finite) for entry in value)
    if isinstance(value, (list, tuple)):
        return [plain(entry, finite=finite) for entry in value]
    if isinstance(value, (date, datetime)):
        return value.isoformat()
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, BaseModel):
        return plain(value.model_dump(by_alias=True), finite=finite)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name), finite=finite) for field in dataclasses.fields(value)}
    if hasattr(value, "tolist"):  # numpy scalars and arrays, without importing numpy
        return plain(value.tolist(), finite=finite)
    raise TypeError(f"{type(value).__name__} has no plain form: {value!r}")


def leaves(value: object, *, prefix: str = "", separator: str = ".") -> Iterator[tuple[str, Any]]:
    """Each leaf of nested mappings with its joined key; an empty mapping is a leaf."""
    if isinstance(value, Mapping) and (value or not prefix):
        for key, entry in value.items():
            joined = f"{prefix}{separator}{key}" if prefix else str(key)
            yield from leaves(entry, prefix=joined, separator=separator)
    else:
        yield prefix, value


def duration(seconds: float) -> str:
    """Seconds as people say them: `0.04 s`, `12.3 s`, `2 min 05 s`."""
    if seconds < 9.995:
        return f"{seconds:.2f} s"
    if seconds < 99.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s"


_SYSTEMS = {"ios": "iOS", "macos": "macOS", "watchos": "watchOS", "tvos": "tvOS", "visionos": "visionOS"}


def system_name(target: str) -> str:
    """A target as Apple writes it: `macos10_15` is `macOS 10.15`."""
    system = target.rstrip("0123456789_")
    return f"{_SYSTEMS.get(system, system)} {target.removeprefix(system).replace('_', '.')}"


def number(value: object) -> str:
    """A measured value in at most four significant digits; whole numbers in full."""
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "-"}[value]
    if isinstance(value, float):
        return f"{value:.4g}"
    return str(value)


def value_text(name: str, value: object) -> str:
    """A measured value by its name: sizes in bytes as people say them, the rest as numbers."""
    if name.rpartition(".")[2].endswith("bytes") and isinstance(value, (int, float)) and not isinstance(value, bool):
        return size(round(value))
    return number(value)


def bounds(limit: Mapping[str, float], *, name: str = "") -> str:
    """The limit of the value `name` as people read it: `>= 30`, `<= 0.01`, or both."""
    parts = []
    if limit.get("min") is not None:
        parts.append(f">= {value_text(name, limit['min'])}")
    if limit.get("max") is not None:
        parts.append(f"<= {value_text(name, limit['max'])}")
    return " and ".join(parts)


def scalar(value: Any) -> str:
    """A value as YAML would show it in one line, long lists cut."""
    if isinstance(value, str):
        return (
            value if value and value == value.strip() and "\n" not in value else json.dumps(value, ensure_ascii=False)
        )
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 200 else f"{text[:160]} … ({len(value)} entries)"
