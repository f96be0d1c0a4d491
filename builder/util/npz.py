"""Archives of arrays that others may have written: no pickles, no bombs, one type of error for all that is damaged."""

from __future__ import annotations

import zipfile
from typing import BinaryIO

import numpy as np

_LARGE, _MOST_FOLDED = 1 << 30, 100
"""Bytes above which the arrays of an archive are looked at, and how many times as large as it they may be at most."""


def read_npz(stream: BinaryIO) -> dict[str, np.ndarray]:
    """The arrays of an `.npz` file by name.

    Raises ValueError where it is not one, is damaged, says to hold objects, or unfolds far.
    """
    try:
        with zipfile.ZipFile(stream) as archive:
            unfolded = sum(member.file_size for member in archive.infolist())
            stored = sum(member.compress_size for member in archive.infolist())
            if unfolded > max(_LARGE, _MOST_FOLDED * stored):
                raise ValueError(f"its arrays say that they have {unfolded} bytes, of which {stored} are stored")
            found = {}
            for name in archive.namelist():
                with archive.open(name) as member:
                    array = np.lib.format.read_array(member, allow_pickle=False)  # type: ignore[no-untyped-call]  # numpy's
                found[name.removesuffix(".npy")] = array
            return found
    except Exception as error:  # zipfile, zlib, and Python's own parser of headers raise a dozen types
        raise ValueError(f"it is not a whole .npz file: {error}") from error
