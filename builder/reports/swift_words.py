"""Names and texts as Swift writes them."""

from __future__ import annotations

import re
from collections.abc import Iterable

_ESCAPES = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\t": "\\t", "\r": "\\r"}
# fmt: off
_KEYWORDS = {
    "Any", "Self", "as", "associatedtype", "break", "case", "catch", "class", "continue", "default", "defer",
    "deinit", "do", "else", "enum", "extension", "fallthrough", "false", "fileprivate", "for", "func", "guard",
    "if", "import", "in", "init", "inout", "internal", "is", "let", "nil", "operator", "precedencegroup",
    "private", "protocol", "public", "repeat", "rethrows", "return", "self", "static", "struct", "subscript",
    "super", "switch", "throw", "throws", "true", "try", "typealias", "var", "where", "while",
}
# fmt: on


def type_name(stem: str) -> str:
    """`my_net` is `MyNetPredictor`: another name than that of the class which Xcode generates."""
    words = [word[:1].upper() + word[1:] for word in re.split(r"[\W_]+", stem) if word]
    name = "".join(words)
    return f"{'Model' if not name or name[0].isdigit() else ''}{name}Predictor"


def literal(value: str) -> str:
    """A Swift string literal."""
    escaped = (_ESCAPES.get(c, c if c.isprintable() else f"\\u{{{ord(c):x}}}") for c in value)
    return f'"{"".join(escaped)}"'


def identifier(name: str) -> str:
    """A feature's name as a Swift identifier; `x.1` becomes `x_1`, a keyword gets backticks."""
    safe = re.sub(r"\W", "_", name)
    safe = f"_{safe}" if safe[:1].isdigit() else safe
    return f"`{safe}`" if safe in _KEYWORDS else safe


def free_name(name: str, taken: Iterable[str]) -> str:
    """A name for a variable that no parameter has."""
    while name in taken:
        name = f"{name}_"
    return name
