"""The tests whose outputs may differ by more than our limits, one by one, each with its reason."""

from fnmatch import fnmatchcase

_LAYERS = "*test_numpy_nn_layers.py::"
_LRN = "*TestNormalizationLocalResponseNorm::test_builder_to_backend_stress*"
_LRN_REASON = (
    "the expectation normalises along axis 1 as torch does; the hand-computed smoke test of the operator, which we "
    "pass strictly, shows that Core ML does it along axis -3; they differ by the small effect of the operator"
)

EXCEPTIONS: tuple[tuple[str, str, float, str], ...] = (
    (_LRN, "fp32", 3e-2, _LRN_REASON),
    (_LRN, "fp16", 3e-2, _LRN_REASON),
    (
        "*test_recurrent.py::Test*", "fp16", 1e-2,
        "the expectation is computed from weights before they are rounded to half, and each step adds to the error",
    ),
    (
        "*TestElementwiseUnary::test_builder_to_backend_smoke*mode=inverse*", "fp32", 2e-4,
        "the operator computes 1 / (x + 1e-4) unless told otherwise, the expectation leaves out the epsilon",
    ),
    (
        _LAYERS + "SimpleTest::test_tiny_upsample_linear_mode", "fp32", 1e-3,
        "the expectation is written with four digits (1.333 for 4/3)",
    ),
    (
        _LAYERS + "NewLayersSimpleTest::test_gelu_activation", "fp32", 2e-2,
        "the test compares the two approximations of gelu with the exact formula",
    ),
    (
        _LAYERS + "SimpleTest::test_unary_inverse", "fp32", 2e-4,
        "the layer computes 1 / (x + epsilon), the expectation leaves out the epsilon",
    ),
)  # fmt: skip
"""(pattern of test ids, precision, limit relative to the output's range, reason)."""

_CROP = "*test_image_resizing.py::TestCropResize::test_builder_to_backend_"
_CROP_REASON = (
    "one of 12 elements is written 7.899; the picture holds 1 + 4 y + x, and at (1.5, 0.9) that is 1 + 6 + 0.9 = 7.9"
)

EXPLAINED: tuple[tuple[str, str], ...] = (
    (_CROP + "ios16*precision='fp32'*", _CROP_REASON),
    (_CROP + "ios17*precision='fp32'*-N=3]", _CROP_REASON),
    (
        "*iOS15/test_image_resizing.py::TestResample::test_builder_to_backend_smoke*precision='fp32'*",
        "after comparing a prediction, which agrees, the test counts two casts; only the fp16 pipeline inserts any",
    ),
)
"""(pattern of test ids, reason) of failures by a wrong expectation, each shown by computing it."""


def explanation(test: str) -> str | None:
    """Why the test fails through no fault of the runtime, if that is known."""
    return next((reason for pattern, reason in EXPLAINED if fnmatchcase(test, pattern)), None)


def loosened(test: str, precision: str, limit: float) -> float:
    """The limit for this test."""
    for pattern, which, value, _ in EXCEPTIONS:
        if which == precision and fnmatchcase(test, pattern):
            return value
    return limit
