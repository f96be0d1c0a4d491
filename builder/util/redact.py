"""Takes passwords, tokens, queries and values of the environment out of texts before they are recorded or shown."""

from __future__ import annotations

import os
import re
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

HIDDEN = "…"

_SECRETS: dict[str, str] = {}
"""Values that no text may have, with what stands in their place."""
_WRITTEN: dict[str, str] = {}
"""Values of settings that came from the environment, with what the recipe says instead."""

_ENVIRONMENT = re.compile(r"oc\.env:\s*([^\s,}]+)")
_NAMED_SECRET = re.compile(r"(?i)token|secret|passw|passphrase|pwd|key|credential|auth|cookie|private|signature")
_KEY = re.compile(r"(?=.*[0-9])(?=.*[A-Za-z])[\w+=.-]{16,}")
"""What looks like a key, whatever its variable is called."""
_SHORTEST_SECRET, _SHORTEST = 4, 6
"""Characters: what is shorter is in too many other words."""

_ADDRESS = re.compile(r"(?<=[A-Za-z0-9+.-])://(?P<rest>[^\s'\"<>]*)")
"""What follows a scheme, up to the end of the word; like all patterns here it takes time by the length of a text."""
_PORT = re.compile(r":\d+(?:[/?#]|$)")
_PLACE = re.compile(r"[^/?#]*")
_LONGEST_NAME = 64
"""Characters of a name after the word in it that makes it a secret."""
_PAIR = re.compile(
    r"(?i)(?P<name>(?:token|secret|passw(?:or)?d|api_?key|access_?key|signature|credential)"
    rf"[\w.-]{{0,{_LONGEST_NAME}}})(?P<sign>\s*[=:]\s*)(?P<value>[^\s&'\",;)]+)"
)
_HEADER = re.compile(r"(?i)\b(?P<name>(?:proxy-)?authorization|cookie)(?P<sign>['\"]?\s*[:=]\s*)(?P<value>[^\r\n]+)")
_SCHEME = re.compile(r"(?i)\b(?P<name>bearer|basic)(?P<sign>\s+)(?P<value>[^\s'\"]{8,})")


def hide_environment(written: str, resolved: object) -> None:
    """Hide a setting that a recipe takes from the environment: `written` is `${oc.env:NAME}`, perhaps with more.

    Records have what is written in its place, unless it is a number, short, or a path. Variables that are named like
    secrets, and passwords and queries of addresses, are in no text at all from now on.
    """
    for name in _ENVIRONMENT.findall(written):
        value = os.environ.get(name, "")
        if (_NAMED_SECRET.search(name) and len(value) >= _SHORTEST_SECRET) or _KEY.fullmatch(value):
            _SECRETS[value] = f"${{oc.env:{name}}}"
        for part in _secret_parts(value):
            _SECRETS[part] = HIDDEN
    if not isinstance(resolved, str) or not _ENVIRONMENT.search(written) or "://" in resolved:
        return  # of an address the host is shown, and the rest never
    is_path = os.sep in resolved or ("\0" not in resolved and os.path.exists(resolved))  # noqa: PTH110
    if len(resolved) >= _SHORTEST and not is_path:
        _WRITTEN[resolved] = written


def _secret_parts(address: str) -> list[str]:
    """Password and values of the query of an address, as they are written and as they are meant."""
    if "://" not in address:
        return []
    try:
        parsed = urlsplit(address)
        parts = [parsed.password or "", *(value for _, value in parse_qsl(parsed.query))]
    except ValueError:
        return []
    return [text for part in parts for text in {part, unquote(part)} if len(text) >= _SHORTEST_SECRET]


def without_environment(text: str) -> str:
    """A text without values of the environment that are secrets."""
    for value in sorted(_SECRETS, key=len, reverse=True):
        text = text.replace(value, _SECRETS[value])
    return text


def without_addresses(text: str) -> str:
    """A text in which addresses have neither user, password nor query."""
    return _ADDRESS.sub(lambda found: "://" + _without_access(found["rest"]), text) if "://" in text else text


def _without_access(rest: str) -> str:
    """What follows `://`, without users, passwords and queries, those of addresses in its path included."""
    places = "://".join(_without_user(part) for part in rest.split("://"))
    first, *fragments = places.split("#")
    kept = [first.partition("?")[0]]
    for fragment in fragments:
        before, sign, address = fragment.partition("://")
        kept.append(before + sign + address.partition("?")[0])
    return "#".join(kept)


def _without_user(part: str) -> str:
    """The same without `user:password@`; a password may have other signs of an address in it."""
    place = _PLACE.match(part)
    if place is not None and "@" in place[0]:
        return place[0].rpartition("@")[2] + part[place.end() :]
    user, at, behind = part.partition("@")
    return behind if at and _is_user(user) else part


def _is_user(text: str) -> bool:
    """Whether what stands before an `@` is a user with a password, and not a host with its port."""
    name = text.partition("/")[0]
    return ":" in name and (name.count(":") > 1 or _PORT.match(text, name.index(":")) is None)


def redacted(text: str) -> str:
    """A text in which addresses have neither user, password nor query, and named secrets and headers no value.

    Given `http://me:pw@host/a?token=x` and `api_key=y`; result `http://host/a` and `api_key=…`.
    """
    text = without_environment(without_addresses(text))
    for pattern in (_HEADER, _SCHEME, _PAIR):
        text = pattern.sub(lambda found: f"{found['name']}{found['sign']}{HIDDEN}", text)
    return text


def redacted_values(value: object) -> Any:
    """The same for every text in nested mappings and lists; names of mappings stay."""
    if isinstance(value, str):
        return without_secrets(value)
    if isinstance(value, dict):
        return {name: redacted_values(child) for name, child in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(redacted_values(child) for child in value)
    return value


def without_secrets(text: str) -> str:
    """A setting's text: only addresses and what is from the environment change; labels mean what they say."""
    if text in _WRITTEN:
        return _WRITTEN[text]
    return without_environment(without_addresses(text))
