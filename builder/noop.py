"""Says "up to date" in a few hundredths of a second, with nothing but the quickest parts of the standard library.

The last build of the same command line left a list of all that it depended on (`builder.remember`). Each entry is
compared by stat, and by content where the stat differs. Whatever cannot be decided here goes the long way, which
comes to the same answer more slowly.
"""

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from io import BufferedReader
    from typing import Any

SCHEMA = 2
FALLBACK_SECONDS = 600
"""How long untrained weights answer for published ones, while the network looks as it did when they were made."""
_PROXY_SECONDS = 60
"""The same where something answers: a proxy may refuse today and not tomorrow."""
_PROBE_SECONDS = 0.15
YOUNG = 2_000_000_000
"""Nanoseconds: a file that changed so recently may do so again within one tick of its clock, and is not remembered."""
_LARGE = 1 << 22
"""Bytes from which on reading a file twice is felt."""
_digests: "dict[tuple[int, ...], str]" = {}
"""Of large files that this process has read, by device, inode, size and times."""
_MOST = 1 << 26
"""Bytes of a manifest; what is larger is cut, and then has another digest."""

INCIDENTAL = ("__pycache__", ".DS_Store")
"""What Python and Finder write into folders; it is in no digest and changes no answer."""

_ENVIRONMENT = (
    "BUILDER_CACHE",
    "BUILDER_RECIPES",
    "HOME",
    "XDG_CACHE_HOME",
    "PYTHONPATH",
    "TORCH_HOME",
)
"""Variables that builder itself reads; those that a recipe reads are in the manifest."""
_PROXIES = ("https_proxy", "http_proxy", "all_proxy", "no_proxy", "HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY", "NO_PROXY")
_QUIET = ("-q", "--quiet", "-qq")
_SAID = (*_QUIET, "-v", "--verbose", "-vv", "--paranoid")
"""Options that change what is said, not what is built."""


def answer(arguments: "Sequence[str]") -> "int | None":
    """Return 0 after saying that the build of this command line is up to date; None when the long way must decide."""
    if not is_build(arguments):
        return None
    try:
        path = manifest_path(arguments)
        manifest = read_manifest(path)
        if manifest["schema"] != SCHEMA or manifest["identity"] != identity_digest(arguments):
            return None
        artifact, summary = manifest["artifact"], manifest["said"]
        if not any(f"{entry[0]}/".startswith(f"{artifact}/") for entry in manifest["files"]):
            return None
        refreshed = is_current(manifest, paranoid="--paranoid" in arguments)
    except Exception:  # whatever is wrong with the file: the long way comes to the same answer
        return None
    if refreshed is None:
        return None
    if refreshed:
        write_manifest(path, manifest)
    if not any(option in arguments for option in _QUIET):
        print(summary, file=sys.stderr)
    print(shown(artifact))
    return 0


def is_build(arguments: "Sequence[str]") -> bool:
    """Whether a command line plainly builds one recipe."""
    plain = [argument for argument in arguments if argument not in _SAID]
    if plain[:1] == ["build"]:
        plain = plain[1:]
    named = any(argument.startswith("recipe=") for argument in plain)
    options = [argument for argument in plain if argument.startswith("-")]
    return named and all(option == "--outputs" or option.startswith("--outputs=") for option in options)


def cache_folder() -> str:
    """`BUILDER_CACHE`, or the user's cache folder, as platformdirs finds it; that of macOS is not run by the tests."""
    given = os.environ.get("BUILDER_CACHE")
    if given:
        return os.path.abspath(given)  # noqa: PTH100 - pathlib is a third of the time
    home = os.path.expanduser("~")  # noqa: PTH111
    if sys.platform == "darwin":
        return f"{home}/Library/Caches/builder"
    base = os.environ.get("XDG_CACHE_HOME", "").strip()
    return f"{base or f'{home}/.cache'}/builder"


def identity(arguments: "Sequence[str]") -> "dict[str, Any]":
    """What makes two invocations the same: the words, the place, the interpreter and its surroundings."""
    return {
        "arguments": [argument for argument in arguments if argument not in _SAID],
        "cwd": os.getcwd(),  # noqa: PTH109
        "python": [sys.version, sys.prefix, *sys.path[1:]],
        "package": os.path.dirname(os.path.abspath(__file__)),  # noqa: PTH100, PTH120
        "environment": [os.environ.get(name) for name in _ENVIRONMENT],
    }


def identity_digest(arguments: "Sequence[str]") -> str:
    """SHA-256 of an invocation, whose words may hold passwords."""
    import hashlib

    return hashlib.sha256(repr(identity(arguments)).encode()).hexdigest()


def manifest_path(arguments: "Sequence[str]") -> str:
    """Where the manifest of a command line lies."""
    return f"{cache_folder()}/noop/{identity_digest(arguments)}.json"


def is_trusted(owner: int) -> bool:
    """Whether files of a user (by number) may say what a build would do: our own, root's, and those that we are told.

    `BUILDER_TRUSTED_OWNERS` has names or numbers of users, separated by commas, or `*` for all.
    """
    if owner in (os.geteuid(), 0):
        return True
    named = [name.strip() for name in os.environ.get("BUILDER_TRUSTED_OWNERS", "").split(",") if name.strip()]
    if "*" in named or str(owner) in named:
        return True
    import pwd

    try:
        return pwd.getpwuid(owner).pw_name in named
    except KeyError:
        return False


def read_manifest(path: str) -> "Any":
    """The document of a file of `write_manifest`, which begins with a digest of the rest.

    Raises OSError or ValueError where there is none, or it was not written so, or by somebody else.
    """
    import hashlib
    import json

    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with open(descriptor, "rb") as stream:  # noqa: PTH123 - a descriptor has no path
        found = os.fstat(descriptor)
        if found.st_mode & 0o170000 != 0o100000 or not is_trusted(found.st_uid):  # a regular file, of ours
            raise OSError(path)
        digest, _, text = stream.read(_MOST).partition(b"\n")
    if hashlib.sha256(text).hexdigest().encode() != digest:
        raise ValueError(path)
    return json.loads(text)


def write_manifest(path: str, manifest: "dict[str, Any]") -> None:
    """Write a document atomically, for its owner alone; where that is impossible, the next build goes the long way."""
    import hashlib
    import json

    temporary = f"{path}.{os.getpid()}"
    text = json.dumps(manifest).encode()
    try:
        os.makedirs(os.path.dirname(path), exist_ok=True)  # noqa: PTH103, PTH120
        folder = os.path.dirname(path)  # noqa: PTH120
        if folder != cache_folder() and os.path.islink(folder):  # noqa: PTH114
            return  # what lies behind a link in the cache is not written
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        with open(descriptor, "wb") as stream:  # noqa: PTH123
            stream.write(hashlib.sha256(text).hexdigest().encode() + b"\n" + text)
        os.replace(temporary, path)  # noqa: PTH105
    except (OSError, RecursionError):  # the second of a path of a thousand folders
        if os.path.exists(temporary):  # noqa: PTH110
            os.unlink(temporary)  # noqa: PTH108


def file_entry(path: str) -> "list[Any]":
    """A file with what tells whether it changed: [path, [mtime, ctime, size, inode], digest]."""
    return [path, stat_of(path), digest(path)]


def stat_of(path: str) -> "list[int]":
    """Modification and change time in nanoseconds, size and inode."""
    found = os.stat(path)  # noqa: PTH116
    return [found.st_mtime_ns, found.st_ctime_ns, found.st_size, found.st_ino]


def digest(path: str) -> str:
    """SHA-256 of a file in hexadecimal; raises OSError for pipes and devices, which could block or never end."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with open(descriptor, "rb") as stream:  # noqa: PTH123 - a descriptor has no path
        if os.fstat(descriptor).st_mode & 0o170000 != 0o100000:
            raise OSError(path)
        return stream_digest(stream)


def stream_digest(stream: "BufferedReader") -> str:
    """SHA-256 of a file that was just opened, in hexadecimal; a large one is read once in a process while it stays."""
    import hashlib

    before = os.fstat(stream.fileno())
    name = (before.st_dev, before.st_ino, before.st_size, before.st_mtime_ns, before.st_ctime_ns)
    known = _digests.get(name)
    if known is not None:
        return known
    found = hashlib.file_digest(stream, "sha256").hexdigest()
    if before.st_size >= _LARGE:
        import time

        after = os.fstat(stream.fileno())
        stays = name == (after.st_dev, after.st_ino, after.st_size, after.st_mtime_ns, after.st_ctime_ns)
        if stays and time.time_ns() - max(after.st_mtime_ns, after.st_ctime_ns) > YOUNG:
            _digests[name] = found
    return found


def variable_digest(name: str) -> "str | None":
    """SHA-256 of a variable of the environment, whose value may be a secret; None where it is not set."""
    import hashlib

    value = os.environ.get(name)
    return None if value is None else hashlib.sha256(f"{name}={value}".encode("utf-8", "surrogateescape")).hexdigest()


def names_in(folder: str) -> "list[str]":
    """The names of what lies in a folder, but for what Python and Finder write there."""
    return sorted(name for name in os.listdir(folder) if name not in INCIDENTAL)  # noqa: PTH208


def is_current(manifest: "dict[str, Any]", *, paranoid: bool) -> "bool | None":
    """None when something changed; else whether a stat did, while the content stayed."""
    for name, value in manifest["environment"].items():
        if variable_digest(name) != value:
            return None
    for path in manifest["missing"]:
        if os.path.lexists(path):
            return None
    for path, changed in manifest["packages"]:
        if os.stat(path).st_mtime_ns != changed:  # noqa: PTH116
            return None
    for path, names in manifest["folders"]:
        if names_in(path) != names:
            return None
    refreshed = False
    for entry in manifest["files"]:
        found = stat_of(entry[0])
        if found == entry[1] and not paranoid:
            continue
        if found[2] != entry[1][2] or digest(entry[0]) != entry[2]:
            return None
        refreshed = refreshed or found != entry[1]
        entry[1] = found
    return refreshed if still_offline(manifest["fallback"]) else None


def still_offline(evidence: "Mapping[str, Any] | None") -> bool:
    """Whether nothing says that weights could be downloaded now which could not be when `evidence` was made."""
    if evidence is None:
        return True
    import time

    age = time.time() - evidence["at"]
    answered = evidence["state"]["answer"] == "connected"
    if not 0 <= age < (_PROXY_SECONDS if answered else FALLBACK_SECONDS):
        return False
    return bool(network_state(evidence["url"]) == evidence["state"])


def network_state(url: "str | None") -> "dict[str, Any]":
    """What changes when a network comes back: proxies, routes, name servers, and whether the server can be reached."""
    state: dict[str, object] = {"proxies": [variable_digest(name) for name in _PROXIES]}
    for name, path in (("routes", "/proc/net/route"), ("names", "/etc/resolv.conf")):
        try:
            with open(path, encoding="utf-8") as stream:  # noqa: PTH123
                lines = [line.split()[:3] for line in stream if line.split()]
        except OSError:
            lines = []
        state[name] = sorted(lines)
    proxies = [os.environ.get(name) for name in (*_PROXIES[:3], *_PROXIES[4:7])]
    state["answer"] = _probe(next((proxy for proxy in proxies if proxy), url))
    return state


def _probe(url: "str | None") -> str:
    """Whether the server of a URL takes connections: connected, refused, unresolved, silent, or the error's name."""
    if url is None:
        return "unknown"
    import socket
    import threading

    host, port = _host_of(url)
    answers: list[str] = []

    def connect() -> None:
        try:
            socket.create_connection((host, port), timeout=_PROBE_SECONDS).close()
            answers.append("connected")
        except socket.gaierror:
            answers.append("unresolved")
        except TimeoutError:
            answers.append("silent")
        except (OSError, OverflowError, ValueError) as error:  # the last two of an address that is none
            answers.append(type(error).__name__)

    thread = threading.Thread(target=connect, daemon=True)
    thread.start()
    thread.join(2 * _PROBE_SECONDS)
    return answers[0] if answers else "silent"


def _host_of(url: str) -> "tuple[str, int]":
    scheme, _, rest = url.rpartition("://")
    place = rest.split("/")[0].rpartition("@")[2]
    host, _, port = place.rpartition(":") if ":" in place else (place, "", "")
    return host, int(port) if port.isdigit() else (443 if scheme == "https" else 80)


def shown(path: str) -> str:
    """A path as it is printed: relative where it lies below the working directory."""
    here = os.getcwd() + os.sep  # noqa: PTH109
    return path[len(here) :] if path.startswith(here) else path
