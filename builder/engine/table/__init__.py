"""The stages of a build in their order, each a row with what it reads; a new stage is a file here and a line below."""

from __future__ import annotations

from builder.engine.run import Step
from builder.engine.table.capture import CAPTURE
from builder.engine.table.choose import CHOOSE
from builder.engine.table.compress import COMPRESS
from builder.engine.table.convert import CONVERT
from builder.engine.table.load import LOAD
from builder.engine.table.measure import MEASURE
from builder.engine.table.method import CAPTURE_AND_CONVERT
from builder.engine.table.prepare import PREPARE
from builder.engine.table.seal import SEAL
from builder.engine.table.verify import VERIFY

__all__ = [
    "CAPTURE", "CHOOSE", "COMPRESS", "CONVERT", "LOAD", "MEASURE", "PREPARE", "SEAL", "STAGES", "TRIAL", "VERIFY"
]  # fmt: skip

TRIAL: tuple[Step, ...] = (LOAD, PREPARE, CHOOSE, CAPTURE_AND_CONVERT, COMPRESS, SEAL, VERIFY)
"""What a build goes through that is only tried."""

STAGES: tuple[Step, ...] = (*TRIAL, MEASURE)
"""What says `auto` is decided as soon as there is a model. Where a compression is still to be decided, nobody knows
whether there will be steps to measure."""
