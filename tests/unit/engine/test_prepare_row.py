"""What of a prepared model decides about the artifact."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from builder.artifacts.stages import PreparedFacts
from builder.engine.table.prepare import names_digest


def test_files_that_store_equal_weights_in_other_forms_are_not_converted_alike() -> None:
    # given what is known of two finished files, such as one with palettes and the same one decompressed
    facts = [PreparedFacts(output_names=("y",), labels=None, file=f"sha256:{name}") for name in "ab"]
    stages: list[Any] = [SimpleNamespace(facts=each) for each in facts]
    # then
    assert names_digest(stages[0]) != names_digest(stages[1])
