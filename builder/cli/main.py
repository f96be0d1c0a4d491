"""Decides which verb is meant, and turns every failure into its exit code and a message on stderr."""

from __future__ import annotations

import errno
import importlib
import os
import shutil
import sys
import textwrap
import threading
import traceback
from collections.abc import Collection, Sequence
from pathlib import Path

from builder import __version__
from builder.cli.process import setup_process
from builder.errors import BuilderError, ConfigurationError, SourceError, UnfitEnvironmentError
from builder.util.child import run_in_child

VERBS = {
    "build": "build a recipe (the word may be left out)",
    "watch": "build again with every change, and show the report meanwhile",
    "plan": "say which stages a build would run, and why",
    "doctor": "check a recipe's model, or this installation, for problems",
    "debug": "say which operators of an artifact add the error, and what to change",
    "choose": "find what `auto` stands for, and write it as a recipe",
    "lint": "say what probably keeps an artifact off the Neural Engine",
    "search": "build with many settings and find the best ones",
    "diff": "compare two artifacts or builds",
    "gc": "remove from the store what no build has used for long",
    "list": "print every recipe, one a line",
    "show": "print a composed recipe with the origin of each value",
    "explain": "say what the code of an error means",
    "completion": "print what makes a shell complete command lines of builder",
    "schema": "write the JSON schema with which editors complete and check recipes",
    "ci": "build what changed among recipes, and compare it with another branch",
    "validate": "check recipe files without building, for pre-commit and editors",
    "init": "look at a model and write a commented recipe that builds it",
    "predict": "run an artifact on pictures or arrays, on any machine",
    "device": "measure an artifact on a Mac, and attach that to its build",
    "card": "write the model card of a build, as the Hugging Face Hub has them",
    "publish": "push an artifact, its card and its release to the Hugging Face Hub",
    "export": "write a finished Core ML model as pt2, onnx or aimodel, with proof",
    "package": "write a Swift package around an artifact, with golden tests",
    "flush": "send the builds that wait in the outbox to MLflow",
    "lock": "write to builder.lock what recipes are made of",
    "release": "build a locked recipe twice, compare, and write the proof beside the artifact",
    "verify": "check a release, and build it again",
}
"""The module of each verb is `builder.cli.<verb>`."""

EXIT_USAGE = 2
_WITH_VALUE = ("--outputs", "--output")
_NAMES = (errno.ENAMETOOLONG, errno.ELOOP, errno.EISDIR, errno.ENOTDIR)
"""What the system says of a path that cannot be one of what it is given as."""
_LIMITS = {errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN, errno.EIO, errno.ESTALE}
_LONGEST_SHOWN = 200
_HELP_COLUMNS, _LEAST_TEXT = 160, 30
"""Columns of the help where nothing is known of the terminal, and that a meaning needs to stand behind its name."""


def run_apart(given: list[str]) -> int:
    """Run one command in a child process, so that no code of a user or a model can pass for its end."""
    if threading.active_count() > 1 or not hasattr(os, "fork"):  # a fork has one thread, and locks of the others
        return run(given)
    return run_in_child(lambda: run(given))


def run(given: list[str]) -> int:
    """Run one command; every failure becomes its exit code and a message on stderr."""
    from builder.util.process_state import said_by
    from builder.util.reading import UnfitFileError

    try:
        setup_process()
        code = _dispatch(given)
        sys.stdout.flush()
    except BuilderError as error:
        return _explain(error, given)
    except KeyboardInterrupt:
        print("\ninterrupted: nothing was replaced", file=sys.stderr)
        return 130
    except MemoryError:
        message = "there is not enough memory for this build; nothing was replaced"
        return _explain(UnfitEnvironmentError(message, code="B0707"), given)
    except BrokenPipeError:
        # The reader of stdout is gone (`| head`); Python must not try to flush it again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except UnfitFileError as error:
        return _explain(SourceError(f"{error.filename} {error.strerror}", code="B0302"), given)
    except OSError as error:
        return _explain_system(error, given)
    except RecursionError as error:
        return _explain_recursion(error, given)
    except Exception:
        return _bug()
    except BaseException as error:  # SystemExit, and what is made to pass every handler: none of ours
        message = f"code of the model raised {said_by(error)}; nothing was built"
        return _explain(SourceError(message, code="B0313"), given)
    return code


def _explain_system(error: OSError, given: Sequence[str]) -> int:
    """Say what the system refused and return the exit code of that; what it says of our own doing is a bug."""
    from builder.util.paths import DISK_FULL, NOT_WRITABLE, first_failure

    error = first_failure(error)
    if error.errno == errno.EBADF:
        message = "code of the model closed files of the process that are not its own"
        return _explain(SourceError(message, code="B0336"), given)
    name = str(error.filename)
    place = name if len(name) < _LONGEST_SHOWN else f"{name[:_LONGEST_SHOWN]}…"
    full = "the disk is full: " if error.errno in DISK_FULL else ""
    message = f"{full}{error.strerror}" + ("" if error.filename is None else f": {place}")
    if error.errno in _NAMES:
        return _explain(ConfigurationError(message, code="B0226"), given)
    if error.errno in DISK_FULL | NOT_WRITABLE | _LIMITS or (error.errno == errno.ENOENT and _is_virtual(name)):
        return _explain(UnfitEnvironmentError(message, code="B0706"), given)
    return _bug()


def _explain_recursion(error: RecursionError, given: Sequence[str]) -> int:
    """Say of a path that it has more folders than can be made one by one; any other recursion is a bug."""
    last = traceback.extract_tb(error.__traceback__)[-1]
    if last.name not in ("makedirs", "mkdir"):
        return _bug()
    return _explain(ConfigurationError("a path has too many folders in it", code="B0226"), given)


def _is_virtual(name: str) -> bool:
    """Whether a path would lie in a file system of the kernel, such as `/proc`, in which no folder can be made."""
    parent = next((each for each in Path(name).absolute().parents if each.is_dir()), None)
    return parent is not None and os.statvfs(parent).f_blocks == 0


def _bug() -> int:
    """Show the exception at hand, which nobody foresaw."""
    from builder.util.text import visible

    print(visible(traceback.format_exc()), end="", file=sys.stderr)
    print(f"\nthis is a bug of builder {__version__}: please report it with the lines above", file=sys.stderr)
    return 1


def _dispatch(arguments: list[str]) -> int:
    position = _first_word(arguments)
    first = None if position is None else arguments[position]
    if first is None:
        if "--version" in arguments:
            print(__version__)
            return 0
        if "--help" in arguments or "-h" in arguments:
            print(_help())
            return 0
    if first is None and not any(argument.startswith("-") for argument in arguments):
        print(_help(), file=sys.stderr)
        return EXIT_USAGE
    if first is None or first.startswith(("+", "~")) or "=" in first:
        verb, rest = "build", arguments
    else:
        verb = _verb(first, arguments[arguments.index(first) + 1 :])
        rest = [argument for index, argument in enumerate(arguments) if index != position]
    try:
        return int(importlib.import_module(f"builder.cli.{verb}").run(rest))
    except SystemExit:
        if {"-h", "--help"} & set(rest):  # how argparse ends after its help
            return 0
        raise


def _first_word(arguments: Sequence[str]) -> int | None:
    """Return the place of the first argument that is neither an option nor the value of one."""
    before = ""
    for position, argument in enumerate(arguments):
        if not argument.startswith("-") and before not in _WITH_VALUE:
            return position
        before = argument
    return None


def _verb(word: str, following: Sequence[str]) -> str:
    """Return the verb that `word` is; anything else is explained."""
    if word in VERBS:
        return word
    from builder.config.folders import open_library
    from builder.util.suggest import nearest

    if word == "recipe":
        name = next((text for text in following if not text.startswith("-")), "NAME")
        raise ConfigurationError("`recipe` is not a command", code="B0224", hint=f"to build one, write `recipe={name}`")
    name = Path(word).name.removesuffix(".yaml")
    if name in open_library().recipe_names():
        raise ConfigurationError(f"unknown command `{word}`", code="B0224", hint=f"to build it, write `recipe={name}`")
    if "/" in word or "." in word:
        what = "is a path, and no command was given" if Path(word).exists() else "does not exist, and is not a command"
        raise ConfigurationError(
            f"{word} {what}", code="B0224", hint="recipes are built by name: `recipe=…`; `list` prints them"
        )
    verb = nearest(word, VERBS)
    recipe = nearest(word, open_library().recipe_names())
    hint = f"did you mean `{verb}`?" if verb else f"verbs: {', '.join(VERBS)}"
    if not verb and recipe:
        hint = f"did you mean `recipe={recipe}`?"
    raise ConfigurationError(f"unknown command `{word}`", code="B0224", hint=hint)


def _help() -> str:
    from builder.cli.list import described_recipes

    verbs = _table(VERBS.items())
    try:
        found = described_recipes()
    except ConfigurationError as error:
        found = [("(none)", error.message)]
    recipes = _table(found)
    return f"""builder {__version__}: a build system for Core ML models

  python -m builder recipe=NAME [key=value …]     build a recipe
  python -m builder -m recipe=NAME key=a,b        build every combination
  python -m builder VERB …                        `VERB --help` says more

verbs:
{verbs}

recipes:
{recipes}"""


def _table(rows: Collection[tuple[str, str]]) -> str:
    """Names and what they mean in two columns, or below one another where the terminal is too narrow for that."""
    width = max((len(name) for name, _ in rows), default=0) + 4
    columns = shutil.get_terminal_size((_HELP_COLUMNS, 0)).columns
    lines = []
    for name, text in rows:
        if columns - width >= _LEAST_TEXT:
            first, *rest = textwrap.wrap(text, columns - width) or [""]
            lines += [f"  {name:<{width - 2}}{first}".rstrip(), *(" " * width + line for line in rest)]
        else:
            lines += [f"  {name}", *textwrap.wrap(text, columns, initial_indent=" " * 6, subsequent_indent=" " * 6)]
    return "\n".join(lines)


def _explain(error: BuilderError, given: Sequence[str]) -> int:
    """Print everything that an error says, with `--json` on stdout too; returns its exit code."""
    from builder.diagnostics.render import render_error
    from builder.util.text import visible

    print(visible(render_error(error)), file=sys.stderr)
    if "--json" in given:
        from builder.cli.answers import ANSWERS, error_answer, render

        position = _first_word(given)
        verb = "" if position is None else given[position]
        if verb in ANSWERS:
            print(render(error_answer(verb, error)))
    return error.exit_code
