"""Names and texts as Swift writes them."""

from __future__ import annotations

import re

_ESCAPES = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\t": "\\t", "\r": "\\r"}


def type_name(stem: str) -> str:
    """`my_net` is `MyNetPredictor`: another name than that of the class which Xcode generates."""
    words = [word[:1].upper() + word[1:] for word in re.split(r"[\W_]+", stem) if word]
    name = "".join(words)
    return f"{'Model' if not name or name[0].isdigit() else ''}{name}Predictor"


def literal(value: str) -> str:
    """A Swift string literal."""
    escaped = (_ESCAPES.get(c, c if c.isprintable() else f"\\u{{{ord(c):x}}}") for c in value)
    return f'"{"".join(escaped)}"'
