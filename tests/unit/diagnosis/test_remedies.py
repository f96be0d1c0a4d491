"""What is advised can be followed by whoever has this kind of source."""

from __future__ import annotations

from builder.backends.coreml.preflight.obstacles import Obstacle
from builder.backends.coreml.preflight.remedies import reason

OBSTACLE = Obstacle(rule="operator", what="has no lowering", severity="stops", operator="fft_fft")


def test_a_program_has_no_modules_to_replace() -> None:
    said = reason(OBSTACLE, has_modules=False).summary
    assert said.endswith("Core ML has no Fourier transform of this kind: compute it outside of the model")
    assert "`kind: replace`" in reason(OBSTACLE, has_modules=True).summary
