"""What may stand at the end of a command line: verbs, options, recipes, groups, keys, values, files.

Nothing is listed here: verbs are `builder.cli.main.VERBS`, options those of each verb's parser, keys and values those
of the recipe's JSON schema, names those of the library. Standard library only.
"""

from __future__ import annotations

import argparse
import importlib
import os
import shlex
from collections.abc import Callable, Iterator, Sequence
from itertools import chain

from builder.cli.main import VERBS
from builder.config.folders import GROUPS, SEARCHES, SWEEPS, Library, head_comment, open_library
from builder.config.recipe_keys import keys_in, values_of

Candidate = tuple[str, str]
"""A word, and what it means."""

_MODELS = (".mlpackage", ".mlmodel", ".aimodel")


def candidates(line: str) -> list[Candidate]:
    """Return the words that may stand where a command line ends, which is up to the cursor.

    A word that ends with `=`, `.` or `/` goes on; behind any other comes a blank.
    """
    words = _split(line)
    before, word = _arguments(words[:-1]), words[-1]
    found = _possible(before, word)
    return [candidate for candidate in found if candidate[0].startswith(word)]


def _split(line: str) -> list[str]:
    """The words of a line, the last of which is being written; an open quote is closed."""
    for end in ("", "'", '"'):
        try:
            words = shlex.split(line + end)
        except ValueError:
            continue
        is_open = not line or line[-1].isspace()
        return [*words, ""] if is_open and not end else words or [""]
    return [""]


def _arguments(words: Sequence[str]) -> list[str]:
    """What stands behind `builder`, or `python -m builder`."""
    for position, word in enumerate(words):
        if os.path.basename(word) == "builder":  # noqa: PTH119 - pathlib is a third of the time
            return list(words[position + 1 :])
    return list(words[1:])


def _possible(before: list[str], word: str) -> list[Candidate]:
    verb = next((each for each in before if each in VERBS), "build")
    if not any(not each.startswith("-") for each in before) and not word.startswith("-") and "=" not in word:
        first = [(name, text) for name, text in VERBS.items()]
    else:
        first = []
    parser = importlib.import_module(f"builder.cli.{verb}").parser()
    actions = [action for action in parser._actions if action.help != argparse.SUPPRESS]
    options = {name: action for action in actions for name in action.option_strings}
    if before and before[-1] in options and options[before[-1]].nargs != 0:
        return _values(options[before[-1]], word, verb)
    if word.startswith("--") and "=" in word:
        name = word.partition("=")[0]
        given = _values(options[name], word[len(name) + 1 :], verb) if name in options else []
        return [(f"{name}={value}", text) for value, text in given]
    if word.startswith("-"):
        return [(name, action.help or "") for name, action in options.items() if name.startswith("--")]
    return [*first, *(each for action in actions if not action.option_strings for each in _values(action, word, verb))]


def _values(action: argparse.Action, word: str, verb: str) -> list[Candidate]:
    """What the value of an option or a positional argument may be, by the name that help shows for it."""
    if action.choices:
        return [(str(choice), "") for choice in action.choices]
    kind = _KINDS.get(str(action.metavar or action.dest))
    return list(kind(word, verb)) if kind else []


def _overrides(word: str, verb: str) -> Iterator[Candidate]:
    """Recipes, options of groups, keys of a recipe and their values, as `recipe=…`, `precision=…`, `checks.…`."""
    library = open_library()
    sign = word[: len(word) - len(word.lstrip("+~"))]
    key, equals, value = word[len(sign) :].partition("=")
    if not equals:
        yield from ((f"{sign}{name}", text) for name, text in _keys(key, verb, library))
        return
    done, comma, _ = value.rpartition(",")  # of a sweep, several values
    for name, text in _named_values(key, library):
        yield f"{sign}{key}={done}{comma}{name}", text


def _keys(key: str, verb: str, library: Library) -> Iterator[Candidate]:
    section, dot, _ = key.rpartition(".")
    path = section.split(".") if dot else []
    if not path:
        yield "recipe=", "what is built"
        folders = {"search": (SEARCHES,), "build": (SWEEPS,)}.get(verb, ())
        yield from ((f"{name}=", f"an option of {name}") for name in (*library.group_names(), *folders))
    for found in keys_in(path):
        if found.has_keys:
            meaning = f"settings of {found.name}" if not path and found.name in GROUPS else found.meaning
            yield f"{section}{dot}{found.name}.", meaning
        else:
            yield f"{section}{dot}{found.name}=", found.meaning


def _named_values(key: str, library: Library) -> Iterator[Candidate]:
    if key == "recipe":
        files = ((name, library.recipe(name)) for name in library.recipe_names())
        yield from ((name, head_comment(file)) for name, file in files if file)
    elif key in (*library.group_names(), SEARCHES, SWEEPS):
        found = ((name, library.option(key, name)) for name in library.option_names(key))
        yield from ((name, head_comment(file)) for name, file in found if file)
    else:
        yield from ((value, "") for value in values_of(key.split(".")))


def _codes(_word: str, _verb: str) -> Iterator[Candidate]:
    from builder.diagnostics.table import CODES

    yield from ((code.code, code.title) for code in CODES.values())


def _files(word: str, _verb: str) -> Iterator[Candidate]:
    yield from _paths(word, lambda _: True)


def _folders(word: str, _verb: str) -> Iterator[Candidate]:
    yield from _paths(word, lambda entry: entry.is_dir())


def _models(word: str, _verb: str) -> Iterator[Candidate]:
    """Folders, and the models in them; a package is a folder that is not entered."""
    for name, text in _paths(word, lambda entry: entry.is_dir() or entry.name.endswith(_MODELS)):
        plain = name.rstrip("/")
        yield (plain if plain.endswith(_MODELS) else name), text


def _recipes_and_models(word: str, verb: str) -> Iterator[Candidate]:
    yield from _overrides(word, verb)
    if "=" not in word:
        yield from _models(word, verb)


def _input_files(word: str, verb: str) -> Iterator[Candidate]:
    name, equals, value = word.partition("=")
    if equals:
        yield from ((f"{name}={path}", text) for path, text in _files(value, verb))


def _paths(word: str, is_wanted: Callable[[os.DirEntry[str]], bool]) -> Iterator[Candidate]:
    folder, slash, start = word.rpartition("/")
    try:
        place = os.path.expanduser(folder + slash) or "."  # noqa: PTH111 - pathlib is a third of the time
        entries = sorted(os.scandir(place), key=lambda entry: entry.name)
    except OSError:  # there is no such folder: nothing can be completed
        return
    for entry in entries:
        if is_wanted(entry) and (start.startswith(".") or not entry.name.startswith(".")):
            yield f"{folder}{slash}{entry.name}{'/' if entry.is_dir() else ''}", ""


def _json_verbs(_word: str, _verb: str) -> Iterator[Candidate]:
    for verb in VERBS:
        if {"--json", "--report"} & set(importlib.import_module(f"builder.cli.{verb}").parser()._option_string_actions):
            yield verb, VERBS[verb]
    yield "error", "what any of them prints when it fails"


def _formats(_word: str, _verb: str) -> Iterator[Candidate]:
    yield from (("pt2", "PyTorch"), ("onnx", ""), ("aimodel", "Core AI"))


def _shells(_word: str, _verb: str) -> Iterator[Candidate]:
    yield from ((shell, "") for shell in ("bash", "zsh", "fish"))


def _device_actions(_word: str, _verb: str) -> Iterator[Candidate]:
    from builder.cli.device import ACTIONS

    yield from ACTIONS.items()


def _subjects(word: str, verb: str) -> Iterator[Candidate]:
    """A recipe with its settings, an artifact, or a file."""
    yield from _overrides(word, verb)
    if "=" not in word:
        yield from _files(word, verb)


_KINDS: dict[str, Callable[[str, str], Iterator[Candidate]]] = {
    "key=value": _overrides,
    "key=value | MODEL": lambda word, verb: chain(_overrides(word, verb), _models(word, verb)),
    "FOLDER": _folders,
    "FILE": _files,
    "SOURCE": _files,
    "PUBLIC.pem": _files,
    "MODEL": _models,
    "model": _models,
    "A": _models,
    "B": _models,
    "name=FILE": _input_files,
    "CODE": _codes,
    "FORMAT": _formats,
    "recipe=NAME | ARTIFACT": _recipes_and_models,
    "SHELL": _shells,
    "VERB": _json_verbs,
    "ACTION": _device_actions,
    "SUBJECT": _subjects,
}
"""How values are found, by the name that help shows for them."""
