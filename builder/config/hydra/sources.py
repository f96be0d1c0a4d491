"""How Hydra sees our YAML: `conf/` folders as they are, and flat `recipes/` folders as the group `recipe`."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

from hydra import version
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.config_repository import CachingConfigRepository
from hydra._internal.defaults_list import create_defaults_list
from hydra._internal.utils import create_config_search_path
from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.default_element import ResultDefault
from hydra.core.object_type import ObjectType
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.plugins import Plugins
from hydra.plugins.config_source import ConfigResult, ConfigSource
from hydra.plugins.search_path_plugin import SearchPathPlugin
from omegaconf import OmegaConf

from builder.config.documents import Document, read_document
from builder.config.folders import SUFFIX, open_library
from builder.config.hydra.defaults import DEFAULTS, hydra_defaults

RECIPE_GROUP = "recipe"


@cache
def _read(file: Path, _changed: int, _size: int) -> Document:
    return read_document(file)


def document(file: Path) -> Document:
    """Return a file's document, parsed once for each state of the file."""
    try:
        stat = file.stat()
    except OSError:
        return read_document(file)
    return _read(file, stat.st_mtime_ns, stat.st_size)


class OptionSource(ConfigSource):  # type: ignore[misc]  # hydra has no types
    """A `conf/` folder: one folder a group, one YAML file an option."""

    @staticmethod
    def scheme() -> str:
        """Return what begins the addresses of this source."""
        return "builder-conf"

    def file(self, config_path: str) -> Path:
        """Return the file of a configuration such as `precision/fp16`."""
        return Path(self.path) / f"{config_path.removesuffix(SUFFIX)}{SUFFIX}"

    def available(self) -> bool:
        """Whether the folder exists."""
        return Path(self.path).is_dir()

    def is_group(self, config_path: str) -> bool:
        """Whether `config_path` is a folder."""
        return (Path(self.path) / config_path).is_dir()

    def is_config(self, config_path: str) -> bool:
        """Whether `config_path` is a file (or something in the place of one, which reading explains)."""
        return self.file(config_path).exists()

    def list(self, config_path: str, results_filter: ObjectType | None) -> list[str]:
        """Return the names of the groups and options in the group `config_path`."""
        found = set()
        for child in (Path(self.path) / config_path).iterdir():
            if child.name.endswith(SUFFIX) and results_filter in (None, ObjectType.CONFIG):
                found.add(child.name.removesuffix(SUFFIX))
            elif child.is_dir() and results_filter in (None, ObjectType.GROUP):
                found.add(child.name)
        return sorted(found)

    def load_config(self, config_path: str) -> ConfigResult:
        """Return the defaults list of a file: the values are merged by builder, which keeps their positions."""
        data = document(self.file(config_path)).data
        defaults = data.get(DEFAULTS, []) if isinstance(data, Mapping) else []
        return self.result(config_path, defaults, package=None)

    def result(self, config_path: str, defaults: Any, package: str | None) -> ConfigResult:
        """Return what Hydra needs to know of a file."""
        config = OmegaConf.create({DEFAULTS: defaults})
        file = str(self.file(config_path))
        return ConfigResult(provider=self.provider, path=file, config=config, header={"package": package})


class RecipeSource(OptionSource):
    """A flat folder of recipes, shown as the group `recipe`; its files need no package header."""

    @staticmethod
    def scheme() -> str:
        """Return what begins the addresses of this source."""
        return "builder-recipes"

    def file(self, config_path: str) -> Path:
        """Return the file of `recipe/<name>`."""
        return super().file(config_path.removeprefix(f"{RECIPE_GROUP}/"))

    def is_group(self, config_path: str) -> bool:
        """Whether `config_path` is the group `recipe` (or the root that holds it)."""
        return config_path in ("", RECIPE_GROUP)

    def is_config(self, config_path: str) -> bool:
        """Whether `config_path` is a recipe of this folder."""
        return config_path.startswith(f"{RECIPE_GROUP}/") and super().is_config(config_path)

    def list(self, config_path: str, results_filter: ObjectType | None) -> list[str]:
        """Return the names of the recipes of this folder."""
        if config_path != RECIPE_GROUP:
            return [RECIPE_GROUP] if results_filter in (None, ObjectType.GROUP) else []
        return super().list("", ObjectType.CONFIG) if results_filter in (None, ObjectType.CONFIG) else []

    def load_config(self, config_path: str) -> ConfigResult:
        """Return the defaults list of a recipe, in Hydra's form; its keys are those of the BuildSpec."""
        defaults = hydra_defaults(document(self.file(config_path)), open_library())
        return self.result(config_path, defaults, package="_global_")


class SearchPath(SearchPathPlugin):  # type: ignore[misc]  # hydra has no types
    """Adds the folders of recipes and options, the user's first."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        """Append every folder that exists."""
        library = open_library()
        for folder in library.options:
            search_path.append("builder", f"{OptionSource.scheme()}://{folder}")
        for folder in library.recipes:
            search_path.append("builder", f"{RecipeSource.scheme()}://{folder}")


def config_loader() -> ConfigLoaderImpl:
    """Return Hydra's loader over our folders; the plugins are registered here, not found by scanning."""
    version.setbase("1.3")
    for plugin in (OptionSource, RecipeSource, SearchPath):
        Plugins.instance().register(plugin)
    return ConfigLoaderImpl(create_config_search_path(None))


def option_files() -> CachingConfigRepository:
    """Return what reads the defaults list of each file once; for one composition and its variants, not for longer."""
    return CachingConfigRepository(config_loader().repository)


@lru_cache(maxsize=16)
def merge_order(config: str, overrides: tuple[str, ...], files: CachingConfigRepository) -> tuple[ResultDefault, ...]:
    """Return the files of a configuration in the order in which they are merged, as Hydra's defaults list says.

    Hydra's own options, which no recipe has, are left out. Raises HydraException.
    """
    parsed = OverridesParser.create().parse_overrides(list(overrides))
    found = create_defaults_list(files, config, parsed, prepend_hydra=False, skip_missing=False)
    return tuple(found.defaults)
