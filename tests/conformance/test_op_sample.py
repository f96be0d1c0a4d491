"""A few of torch's own operators, among them those that were once silently wrong; the rest is `make conformance`."""

from __future__ import annotations

import pytest
import torch

from builder.backends.coreml.importing import import_coremltools
from tests.conformance.op_samples import DTYPES, Case, cases
from tests.conformance.op_verdict import verdicts

# fmt: off
DELICATE = (
    "addr", "amax", "atan2", "clamp", "cosine_similarity", "fmod", "index_select", "inner", "isposinf", "lerp",
    "log_softmax", "logsumexp", "masked_fill", "nn.functional.group_norm", "nn.functional.pad",
    "nn.functional.scaled_dot_product_attention", "nn.functional.softplus", "remainder", "roll", "sort", "std",
    "take_along_dim", "topk", "triu", "var", "xlogy",
)
# fmt: on
"""Operators that coremltools, or a lowering of ours, once converted to something else."""


def _sampled(dtype: str) -> list[Case]:
    import torch.testing._internal.common_methods_invocations as invocations  # takes seconds, of each worker at the top

    chosen = [op for op in invocations.op_db if op.name in DELICATE and op.supports_dtype(DTYPES[dtype], "cpu")]
    return [case for op in chosen for case in cases(op, DTYPES[dtype], 1)]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("dtype", ["float32", "int32"])
def test_delicate_operators_are_right_at_every_scale(dtype: str) -> None:
    # given a sample of each, on values of every size
    import_coremltools()
    torch.set_num_threads(1)
    sampled = _sampled(dtype)
    # when they are traced, and converted in both precisions
    found = [(sampled[index].name, way, result) for index, way, result in verdicts(sampled, ["trace"])]
    # then each gives what torch gives
    assert len({name for name, _, _ in found}) > 15
    assert [(name, way, result["why"]) for name, way, result in found if result["verdict"] != "right"] == []
