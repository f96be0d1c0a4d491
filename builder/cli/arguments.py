"""argparse, with mistakes told as builder tells all mistakes: exit 2, the nearest name, no usage dump."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from builder.errors import ConfigurationError
from builder.util.locations import shown
from builder.util.reading import require_contained
from builder.util.suggest import did_you_mean, nearest
from builder.util.text import visible

_MODELS = (".mlpackage", ".mlmodel", ".aimodel")


class Parser(argparse.ArgumentParser):
    """A parser that raises ConfigurationError, and in which options may stand anywhere."""

    def __init__(self, verb: str, description: str, *, usage: str) -> None:
        super().__init__(
            prog=f"python -m builder {verb}".strip(),
            description=description,
            usage=f"python -m builder {usage}",
            allow_abbrev=False,
            exit_on_error=False,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        self.add_argument("-q", "--quiet", action="count", default=0, help="say only what is wrong, and the result")
        self.add_argument("-v", "--verbose", action="count", default=0, help="say more")

    def offer_json(self) -> None:
        """Add `--json`, whose document is one of `builder.cli.answers`."""
        self.add_argument("--json", action="store_true", help="print one JSON document instead, an error too")

    def error(self, message: str) -> NoReturn:
        """Raise instead of printing the usage."""
        lacks = message.startswith("the following arguments are required")
        hint = str(self.usage) if lacks else f"see `{self.prog} --help`"
        raise ConfigurationError(message[:1].lower() + message[1:], code="B0225", hint=hint)

    def read(self, arguments: Sequence[str]) -> argparse.Namespace:
        """Parse `arguments`; an unknown option is named with the nearest known one."""
        known = [name for action in self._actions for name in action.option_strings]
        try:
            namespace, unknown = self.parse_known_intermixed_args(list(arguments))
        except argparse.ArgumentError as error:
            self.error(str(error))
        if unknown and not unknown[0].startswith("-"):
            raise ConfigurationError(
                f"`{unknown[0]}` is one argument too many", code="B0225", hint=f"see `{self.prog} --help`"
            )
        if unknown:
            name = unknown[0].partition("=")[0]
            names = {option.lstrip("-"): option for option in known}
            found = nearest(name.lstrip("-"), names)  # dashes, which all have, make no two alike
            hint = f"did you mean `{names[found]}`?" if found else f"options: {', '.join(known)}"
            if name == "--recipe":
                hint = f"write it without dashes: `recipe={unknown[0].partition('=')[2] or 'NAME'}`"
            raise ConfigurationError(f"there is no option `{name}`", code="B0225", hint=hint)
        return namespace


def verbosity(namespace: argparse.Namespace) -> int:
    """Return how much to say: below 0 little, 0 as usual, above 0 more."""
    return int(namespace.verbose) - int(namespace.quiet)


def outputs_folder(namespace: argparse.Namespace) -> Path:
    """Return the folder that artifacts go to."""
    if not namespace.outputs.strip():
        raise ConfigurationError("--outputs names no folder", code="B0227", hint="leave it out for `outputs`")
    if visible(namespace.outputs) != namespace.outputs or "\n" in namespace.outputs:
        raise ConfigurationError(
            f"--outputs {visible(namespace.outputs)!r} cannot be printed, as the path of an artifact is in the end",
            code="B0227",
        )
    folder = Path(namespace.outputs)
    nearest = next((f for f in (folder, *folder.parents) if os.path.lexists(f)), None)
    if nearest is not None and not nearest.is_dir():
        what = "a symbolic link that leads nowhere" if nearest.is_symlink() else "a file"
        raise ConfigurationError(f"--outputs {folder}: {nearest} is {what}, not a folder", code="B0227")
    return folder


_SOURCES = (".pt2", ".onnx", ".pt", ".pth", ".jit", ".ckpt", ".safetensors")
"""What recipes are made of."""


def model_file(text: str) -> Path:
    """Return the path of the model that is named.

    Raises ConfigurationError with the nearest one where it is not there, and UnfitFileError where it is not of files.
    """
    path = Path(text)
    if path.exists() and path.suffix in _SOURCES:
        raise ConfigurationError(
            f"{path} is not an artifact",
            code="B0226",
            hint=f"this takes a .mlpackage, .mlmodel or .aimodel; `python -m builder init {shown(path)}` drafts the "
            "recipe of one",
        )
    if path.suffix in _MODELS and path.exists():
        require_contained(path)
    if path.exists():
        return path
    built = [shown(found) for suffix in _MODELS for found in Path("outputs").glob(f"*/*/*{suffix}")]
    hint = did_you_mean(text, built) or _same_name(path, built) or "give the path of a .mlpackage, .mlmodel or .aimodel"
    raise ConfigurationError(f"there is no model {path}", code="B0226", hint=hint)


def _same_name(path: Path, built: Sequence[str]) -> str | None:
    """A hint to the artifact of that name, with or without a suffix."""
    named = [found for found in built if path.name in (Path(found).name, Path(found).stem)]
    return f"did you mean `{named[0]}`?" if named else None
