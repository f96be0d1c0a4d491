"""Photographs the report of a build with headless Chromium, for README and site: `python -m tools.screenshots`.

Chromium is taken from the path. The picture is committed; it is current when this has run.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image

import builder

IMAGES = Path(__file__).resolve().parents[1] / "docs" / "images"
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
SIZE = (1000, 1320)
_COLORS = 64
"""Enough for a page of text, and a third of the bytes."""


def photograph(page: str, file: Path, size: tuple[int, int]) -> None:
    """Write a PNG of the top of a page (a URL), `size` pixels wide and high; raises OSError without a browser."""
    browser = next((found for name in BROWSERS if (found := shutil.which(name))), None)
    if browser is None:
        raise OSError(f"none of {', '.join(BROWSERS)} is on the path")
    options = ("--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--virtual-time-budget=8000")
    place = (f"--window-size={size[0]},{size[1]}", f"--screenshot={file}")
    subprocess.run([browser, *options, *place, page], check=True, capture_output=True, timeout=120)
    picture = Image.open(file).convert("RGB").quantize(_COLORS)
    picture.save(file, optimize=True)


def main() -> int:
    """Build the digits and photograph their report."""
    with tempfile.TemporaryDirectory() as folder:
        record = builder.build("digits_mobilenet", "tracking=none", outputs=folder)
        report = record.artifact.path.with_name("report.html").absolute()
        photograph(report.as_uri(), IMAGES / "report.png", SIZE)
    return 0


if __name__ == "__main__":
    sys.exit(main())
