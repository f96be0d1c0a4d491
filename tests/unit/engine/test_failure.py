"""How a build ends that missed a limit: where its files are, if they stay."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from builder.artifacts.record import BuildRecord
from builder.engine.failure import require_built
from builder.errors import CheckError
from builder.release.job import _lasting


@pytest.mark.parametrize("stays", [True, False])
def test_an_error_names_a_folder_only_where_it_stays(
    stays: bool, make_record: Callable[..., BuildRecord], tmp_path: Path
) -> None:
    # given a build that missed a limit, in a folder that stays or in one that a lock made for itself
    record = make_record()
    missed = replace(record.checks[0], passed=False, reason="too far")
    record = replace(record, status="broken", checks=(missed,))
    # when its end is told
    with pytest.raises(CheckError, match="too far") as caught:
        require_built(record, tmp_path / "outputs", stays=stays)
    # then the way to the report is one that can be gone
    assert (str(tmp_path) in caught.value.message) is stays
    command = f"`python -m builder recipe={record.request.recipe}"
    assert str(caught.value.hint).startswith(command) is not stays


def test_a_hint_of_a_job_does_not_lead_into_its_folder() -> None:
    assert (
        _lasting("use fp32; all that was said is in /tmp/room/outputs/x/build.log", "/tmp/room/outputs") == "use fp32"
    )
    assert _lasting("all that was said is in /tmp/room/outputs/x/build.log", "/tmp/room/outputs") is None
    assert _lasting(None, "/tmp/room/outputs") is None
