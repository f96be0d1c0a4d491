"""The command as `python -m coreml_runtime`."""

from __future__ import annotations

import sys

from coreml_runtime.cli import main

if __name__ == "__main__":
    sys.exit(main())
