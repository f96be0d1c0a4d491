"""Where recipes and group options lie, and which of them exist (standard library only, so that `list` is quick)."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from builder.errors import ConfigurationError
from builder.util.locations import shown
from builder.util.reading import MOST_OF_RECIPE, UnfitFileError, is_plain_name, read_regular

GROUPS = ("source", "input", "substitutions", "precision", "compression", "target", "checks", "tracking")
"""The questions that a recipe answers by choosing an option; each is a folder of `conf/`."""

SEARCHES = "search"
"""The folder of `conf/` with searches: no recipe chooses from it, `python -m builder search` does."""

SWEEPS = "sweep"
"""The folder of `conf/` with variants of sweeps, which no recipe chooses from either: `-m sweep=NAME` does."""

SUFFIX = ".yaml"

MODELINE = "# yaml-language-server:"
"""What begins the comment that names a recipe's schema to editors; it says nothing of the recipe."""


def shipped(name: str) -> Path:
    """Return the folder `name` (`conf` or `recipes`) that came with builder: in the wheel, else in the checkout."""
    package = Path(__file__).resolve().parents[1]
    inside = package / name
    return inside if inside.is_dir() else package.parent / name


def recipe_folders() -> tuple[Path, ...]:
    """Return the folders with recipes that exist: `./recipes`, those of `$BUILDER_RECIPES`, the shipped one."""
    given = [Path(part).expanduser() for part in os.environ.get("BUILDER_RECIPES", "").split(os.pathsep) if part]
    for folder in given:
        if not folder.is_dir():
            raise ConfigurationError(
                f"BUILDER_RECIPES names {folder}, and there is no such folder",
                code="B0210",
                hint=f"folders are separated by `{os.pathsep}`",
            )
    return _existing([Path("recipes"), *given, shipped("recipes")])


def option_folders() -> tuple[Path, ...]:
    """Return the folders with group options that exist: `./conf` and the shipped one."""
    return _existing([Path("conf"), shipped("conf")])


def _existing(folders: list[Path]) -> tuple[Path, ...]:
    found: dict[Path, Path] = {}
    for folder in folders:
        if folder.is_dir():
            found.setdefault(folder.resolve(), folder)
    return tuple(path.absolute() for path in found.values())


@dataclass(frozen=True, kw_only=True)
class Library:
    """Every recipe and group option that can be named, with the folders in the order in which they are sought."""

    recipes: tuple[Path, ...]
    options: tuple[Path, ...]

    def recipe_names(self) -> list[str]:
        """Return the names of all recipes, sorted."""
        return _names(self.recipes)

    def group_names(self) -> list[str]:
        """Return the names of all groups: ours, and further folders of a user's `conf/`."""
        folders = {child.name for folder in self.options for child in folder.iterdir() if child.is_dir()}
        return sorted((folders | set(GROUPS)) - {SEARCHES, SWEEPS})

    def option_names(self, group: str) -> list[str]:
        """Return the names of all options of `group`, sorted."""
        return _names(tuple(folder / group for folder in self.options if (folder / group).is_dir()))

    def recipe(self, name: str) -> Path | None:
        """Return the file of a recipe, None where there is none; two different ones are an error."""
        if not is_plain_name(name):
            return None
        return _only(name, "recipe", [folder / f"{name}{SUFFIX}" for folder in self.recipes])

    def option(self, group: str, name: str) -> Path | None:
        """Return the file of a group option, None where there is none; two different ones are an error.

        An option is one name: a way to a file elsewhere is not, and whether that file changes nobody would notice.
        """
        if not is_plain_name(name) or not is_plain_name(group):
            return None
        return _only(f"{group}/{name}", "option", [folder / group / f"{name}{SUFFIX}" for folder in self.options])


def open_library() -> Library:
    """Return what can be named from the working directory."""
    return Library(recipes=recipe_folders(), options=option_folders())


def _names(folders: tuple[Path, ...]) -> list[str]:
    files = (child.name for folder in folders for child in folder.iterdir() if child.name.endswith(SUFFIX))
    return sorted({name for file in files if is_plain_name(name := file.removesuffix(SUFFIX))})


def _only(name: str, what: str, candidates: list[Path]) -> Path | None:
    found = [path for path in candidates if os.path.lexists(path)]
    for other in found[1:]:
        if not _same(found[0], other):
            raise ConfigurationError(
                f"two files are the {what} {name}: {shown(found[0])} and {shown(other)}",
                code="B0210",
                hint="rename one of them: a name means one thing",
            )
    return found[0] if found else None


def _same(one: Path, other: Path) -> bool:
    try:
        return one.samefile(other) or _content(one) == _content(other)
    except OSError:
        return False


def _content(file: Path) -> bytes:
    return read_regular(file, most=MOST_OF_RECIPE)


def head_comment(path: Path) -> str:
    """Return the first sentence of the comment that opens a YAML file, or an empty text."""
    lines: list[str] = []
    try:
        content = _content(path).decode("utf-8")
    except UnfitFileError as error:
        return f"(cannot be read: it {error.strerror})"
    except (OSError, UnicodeDecodeError) as error:
        return f"(cannot be read: {getattr(error, 'strerror', None) or 'not UTF-8'})"
    for line in content.split("\n"):
        text = line.strip()
        if text.startswith(("# @", MODELINE)) or (not text and not lines):
            continue
        if not text.startswith("#") or text == "#":
            break
        lines.append(text.lstrip("#").strip())
    sentence, stop, _ = " ".join(lines).partition(". ")
    return (sentence + stop.strip()).replace("\t", " ")
