"""`python -m builder verify FOLDER`: whether a release is as it was made, and whether it can be made again."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from builder.cli.arguments import Parser, verbosity
from builder.errors import ConfigurationError
from builder.util.locations import shown
from builder.util.text import visible

DESCRIPTION = """Verify a release: the digest of every file, that all documents speak of this artifact, and with --key
the signatures. Anything changed, missing or added is named, and the exit code is 6. This needs no torch; --rebuild
does: it builds again what the release carries, and tells a different toolchain from what is not reproducible.

  python -m builder verify outputs/releases/mobilenet_v2_fp16/default
  python -m builder verify FOLDER --key public.pem --rebuild
"""


def parser() -> Parser:
    """Return the parser of this verb."""
    made = Parser("verify", DESCRIPTION, usage="verify FOLDER [--key PUBLIC.pem] [--rebuild]")
    made.add_argument("folder", nargs="?", metavar="FOLDER", help="the release")
    made.add_argument("--key", metavar="PUBLIC.pem", help="the public EC key that must have signed it")
    made.add_argument("--rebuild", action="store_true", help="build it again and compare")
    made.offer_json()
    return made


def run(arguments: Sequence[str]) -> int:
    """Verify a release; returns the exit code."""
    given = parser().read(arguments)
    if given.folder is None:
        raise ConfigurationError(
            "verify needs the folder of a release", code="B0226", hint="python -m builder verify FOLDER"
        )
    from builder.release.verify import verify_release

    release = verify_release(Path(given.folder), public_key=Path(given.key) if given.key else None)
    lines = [f"{release.files} files are as they were released", f"{release.artifact.name} {release.digest}"]
    if given.key:
        lines.append(f"signed with the key of {given.key}")
    elif release.signed:
        lines.append("signed, and the signatures were NOT checked: give --key PUBLIC.pem")
    else:
        lines.append("not signed")
    others: Sequence[str] = ()
    if given.rebuild:
        from builder.release.rebuild import rebuild
        from builder.reports.working import working

        with working("building it again", release.folder.absolute(), verbosity=verbosity(given)):
            others = rebuild(release)
        lines.append("built again, to the same bytes" + (" by other tools:" if others else ""))
        lines += [f"  {line}" for line in others]
    if given.json:
        from builder.cli.answers import VerifyAnswer, render

        print(
            render(
                VerifyAnswer(
                    folder=shown(release.folder),
                    artifact=shown(release.artifact),
                    digest=release.digest,
                    files=release.files,
                    signature="checked" if given.key else "not checked" if release.signed else "none",
                    rebuilt=given.rebuild,
                    other_tools=tuple(others),
                )
            )
        )
        return 0
    if verbosity(given) >= 0:
        print(visible("\n".join(lines)), file=sys.stderr)
    print(shown(release.artifact))
    return 0
