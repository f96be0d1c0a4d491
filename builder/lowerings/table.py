"""Every lowering of ours, by the operator's name."""

from __future__ import annotations

from builder.lowerings.assignment import ASSIGNMENT
from builder.lowerings.attention import ATTENTION
from builder.lowerings.complex import COMPLEX
from builder.lowerings.detection import DETECTION
from builder.lowerings.elementwise import ELEMENTWISE
from builder.lowerings.embedding import EMBEDDING
from builder.lowerings.integer import INTEGER
from builder.lowerings.lowering import Lowering, by_operator
from builder.lowerings.masks import MASKS
from builder.lowerings.matrices import MATRICES
from builder.lowerings.normalization import NORMALIZATION
from builder.lowerings.order import ORDER
from builder.lowerings.packed import PACKED
from builder.lowerings.padding import PADDING
from builder.lowerings.pooling import POOLING
from builder.lowerings.reduction import REDUCTION
from builder.lowerings.resampling import RESAMPLING
from builder.lowerings.scattering import SCATTERING
from builder.lowerings.shape import SHAPE
from builder.lowerings.transposed_convolution import TRANSPOSED_CONVOLUTION
from builder.lowerings.windows import WINDOWS

LOWERINGS = by_operator(
    ASSIGNMENT,
    ATTENTION,
    COMPLEX,
    DETECTION,
    ELEMENTWISE,
    EMBEDDING,
    INTEGER,
    MASKS,
    MATRICES,
    NORMALIZATION,
    ORDER,
    PACKED,
    PADDING,
    POOLING,
    REDUCTION,
    RESAMPLING,
    SCATTERING,
    SHAPE,
    TRANSPOSED_CONVOLUTION,
    WINDOWS,
)


def known_lowerings() -> tuple[Lowering, ...]:
    """All of them, in the order of their operators."""
    return tuple(LOWERINGS.values())
