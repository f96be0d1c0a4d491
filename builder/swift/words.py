"""Names and texts as Swift writes them."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable

from builder.util.text import visible

_ESCAPES = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\t": "\\t", "\r": "\\r", "\0": "\\0"}
# fmt: off
_KEYWORDS = frozenset({
    "Any", "as", "associatedtype", "await", "break", "case", "catch", "class", "continue", "default", "defer",
    "deinit", "do", "else", "enum", "extension", "fallthrough", "false", "fileprivate", "for", "func", "guard",
    "if", "import", "in", "inout", "internal", "is", "let", "nil", "operator", "precedencegroup",
    "private", "protocol", "public", "repeat", "rethrows", "return", "static", "struct", "subscript",
    "super", "switch", "throw", "throws", "true", "try", "typealias", "var", "where", "while",
})
_NEVER_NAMES = frozenset({"self", "Self", "init", "Type", "Protocol", "_"})
"""Words that mean something even between backticks."""
_MODULES = frozenset({
    "any", "coreai", "coreimage", "coreml", "corevideo", "coregraphics", "foundation", "model", "package", "protocol",
    "self", "swift", "testing", "type", "vision", "xctest",
})
"""Names in lower case that a module cannot have, since a framework or the language has them."""
# fmt: on


def module_name(stem: str) -> str:
    """`my-net` is `MyNet`: letters and digits of ASCII, a letter first, and the name of no framework."""
    plain = unicodedata.normalize("NFKD", stem).encode("ascii", "ignore").decode()
    name = "".join(word[:1].upper() + word[1:] for word in re.split(r"[\W_]+", plain))
    if not name or name[0].isdigit():
        name = f"Model{name}"
    return f"{name}Package" if name.lower() in _MODULES else name


def literal(value: str) -> str:
    """A Swift string literal."""
    return f'"{"".join(_escaped(c) for c in value)}"'


def _escaped(character: str) -> str:
    if character in _ESCAPES:
        return _ESCAPES[character]
    if unicodedata.category(character) == "Cs":  # half of a pair, which Swift's strings cannot hold
        return "\\u{FFFD}"
    return character if character.isprintable() else f"\\u{{{ord(character):X}}}"


def identifier(name: str) -> str:
    """A feature's name as a Swift identifier: `input_ids` becomes `inputIds`, a keyword gets backticks."""
    safe = _camel("".join(c if f"a{c}".isidentifier() else "_" for c in name))
    safe = safe if safe.isidentifier() else f"_{safe}"
    if safe in _NEVER_NAMES:
        return f"{safe}_"
    return f"`{safe}`" if safe in _KEYWORDS else safe


def _camel(name: str) -> str:
    """Words after the first begin with a capital letter, unless that joins numbers: `x_1` stays."""
    first, *others = [word for word in name.split("_") if word] or [name]
    joined = first[:1].lower() + first[1:] if not first[:2].isupper() else first
    for word in others:
        joined += f"_{word}" if word[:1].isdigit() and joined[-1:].isdigit() else word[:1].upper() + word[1:]
    return joined


def identifiers(names: Iterable[str], *, taken: Iterable[str] = ()) -> list[str]:
    """An identifier for each name, no two of them the same, and none of those that are `taken`."""
    found: list[str] = []
    for name in names:
        first = candidate = identifier(name)
        number = 2
        while candidate in found or candidate in taken:
            candidate = f"{first.strip('`')}_{number}"
            number += 1
        found.append(candidate)
    return found


def comment(text: str, *, indent: int = 0) -> str:
    """Lines of a documentation comment; whatever the text holds, it cannot leave the comment."""
    lines = [visible(line).rstrip() for line in text.splitlines()] or [""]
    return "\n".join(f"{' ' * indent}/// {line}".rstrip() for line in lines)
