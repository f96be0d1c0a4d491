"""What jobs have in common: for each stage, a digest of all that the spec says up to it."""

from __future__ import annotations

import hashlib
import json

from builder.reports.plain import plain
from builder.spec import BuildSpec
from builder.store.inputs import STAGE_INPUTS


def prefixes(spec: BuildSpec) -> dict[str, str]:
    """By stage in order, up to the artifact: jobs with the same digest get the same result there.

    Files count by name, not by content: in one sweep a name means one file.
    """
    found: dict[str, str] = {}
    sections: set[str] = set()
    for stage, reads in STAGE_INPUTS.items():
        if stage == "verify":  # every job has its own checks
            break
        sections |= set(reads)
        if spec.is_open and stage == "prepare":  # then everything decides about what follows
            sections |= set(STAGE_INPUTS["choose"])
        text = json.dumps({name: plain(getattr(spec, name)) for name in sections}, sort_keys=True)
        found[stage] = hashlib.sha256(text.encode()).hexdigest()
    return found
