"""Every lowering of ours, by the operator's name."""

from __future__ import annotations

from builder.backends.coreml.lowerings.activation import ACTIVATION
from builder.backends.coreml.lowerings.assignment import ASSIGNMENT
from builder.backends.coreml.lowerings.attention import ATTENTION
from builder.backends.coreml.lowerings.casts import CASTS
from builder.backends.coreml.lowerings.cells import CELLS
from builder.backends.coreml.lowerings.complex import COMPLEX
from builder.backends.coreml.lowerings.composed import COMPOSED
from builder.backends.coreml.lowerings.computed import COMPUTED
from builder.backends.coreml.lowerings.counting import COUNTING
from builder.backends.coreml.lowerings.detection import DETECTION
from builder.backends.coreml.lowerings.einsum import EINSUM
from builder.backends.coreml.lowerings.elementwise import ELEMENTWISE
from builder.backends.coreml.lowerings.embedding import EMBEDDING
from builder.backends.coreml.lowerings.flexible_resizing import FLEXIBLE_RESIZING
from builder.backends.coreml.lowerings.flexible_sizes import FLEXIBLE_SIZES
from builder.backends.coreml.lowerings.fourier import FOURIER
from builder.backends.coreml.lowerings.indexed_pooling import INDEXED_POOLING
from builder.backends.coreml.lowerings.integer import INTEGER
from builder.backends.coreml.lowerings.likes import LIKES
from builder.backends.coreml.lowerings.limits import LIMITS
from builder.backends.coreml.lowerings.logarithms import LOGARITHMS
from builder.backends.coreml.lowerings.lowering import Lowering, by_operator
from builder.backends.coreml.lowerings.masks import MASKS
from builder.backends.coreml.lowerings.matrices import MATRICES
from builder.backends.coreml.lowerings.mean_pooling import MEAN_POOLING
from builder.backends.coreml.lowerings.moved import MOVED
from builder.backends.coreml.lowerings.normalization import NORMALIZATION
from builder.backends.coreml.lowerings.order import ORDER
from builder.backends.coreml.lowerings.packed import PACKED
from builder.backends.coreml.lowerings.padding import PADDING
from builder.backends.coreml.lowerings.pooling import POOLING
from builder.backends.coreml.lowerings.quantized import QUANTIZED
from builder.backends.coreml.lowerings.reduction import REDUCTION
from builder.backends.coreml.lowerings.resampling import RESAMPLING
from builder.backends.coreml.lowerings.scattering import SCATTERING
from builder.backends.coreml.lowerings.shape import SHAPE
from builder.backends.coreml.lowerings.signs import SIGNS
from builder.backends.coreml.lowerings.solving import SOLVING
from builder.backends.coreml.lowerings.sorting import SORTING
from builder.backends.coreml.lowerings.special import SPECIAL
from builder.backends.coreml.lowerings.statistics import STATISTICS
from builder.backends.coreml.lowerings.training import TRAINING
from builder.backends.coreml.lowerings.transposed_convolution import TRANSPOSED_CONVOLUTION
from builder.backends.coreml.lowerings.truths import TRUTHS
from builder.backends.coreml.lowerings.volumes import VOLUMES
from builder.backends.coreml.lowerings.windows import WINDOWS

LOWERINGS = by_operator(
    ACTIVATION,
    ASSIGNMENT,
    ATTENTION,
    CASTS,
    CELLS,
    COMPLEX,
    COMPOSED,
    COMPUTED,
    COUNTING,
    DETECTION,
    EINSUM,
    ELEMENTWISE,
    EMBEDDING,
    FLEXIBLE_RESIZING,
    FLEXIBLE_SIZES,
    FOURIER,
    INTEGER,
    LIKES,
    LIMITS,
    LOGARITHMS,
    MASKS,
    MATRICES,
    MOVED,
    NORMALIZATION,
    ORDER,
    PACKED,
    PADDING,
    POOLING,
    QUANTIZED,
    REDUCTION,
    RESAMPLING,
    SCATTERING,
    SHAPE,
    SIGNS,
    SOLVING,
    MEAN_POOLING,
    VOLUMES,
    SPECIAL,
    INDEXED_POOLING,
    SORTING,
    STATISTICS,
    TRAINING,
    TRANSPOSED_CONVOLUTION,
    TRUTHS,
    WINDOWS,
)


def known_lowerings() -> tuple[Lowering, ...]:
    """All of them, in the order of their operators."""
    return tuple(LOWERINGS.values())
