"""Keeps libraries from telling their makers what is built: names and digests of models are nobody's but the user's."""

from __future__ import annotations

import os

_SETTINGS = {
    "ORT_DISABLE_TELEMETRY": "1",  # onnxruntime since 1.29: names of the file and the graph, digests of its weights
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "HF_HUB_DISABLE_TELEMETRY": "1",
}
"""What the libraries read while they are imported; who sets one of these has decided."""


def disable_telemetry() -> None:
    """Make this process, and those that it starts, send nothing but what the user asked for."""
    for name, value in _SETTINGS.items():
        os.environ.setdefault(name, value)
