"""What holds for the whole process of a command: signals, closed streams, threads, a working directory that exists."""

from __future__ import annotations

import gc
import os
import signal
import sys
import threading
from pathlib import Path

from builder.errors import UnfitEnvironmentError
from builder.util.telemetry import disable_telemetry


def setup_process() -> None:
    """Make this process fit for a command; raises UnfitEnvironmentError where its working directory is gone."""
    # Threads that wait by spinning make a build on a busy machine 20 times slower; read when torch loads OpenMP.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    # Looking through all installed packages for plugins is a twentieth of a cached build.
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
    disable_telemetry()
    # A build makes millions of objects that live on: looking for cycles as often as usual took a tenth of its time.
    gc.set_threshold(50_000, 20, 50)
    if threading.current_thread() is threading.main_thread():
        interrupt = signal.getsignal(signal.SIGINT)  # as Ctrl-C: nothing half done is left behind
        for number in (signal.SIGTERM, signal.SIGHUP):
            if callable(interrupt) and signal.getsignal(number) is not signal.SIG_IGN:  # as nohup asks for
                signal.signal(number, interrupt)
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # closed by the caller (`>&-`); what is said to it goes nowhere
            setattr(sys, name, Path(os.devnull).open("w", encoding="utf-8"))  # noqa: SIM115  open while we are
    try:
        Path.cwd()
    except OSError as error:
        raise UnfitEnvironmentError(
            f"the working directory is gone: {error.strerror}", code="B0706", hint="`cd` to one that exists"
        ) from error
