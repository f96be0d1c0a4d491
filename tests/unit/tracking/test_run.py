"""What a run says: every setting as a parameter, every figure as a metric, what people filter by as tags."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import replace

import pytest

from builder.artifacts.record import BuildRecord
from builder.tracking.run import tracked_run


def test_settings_figures_and_tags_of_a_build(record: BuildRecord, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BUILDER_SWEEP_ID", "sweep-7")

    run = tracked_run(record)

    assert run.name == "mobilenet_v2_fp16/default"
    assert run.status == "FINISHED"
    assert run.ended_ms - run.started_ms == 12345
    assert run.params["source.weights"] == "IMAGENET1K_V2"
    assert run.params["input.image.mean"] == "[0.485, 0.456, 0.406]"
    assert run.params["output"] == "{}"
    assert run.metrics["bytes"] == 6_912_345
    assert run.metrics["seconds/convert"] == 6.4321
    assert run.metrics["ops/conv"] == 52
    assert run.metrics["parity/probabilities/snr_db"] == 48.31234
    assert run.metrics["conversion/probabilities/snr_db"] == 23.9
    assert run.metrics["compression/gptq/alone/probabilities/snr_db"] == 24.0
    assert run.metrics["compression/palettize/alone/probabilities/max_abs"] == 0.02
    assert run.metrics["compression/palettize/so_far/probabilities/snr_db"] == 22.25
    expected = {
        "recipe": "mobilenet_v2_fp16", "status": "built", "engine": "none,runtime", "seeded": "false",
        "git.dirty": "false", "sweep_id": "sweep-7", "check.accuracy": "skipped", "target": "ios16",
        "artifact.digest": "sha256:" + "ab" * 32,
    }  # fmt: skip
    assert expected.items() <= run.tags.items()


def test_figures_that_are_not_finite_become_tags(record: BuildRecord) -> None:
    run = tracked_run(record)

    assert all(map(math.isfinite, run.metrics.values()))
    assert run.tags["capture/probabilities/snr_db"] == "inf"


def test_names_and_lengths_are_what_mlflow_takes(make_record: Callable[..., BuildRecord], record: BuildRecord) -> None:
    config = {
        "substitutions": {"a[0]@x": {"kind": "replace"}, "a(0)@x": {"kind": "replace"}},
        "deep" * 100: 1,
        "labels": ["label"] * 2000,
        "": 3,
    }
    run = tracked_run(make_record(request=replace(record.request, config=config)))

    assert len(run.params) == 5
    assert all(re.fullmatch(r"[\w.\- ]{1,250}", key) for key in run.params)
    assert run.params["substitutions.a_0__x.kind"] == "replace"
    assert run.params["labels"].startswith("sha256:")
    assert run.params["labels"].endswith("see config.yaml)")
    assert max(map(len, run.params.values())) <= 6000


def test_broken_seeded_build_is_a_failed_run_that_says_so(make_record: Callable[..., BuildRecord]) -> None:
    run = tracked_run(make_record(status="broken", variant="seeded", seeded=True))

    assert run.status == "FAILED"
    assert run.tags["seeded"] == "true"
    assert "UNTRAINED WEIGHTS" in run.tags["mlflow.note.content"]


def test_one_check_on_two_engines_keeps_both_figures(
    make_record: Callable[..., BuildRecord], record: BuildRecord
) -> None:
    ours = record.checks[2]
    apples = replace(ours, engine="coreml", values={"probabilities": {"snr_db": 40.0}}, passed=False)

    run = tracked_run(make_record(checks=(ours, apples)))

    assert run.metrics["parity_runtime/probabilities/snr_db"] == 48.31234
    assert run.metrics["parity_coreml/probabilities/snr_db"] == 40.0
    assert (run.tags["check.parity_runtime"], run.tags["check.parity_coreml"]) == ("passed", "failed")
