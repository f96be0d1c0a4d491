"""The table of `ci` as Markdown: a row a recipe, with what changed against the other branch."""

from __future__ import annotations

import math
from collections.abc import Iterator

from builder.cli.answers import BuiltFacts, CiAnswer, CiRecipe
from builder.reports.plain import size

_MARKS = {"built": "✅", "up to date": "✅"}


def summary_table(answer: CiAnswer, *, compared: bool) -> str:
    """Return the table, and below it why recipes failed; with differences where another branch was `compared`."""
    failed = [recipe for recipe in answer.recipes if recipe.now.exit_code]
    total = len(answer.recipes)
    head = f"{len(failed)} of {total} failed" if failed else f"all {total} passed"
    lines = [
        f"### Recipes: {head}",
        "",
        "| recipe | verdict | size | SNR | against the base |",
        "|---|---|---|---|---|",
    ]
    lines += [_row(recipe, compared=compared) for recipe in answer.recipes]
    if failed:
        lines += ["", *(f"- `{_cell(recipe.name)}`: {_cell(recipe.now.message)}" for recipe in failed)]
    return "\n".join(lines) + "\n\n"


def _row(recipe: CiRecipe, *, compared: bool) -> str:
    now, base = recipe.now, recipe.base
    cells = [
        f"`{recipe.name}`",
        f"{_MARKS.get(now.status, '❌')} {_verdict(now)}",
        "" if now.bytes is None else size(now.bytes) + _change_of_size(now, base),
        "" if now.snr_db is None else _decibels(now.snr_db) + _change_of_snr(now, base),
        _against(recipe) if compared else "",
    ]
    return f"| {' | '.join(map(_cell, cells))} |"


def _verdict(now: BuiltFacts) -> str:
    """`passed`, or the verdicts that are not, by check."""
    others = [f"{name} {verdict}" for name, verdict in now.verdicts.items() if verdict != "passed"]
    if now.exit_code:
        return "; ".join([now.status, *others])
    return "; ".join(others) or ("passed" if now.verdicts else "built, no checks")


def _against(recipe: CiRecipe) -> str:
    now, base = recipe.now, recipe.base
    if base is None:
        return "new"
    if base.exit_code and now.exit_code:
        return "failed there too"
    if base.exit_code:
        return "mended"
    return "the same bytes" if now.digest == base.digest else "changed"


def _change_of_size(now: BuiltFacts, base: BuiltFacts | None) -> str:
    if base is None or not base.bytes or now.bytes in (None, base.bytes):
        return ""
    assert now.bytes is not None
    return f" ({100 * (now.bytes / base.bytes - 1):+.1f} %)"


def _change_of_snr(now: BuiltFacts, base: BuiltFacts | None) -> str:
    if base is None or base.snr_db is None or now.snr_db is None or now.snr_db == base.snr_db:
        return ""
    change = now.snr_db - base.snr_db
    return f" ({change:+.1f} dB)" if math.isfinite(change) else f" (from {_decibels(base.snr_db)})"


def _decibels(value: float) -> str:
    return f"{value:.1f} dB" if math.isfinite(value) else "exact"


def _cell(text: str) -> str:
    """Text that neither ends a cell nor begins markup of its own."""
    return " ".join(_escaped(text))


def _escaped(text: str) -> Iterator[str]:
    for word in text.split():
        yield word.replace("|", "\\|").replace("<", "&lt;")
