"""What must hold before an artifact is called built: named checks, each with its limits."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from builder.spec.base import Limit, Part, PositiveInt
from builder.spec.data import Data, DataName

Seconds = Annotated[float, Field(ge=0)]
PositiveSeconds = Annotated[float, Field(gt=0)]


class StructureCheck(Part):
    """The artifact loads, and has the declared names, shapes, dtypes and labels."""

    kind: Literal["structure"]
    bytes: Limit | None = None
    """The size of the artifact on disk, in bytes."""


class ComparisonLimits(Part):
    """Limits on the worst value over all outputs and samples; those not given follow the precision."""

    max_abs: Limit | None = None
    """Largest absolute difference."""
    relative_error: Limit | None = None
    """Largest absolute difference divided by the largest magnitude of the reference."""
    snr_db: Limit | None = None
    """Signal-to-noise ratio in decibels, over one output of one sample."""
    psnr_db: Limit | None = None
    """Peak signal-to-noise ratio in decibels: the largest magnitude of the reference against the noise."""
    cosine: Limit | None = None
    """Cosine similarity of reference and result."""
    agreement: Limit | None = None
    """Share of equal values, 0 to 1, of an integer output; the other limits but `max_abs` are for outputs of floats."""
    top1_agreement: Limit | None = None
    """Share of samples in which both name the same best class, 0 to 1."""
    top5_agreement: Limit | None = None
    """Share of samples in which the reference's best class is among the five best of the result, 0 to 1."""
    nan_count: Limit | None = None
    """Values of the result that are not a number, over all samples; none are allowed unless given."""
    overflow_count: Limit | None = None
    """Values of the result that are infinite or beyond 65504, the largest in half precision, over all samples."""


class CaptureCheck(ComparisonLimits):
    """The captured program computes what the eager model computes."""

    kind: Literal["capture"]
    samples: PositiveInt = 3


class ParityCheck(ComparisonLimits):
    """The sealed artifact, executed, computes what the original model computes."""

    kind: Literal["parity"]
    samples: PositiveInt | None = None
    """How many samples to take; all of your own unless given, 4 of data that comes along, such as photographs."""
    data: DataName | Data | None = None
    """Where samples come from, in place or by its name under `data`; photographs for image inputs and noise for
    tensors unless given."""
    seconds: PositiveSeconds = 60.0
    """For how long samples of your own are taken where `samples` is not given; the record says how many those were."""
    stress: bool = True
    """Whether stress inputs are tried besides: values and sizes that data seldom has, within what inputs declare."""
    search: Seconds | None = None
    """For how many seconds the input is sought on which artifact and original differ most; 0 for no search.

    Unless given, at most 10, and at most a tenth of the time that the build took; where there is data for every
    input, a small share of what the check takes.
    """
    accept_synthetic: bool = False
    """Lets `release` accept that no data is given for some array input, so that real inputs were never tried."""
    boxes_matched: Limit | None = None
    """Share of the boxes that both keep after non-maximum suppression, 0 to 1: of the same class, in the same place
    (intersection over union of at least 0.9, or edges at most 0.002 of the picture apart). For detectors."""


class AccuracyCheck(Part):
    """The sealed artifact, executed, classifies labelled data as well as the original."""

    kind: Literal["accuracy"]
    data: DataName | Data
    """Labelled data, in place or by its name under `data`."""
    samples: PositiveInt | None = None
    """How many samples to take; all unless given."""
    accuracy: Limit | None = None
    """The artifact's share of right answers, 0 to 1."""
    original_accuracy: Limit | None = None
    """The original's, which says whether the data is what the model was made for."""
    drop: Limit | None = None
    """The original's accuracy less the artifact's."""
    top5_accuracy: Limit | None = None
    """The artifact's share of samples whose right answer is among its five best, 0 to 1."""
    top5_drop: Limit | None = None
    """The original's share of those less the artifact's."""
    top1_agreement: Limit | None = None
    """Share of samples in which both give the same answer, right or wrong, 0 to 1."""
    top5_agreement: Limit | None = None
    """Share of samples in which the original's answer is among the five best of the artifact, 0 to 1."""
