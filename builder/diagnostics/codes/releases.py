"""B0601 to B0611: locks, releases, and what others can verify."""

from __future__ import annotations

from builder.diagnostics.code import NET, NET_RECIPE, Code, Example, net, recipe

_MANIFEST = """\
import hashlib
import pathlib

folder = pathlib.Path("release")
folder.mkdir()
(folder / "notes.txt").write_text("a file\\n")
line = hashlib.sha256((folder / "notes.txt").read_bytes()).hexdigest() + "  notes.txt\\n"
guard = hashlib.sha256(line.encode()).hexdigest()
(folder / "SHA256SUMS").write_text(f"{line}# sha256 of the lines above: {guard}\\n")
"""
_GIT = """\
import subprocess

commit = ["-c", "user.name=me", "-c", "user.email=me@home", "commit", "-qm", "x"]
for arguments in (["init", "-q"], ["add", "."], commit):
    subprocess.run(["git", *arguments], check=True)
"""
_ACCEPTED = NET_RECIPE + "checks: {parity: {kind: parity, accept_synthetic: true}}\n"
_LARGER = NET.replace("4, 2", "64, 32")
_KEY = """\
import pathlib

pathlib.Path("outputs").mkdir(exist_ok=True)

made = "openssl ecparam -name prime256v1 -genkey -noout -out outputs/private.pem"
public = "openssl ec -in outputs/private.pem -pubout -out outputs/key.pem"
for line in (made, public):
    subprocess.run(line.split(), check=True)
"""
_IGNORED = "outputs/\n__pycache__/\n"

CODES = (
    Code(
        code="B0601",
        title="a release needs a clean git tree",
        text="A release is made from a commit: of a git repository, with nothing changed and nothing untracked.",
        example=recipe(commands=("release recipe=x",)),
    ),
    Code(
        code="B0602",
        title="a release reads what is not in the repository",
        text="Each file and all code that the build reads is tracked by git or comes with an installed package, so "
        "that others can build it again.",
        example=Example(
            files={"net.py": NET, "recipes/x.yaml": _ACCEPTED, "make.py": _GIT, ".gitignore": _IGNORED + "net.py\n"},
            commands=("lock recipe=x", "python make.py", "release recipe=x"),
            slow=True,
        ),
    ),
    Code(
        code="B0603",
        title="what is made of real inputs is open",
        text="Untrained, seeded weights are not released, and nor is an artifact that was never tried on real data. "
        "`accept_synthetic: true` in a parity check accepts the latter.",
        example=net(commands=("release recipe=x",)),
    ),
    Code(
        code="B0604",
        title="two builds differ",
        text="The artifact is built twice in unlike surroundings, and again when it is verified. Where the bytes "
        "differ, the build depends on something that no key holds: time, order, or the toolchain. The screen "
        "names what differs.",
        example=Example(
            files={
                "net.py": "import os\n\nimport torch\n\n\ndef net():\n    torch.manual_seed(os.getpid())\n"
                "    return torch.nn.Linear(4, 2)\n",
                "recipes/x.yaml": _ACCEPTED,
                "make.py": _GIT,
                ".gitignore": _IGNORED,
            },
            commands=("lock recipe=x", "python make.py", "release recipe=x"),
            slow=True,
        ),
    ),
    Code(
        code="B0606",
        title="a folder is not a release",
        text="A release has a manifest (`SHA256SUMS`) and the documents that `release` writes.",
        example=Example(files={"folder/readme.txt": "a file\n"}, commands=("verify folder",)),
    ),
    Code(
        code="B0607",
        title="a release was changed",
        text="Files were changed, added or removed since the release was made, or the manifest itself was. The screen "
        "names them.",
        example=Example(files={"release/SHA256SUMS": "nothing\n"}, commands=("verify release",)),
    ),
    Code(
        code="B0608",
        title="documents of a release contradict each other",
        text="The provenance, the lock, `build.json` and the manifest speak of one artifact, with one digest. Here "
        "they do not, or one of them cannot be read.",
        example=Example(
            files={"make.py": _MANIFEST.replace("notes.txt", "build.json")},
            commands=("python make.py", "verify release"),
        ),
    ),
    Code(
        code="B0609",
        title="a signature is missing or wrong",
        text="`verify --key` was asked for signatures of one key, and the release has none, or others.",
        example=Example(
            files={
                "net.py": _LARGER,
                "recipes/x.yaml": _ACCEPTED.replace("[1, 4]", "[1, 64]"),
                "make.py": _GIT + _KEY,
                ".gitignore": _IGNORED,
            },
            commands=(
                "lock recipe=x",
                "python make.py",
                "release recipe=x",
                "verify outputs/releases/x/default --key outputs/key.pem",
            ),
            slow=True,
        ),
    ),
    Code(
        code="B0610",
        title="something is not as it was locked",
        text="With `--locked`, sources, data and tools are those that `builder.lock` names. The screen lists what is "
        "another; `python -m builder lock recipe=NAME` accepts that.",
        example=Example(files={"net.py": NET, "recipes/x.yaml": NET_RECIPE}, commands=("recipe=x --locked",)),
    ),
    Code(
        code="B0611",
        title="a measurement is not taken",
        text="`device take` compares digests: of the pack, of the outputs that came back, and of the artifact that the "
        "build has now. A file that is damaged, not whole, or of another build is refused, and nothing is attached.",
        example=Example(files={"device.json": "{}"}, commands=("device take device.json",)),
    ),
)
