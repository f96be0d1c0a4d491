"""Which files are pictures, whatever their names say."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path
    from typing import BinaryIO

    from PIL.Image import Image

FORMATS = ("AVIF", "BMP", "GIF", "JPEG", "JPEG2000", "MPO", "PNG", "PPM", "TGA", "TIFF", "WEBP")
"""Pillow hands others (EPS) to a program (Ghostscript)."""


def opened_picture(source: Path | BinaryIO) -> Image:
    """Open a picture file that is of `FORMATS`; raises as `PIL.Image.open` does."""
    from PIL import Image

    Image.init()
    return Image.open(source, formats=[name for name in FORMATS if name in Image.OPEN])
