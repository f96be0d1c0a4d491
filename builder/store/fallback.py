"""How long untrained weights may answer for published ones that could not be downloaded.

Everything else in the store holds forever; this holds while the network looks as it did (see `builder.noop`).
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, cast

from builder.artifacts.stored import Fallback, NetworkState
from builder.noop import network_state, still_offline

if TYPE_CHECKING:
    from builder.artifacts.origin import SourceOrigin

__all__ = ["evidence", "still_offline"]


HUB = "https://huggingface.co"
"""Where weights come from unless their source says another address."""


def evidence(origin: SourceOrigin) -> Fallback:
    """What a later build compares: when the fallback happened, and how the way to the server looked then."""
    url = origin.get("weights_url") or os.environ.get("HF_ENDPOINT") or HUB
    return {"at": time.time(), "url": url, "state": cast(NetworkState, network_state(url))}
