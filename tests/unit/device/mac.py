"""A stand-in for a Mac that ssh reaches: `ssh` and `scp` in a folder for PATH, which work on this machine.

The script of the pack runs as it would there, on coremltools' own API; builder's runtime answers in Apple's place.
"""

from __future__ import annotations

import sys
from pathlib import Path

from tests import warm

ROOT = Path(__file__).parents[3]
_SSH = """\
#!{starter}
import os, subprocess, sys, time
arguments = sys.argv[1:]
separator = arguments.index("--")
host, command = arguments[separator + 1 : separator + 3]
assert arguments[:separator][:2] == ["-o", "BatchMode=yes"], arguments
if os.environ.get("MAC_HANGS", "nowhere") in command:
    if mark := os.environ.get("MAC_MARK"):
        open(mark, "w").close()
    time.sleep(600)
if host == "stranger":
    sys.exit("Host key verification failed.")
environment = dict(os.environ, PYTHONPATH={path!r}, BUILDER_DEVICE_STAND_IN="1")
command = command.replace("python3 ", {python!r} + " ", 1)
if "MAC_UNITS" in os.environ:
    command = command.replace("measure.py", "measure.py --units " + os.environ["MAC_UNITS"])
sys.exit(subprocess.run(["sh", "-c", command], env=environment, cwd={home!r}).returncode)
"""
_SCP = """\
#!{starter}
import glob, os, shutil, sys
arguments = sys.argv[1:]
*sources, target = [each.partition(":")[2] or each for each in arguments[arguments.index("--") + 1 :]]
for pattern in sources:
    found = glob.glob(pattern)
    if not found:
        sys.exit("scp: " + pattern + ": No such file or directory")
    for source in found:
        place = os.path.join(target, os.path.basename(source)) if os.path.isdir(target) else target
        (shutil.copytree if os.path.isdir(source) else shutil.copy)(source, place)
        half = os.environ.get("MAC_HALVES")
        if half and source.endswith(half):
            with open(place, "rb+") as file:
                file.truncate(os.path.getsize(place) // 2)
"""
_SITE = "import warnings\nimport coreml_runtime\nwarnings.simplefilter('ignore')\ncoreml_runtime.install()\n"


def write_mac(folder: Path) -> Path:
    """Write the programs, and return the folder that goes in front of PATH."""
    home, programs, site = folder / "mac", folder / "programs", folder / "site"
    for each in (home, programs, site):
        each.mkdir()
    (site / "sitecustomize.py").write_text(_SITE)
    path = f"{site}:{ROOT}:{ROOT / 'runtime'}"
    values = {"starter": sys.executable, "python": warm.python(), "path": path, "home": str(home)}
    for name, text in (("ssh", _SSH), ("scp", _SCP)):
        file = programs / name
        file.write_text(text.format(**values))
        file.chmod(0o755)
    return programs
