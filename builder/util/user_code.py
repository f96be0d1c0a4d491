"""The one door through which user code enters: `package.module:function`."""

from __future__ import annotations

import importlib
import sys
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any

from builder.errors import BuilderError, SourceError
from builder.util.child import doing as running
from builder.util.process_state import guarded, said_by
from builder.util.suggest import did_you_mean


def import_object(path: str, *, key: str) -> Any:
    """Return what `package.module:name` names; the working directory is searched first.

    `key` is the setting of the recipe that says it. Raises SourceError when the module is not found, raises while it
    is imported, or has no such name.
    """
    module_name, _, name = path.partition(":")
    doing = f"importing {module_name}"
    with _working_directory_on_path(), guarded(doing, key=key), running(f"while {doing} for {path}"):
        try:
            found: object = importlib.import_module(module_name)
        except ModuleNotFoundError as error:
            if error.name is not None and (module_name == error.name or module_name.startswith(error.name + ".")):
                raise SourceError(
                    f"there is no module {error.name}, looking for {path}",
                    code="B0312",
                    hint=f"modules are found in the working directory ({Path.cwd()}) and among installed packages",
                    key=key,
                ) from error
            raise _raised(doing, error, SourceError, "B0313", key) from error
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            raise _raised(doing, error, SourceError, "B0313", key) from error
    for part in name.split("."):
        if not hasattr(found, part):
            raise SourceError(
                f"{module_name} has no {name}", code="B0312", hint=did_you_mean(part, dir(found)), key=key
            )
        found = getattr(found, part)
    return found


def call(
    function: Any,
    what: str,
    *args: object,
    key: str,
    error: type[BuilderError],
    code: str,
    arguments: Mapping[str, object] = MappingProxyType({}),
) -> Any:
    """Call a user's function with `args` and the keyword arguments `arguments`, whatever those are named.

    Anything that it raises becomes `error` with `code`, naming the user's line.
    """
    with guarded(f"calling {what}", key=key), running(f"while calling {what}"):
        try:
            return function(*args, **arguments)
        except KeyboardInterrupt:
            raise
        except BaseException as raised:  # a script's sys.exit() must not pass for a finished build
            raise _raised(f"calling {what}", raised, error, code, key) from raised


def _raised(doing: str, raised: BaseException, error: type[BuilderError], code: str, key: str) -> BuilderError:
    frames = traceback.extract_tb(raised.__traceback__)
    own = Path(__file__).resolve()
    outside = [f for f in frames if Path(f.filename).resolve() != own and not f.filename.startswith("<")]
    place = (outside[-1].filename, outside[-1].lineno) if outside else None
    message = said_by(raised)
    if isinstance(raised, SyntaxError) and raised.filename:  # the file never ran, so no frame is in it
        place, message = (raised.filename, raised.lineno), f"{type(raised).__name__}: {raised.msg}"
    where = f" (at {place[0]}:{place[1]})" if place else ""
    return error(f"{doing} raised {message}{where}", code=code, key=key)


@contextmanager
def _working_directory_on_path() -> Iterator[None]:
    folder = str(Path.cwd())
    if folder in sys.path or "" in sys.path:
        yield
        return
    sys.path.insert(0, folder)
    try:
        yield
    finally:
        sys.path.remove(folder)
