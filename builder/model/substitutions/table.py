"""Every shipped rewrite by its name."""

from __future__ import annotations

from collections.abc import Mapping

from builder.model.substitutions import shipped  # noqa: F401 - named by the table, and so in the keys of stages
from builder.model.substitutions.entry import Entry
from builder.spec.substitution_kinds import SUBSTITUTIONS
from builder.util.lazy import resolve

REWRITES: Mapping[str, Entry] = {kind.name: resolve(kind.rewrite) for kind in SUBSTITUTIONS}
