"""Inputs to trace, calibrate and check with: what each kind of data gives to each input, the same for one seed."""

from __future__ import annotations

from builder.data.collection import Samples
from builder.data.drawing import levels
from builder.data.examples import make_examples
from builder.data.samples import draw_samples
from builder.spec.coverage import default_data

__all__ = ["Samples", "default_data", "draw_samples", "levels", "make_examples"]
