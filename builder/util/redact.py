"""Takes passwords, tokens and queries out of texts before they are recorded, printed, sent or stored."""

from __future__ import annotations

import re
from typing import Any

HIDDEN = "…"

_ADDRESS = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*://)(?P<user>[^\s/?#'\"<>]*@|[^\s/@'\"<>]*:(?!\d+(?:/|$))[^\s@'\"<>]*@)?(?P<rest>[^\s?#'\"<>]*)"
                      r"(?P<query>\?[^\s#'\"<>]*)?")  # fmt: skip
_PAIR = re.compile(
    r"(?i)(?P<name>[\w.-]*(?:token|secret|passw(?:or)?d|api_?key|access_?key|signature|credential)[\w.-]*)"
    r"(?P<sign>\s*[=:]\s*)(?P<value>[^\s&'\",;)]+)"
)
_HEADER = re.compile(r"(?i)\b(?P<name>(?:proxy-)?authorization|cookie)(?P<sign>['\"]?\s*[:=]\s*)(?P<value>[^\r\n]+)")
_SCHEME = re.compile(r"(?i)\b(?P<name>bearer|basic)(?P<sign>\s+)(?P<value>[^\s'\"]{8,})")


def redacted(text: str) -> str:
    """A text in which addresses have neither user, password nor query, and named secrets and headers no value.

    Given `http://me:pw@host/a?token=x` and `api_key=y`; result `http://host/a` and `api_key=…`.
    """
    text = _ADDRESS.sub(lambda found: found["scheme"] + found["rest"], text)
    for pattern in (_HEADER, _SCHEME, _PAIR):
        text = pattern.sub(lambda found: f"{found['name']}{found['sign']}{HIDDEN}", text)
    return text


def redacted_values(value: Any) -> Any:
    """The same for every text in nested mappings and lists; names of mappings stay."""
    if isinstance(value, str):
        return without_secrets(value)
    if isinstance(value, dict):
        return {name: redacted_values(child) for name, child in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(redacted_values(child) for child in value)
    return value


def without_secrets(text: str) -> str:
    """A setting's text: only addresses are changed, since other texts (labels, prompts) mean what they say."""
    return _ADDRESS.sub(lambda found: found["scheme"] + found["rest"], text)
