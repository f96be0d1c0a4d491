"""The fixed sample of Apple's tests: each operator and each layer kind passes, and a wrong kernel does not."""

import json
import subprocess
from pathlib import Path

import pytest

from tests import warm
from tests.conformance import results
from tests.conformance.__main__ import _ROOT, environment, pytest_command
from tests.conformance.plugin import read_sample
from tests.conformance.suites import SUITES

_SAMPLE = Path(__file__).with_name("sample.tsv")


def run_sample(folder: Path, *options: str) -> list[dict[str, object]]:
    out = folder / "out.jsonl"
    modules = [module for suite in SUITES for module in suite.modules]
    command = [warm.python(), *pytest_command(modules, out, f"--conformance-list={_SAMPLE}", *options)[1:]]
    done = subprocess.run(command, cwd=_ROOT, env=environment(folder), capture_output=True, text=True, timeout=540)
    assert done.returncode in (0, 1), done.stdout[-4000:] + done.stderr[-4000:]
    return [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]


@pytest.mark.timeout(600)
def test_every_test_of_the_sample_predicts_and_passes(tmp_path: Path) -> None:
    # given the tests that the full run was reduced to
    sample = read_sample(_SAMPLE)
    # when they run on the runtime
    found = run_sample(tmp_path)
    # then each of them made a prediction that was compared and right
    wrong = [(r["test"], r["kind"], r["detail"] or r["reason"]) for r in found if r["kind"] != results.PREDICTED]
    assert not wrong
    assert {r["test"] for r in found} == set(sample)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_wrong_kernel_in_any_family_is_caught(tmp_path: Path) -> None:
    # given kernels that are made wrong one family at a time
    # when the sample runs on them
    (outcome,) = run_sample(tmp_path, "--conformance-mutate")
    # then a test fails for each family
    assert outcome["families"]
    assert outcome["missed"] == []


def test_the_sample_covers_every_layer_kind() -> None:
    from coreml_runtime.nn import layers

    # given what the tests of the sample run
    covered = set().union(*read_sample(_SAMPLE).values())
    # then every layer kind is among them, but for those that none of Apple's tests reaches
    missing = {name for name in layers() if f"nn:{name}" not in covered}
    assert missing <= UNREACHED


UNREACHED = {
    "average", "dot", "flatten", "permute", "reduce", "resizeBilinear", "sequenceRepeat", "softmax",
    "randomNormalLike",
}  # fmt: skip
"""Layer kinds that none of Apple's tests predicts with here, or only one that takes a minute (the last).

tests/runtime/test_nn_layers.py holds them against their formulas.
"""
