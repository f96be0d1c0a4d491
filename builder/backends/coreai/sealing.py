"""An `.aimodel` that is the same to the byte wherever and whenever it is made: names by place, sorted metadata."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from builder.backends.coreai.child import call
from builder.errors import ConversionError
from builder.util.room import temporary_place

if TYPE_CHECKING:
    from builder.backends.coreai.adapter import Program

PROGRAM, HASH, METADATA = "main.mlirb", "main.hash", "metadata.json"
"""The files of an asset; the second holds the SHA-256 of the first, in bytes."""

_SECONDS = 1800.0
_MADE_UP = re.compile(r"resource_\d+")
"""Names of resources that coreai-core makes from addresses of the process."""
_SOURCE = re.compile(rb"/[\w./-]{4,}\.py\b")
"""What the path of a Python file looks like; weights do not by chance."""


@dataclass(frozen=True, kw_only=True)
class Metadata:
    """What an asset says about itself."""

    author: str = ""
    license: str = ""
    description: str = ""
    own: Mapping[str, Any] = field(default_factory=dict)
    """Under `creatorDefinedMetadata`: version, labels, and what the recipe adds."""


def seal(assets: Mapping[str, Path], destination: Path, metadata: Metadata) -> None:
    """Write the functions of `assets`, by their names, to the asset `destination`; an empty name stands for `main`.

    Weights that functions share are stored once.
    """
    given = {name or "main": str(path.absolute()) for name, path in assets.items()}  # the child has its own folder
    call("sealing:run", given, str(destination.absolute()), metadata, seconds=_SECONDS)


def run(assets: Mapping[str, str], destination: str, metadata: Metadata) -> None:
    """What `seal` does, in the child."""
    from builder.backends.coreai import adapter

    program = adapter.join_programs({name: Path(path) for name, path in assets.items()})
    _rename_functions(program)
    _rename_resources(program)
    target = Path(destination)
    with tempfile.TemporaryDirectory(prefix="builder-coreai-", dir=target.parent) as folder:
        made = Path(folder) / "sealed.aimodel"
        program.save_asset(made)
        _check_free_of_paths(made / PROGRAM)
        _write_metadata(made, metadata)
        digest = hashlib.sha256((made / PROGRAM).read_bytes()).digest()
        (made / HASH).write_bytes(digest)
        if target.exists():
            shutil.rmtree(target)
        made.replace(target)


def _rename_functions(program: Program) -> None:
    """Names of private functions end in random letters: `silu_kdjf` becomes `silu_0`, by its place."""
    from builder.backends.coreai import adapter

    names: dict[str, str] = {}
    for graph in adapter.graphs(program):
        if adapter.is_private(graph):
            old = adapter.name_of(graph)
            names[old] = f"{old.rsplit('_', 1)[0]}_{len(names)}"
    # in two steps, since a new name may be another's old one
    adapter.rename_functions(program, {old: f"builder__{new}" for old, new in names.items()})
    adapter.rename_functions(program, {f"builder__{new}": new for new in names.values()})


def _rename_resources(program: Program) -> None:
    """Constants that conversion did not name are named by their place."""
    from builder.backends.coreai import adapter

    module = adapter.module_of(program)
    with module.context:
        for number, op in enumerate(adapter.constants(program)):
            name = adapter.resource_name(op)
            if name is not None and _MADE_UP.fullmatch(name):
                adapter.set_resource(op, adapter.constant_bytes(op), f"constant_{number:05d}")


def _check_free_of_paths(program: Path) -> None:
    """Raise ConversionError where the program names a file or folder of this machine."""
    data = program.read_bytes()
    found = next((place for place in machine_paths() if place in data), None) or _SOURCE.search(data)
    if found is not None:
        text = found if isinstance(found, bytes) else found[0]
        raise ConversionError(
            f"the Core AI program names a file of this machine: {text.decode(errors='replace')}", code="B0401"
        )


def machine_paths() -> list[bytes]:
    """Where this process runs, computes and keeps its libraries."""
    places = (Path.cwd(), Path.home(), Path(sys.prefix), temporary_place(), Path(__file__).parents[3])
    return sorted({str(place).encode() for place in places if len(str(place)) > 3})


def _write_metadata(asset: Path, metadata: Metadata) -> None:
    """What Apple writes without the date, sorted, with what the recipe says."""
    file = asset / METADATA
    content = json.loads(file.read_text())
    content.pop("creationDate", None)
    for key, value in (
        ("author", metadata.author),
        ("license", metadata.license),
        ("description", metadata.description),
    ):
        if value:
            content[key] = value
        else:
            content.pop(key, None)
    if metadata.own:
        content["creatorDefinedMetadata"] = dict(metadata.own)
    file.write_text(json.dumps(content, sort_keys=True, indent=2, ensure_ascii=False) + "\n")
