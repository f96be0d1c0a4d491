"""Compression that cannot work is refused before anything is loaded, with the change that would help."""

from __future__ import annotations

from typing import Any

import pytest

from builder.errors import Diagnostic
from builder.spec.rules.compatibility import find_incompatibilities
from tests.unit.compression.small_net import spec_for

PRUNE = {"kind": "prune", "target_sparsity": 0.5}
INT8 = {"kind": "linear_quantize"}
PALETTIZE = {"kind": "palettize"}
RELEASES = {"16": 13, "17": 14, "18": 15}
"""By the iOS release, the macOS of the same year."""


def _problems(target: str, *steps: dict[str, Any]) -> list[Diagnostic]:
    return find_incompatibilities(spec_for(target, **{f"s{index}": step for index, step in enumerate(steps)}))


@pytest.mark.parametrize(
    ("step", "least"),
    [
        (INT8, "16"),
        (INT8 | {"dtype": "uint8", "granularity": "per_tensor"}, "16"),
        (INT8 | {"dtype": "int4"}, "18"),
        (INT8 | {"granularity": "per_block", "block_size": 8}, "18"),
        (PALETTIZE, "16"),
        (PALETTIZE | {"nbits": 3}, "18"),
        (PALETTIZE | {"granularity": "per_grouped_channel"}, "18"),
        (PALETTIZE | {"cluster_dim": 2}, "18"),
        (PALETTIZE | {"enable_per_channel_scale": True}, "18"),
        (PRUNE, "16"),
        ({"kind": "prune", "n_m_ratio": [1, 2]}, "16"),
        ({"kind": "prune", "threshold": 0.1}, "16"),
        ({"kind": "quantize_activations", "data": {"kind": "noise"}}, "17"),
    ],
)
def test_each_method_names_the_least_target(step: dict[str, Any], least: str) -> None:
    # given a target that is too old, of two systems
    (problem,) = _problems("ios15", step)
    (mac,) = _problems("macos12", step)
    # then the message names the system's own release
    assert f"needs ios{least} or later, and the target is ios15" in problem.message
    assert f"needs macos{RELEASES[least]} or later" in mac.message
    # and that one is enough
    assert _problems(f"ios{least}", step) == []


@pytest.mark.parametrize(
    ("steps", "path", "message"),
    [
        ([INT8 | {"block_size": 8}], ("s0", "block_size"), "means nothing without granularity: per_block"),
        ([PALETTIZE | {"group_size": 8}], ("s0", "group_size"), "means nothing without granularity"),
        ([PALETTIZE | {"mode": "unique", "nbits": 4}], ("s0", "nbits"), "finds out itself"),
        ([PALETTIZE | {"nbits": None}], ("s0", "nbits"), "mode kmeans needs nbits"),
        ([PALETTIZE | {"mode": "uniform", "cluster_dim": 2}], ("s0", "cluster_dim"), "no tables of vectors"),
        ([{"kind": "prune"}], ("s0",), "this says none"),
        ([PRUNE | {"threshold": 0.1}], ("s0",), "this says target_sparsity and threshold"),
        ([{"kind": "prune", "n_m_ratio": [3, 2]}], ("s0", "n_m_ratio"), "3 of every 2"),
        ([PRUNE | {"minimum_sparsity": 0.1}], ("s0", "minimum_sparsity"), "means nothing without threshold"),
        ([PRUNE | {"dim": 1}], ("s0", "dim"), "means nothing without block_size or n_m_ratio"),
        ([{"kind": "prune", "threshold": 0.1, "block_size": 2}], ("s0", "block_size"), "without target_sparsity"),
        ([PALETTIZE, INT8], ("s1", "granularity"), "one scale each"),
        ([INT8 | {"dtype": "int4"}, PALETTIZE], ("s1",), "s0 makes int4"),
        ([PRUNE, PALETTIZE | {"cluster_dim": 2}], ("s1", "cluster_dim"), "no tables of vectors for sparse"),
        ([PALETTIZE | {"cluster_dim": 2}, PRUNE], ("s0", "cluster_dim"), "no tables of vectors for sparse"),
        ([PALETTIZE | {"enable_per_channel_scale": True}, PRUNE], ("s0", "enable_per_channel_scale"), "no other step"),
        ([INT8, PALETTIZE | {"enable_per_channel_scale": True}], ("s1", "enable_per_channel_scale"), "no other step"),
    ],
)
def test_what_cannot_work_is_refused(steps: list[dict[str, Any]], path: tuple[str, ...], message: str) -> None:
    (problem,) = _problems("ios18", *steps)
    assert problem.path == ("compression", *path)
    assert message in problem.message
    assert problem.hint


def test_steps_that_meet_need_ios18_and_those_that_do_not_meet_do_not() -> None:
    # given pruning and palettizing of everything
    (problem,) = _problems("ios16", PRUNE, PALETTIZE)
    assert problem.message == "compression s1 upon what s0 compressed needs ios18 or later, and the target is ios16"
    # when each has layers of its own, then iOS 16 does
    assert _problems("ios16", PRUNE | {"op_types": ["conv"]}, PALETTIZE | {"op_types": ["linear"]}) == []
