"""Class label and probabilities."""

from __future__ import annotations

from torch import Tensor

from coreml_runtime.ops.table import Kernel, Labels, table


def classify(*, probabilities: Tensor, classes: Labels) -> tuple[str | int, dict[str | int, float]]:
    """The label of the largest probability (the first of equals), and every label with its probability."""
    values = probabilities.reshape(-1).tolist()
    if len(values) != len(classes):
        raise ValueError(f"{len(values)} probabilities for {len(classes)} classes")
    best = max(range(len(values)), key=values.__getitem__)
    return classes[best], dict(zip(classes, values, strict=True))


OPS: dict[str, Kernel] = table(classify)
