"""Why a stage has no stored result: one line for each thing that differs, not for each of its values."""

from __future__ import annotations

from builder.store.explain import ABSENT, Change, format_changes

STEP = {"kind": "palettize", "nbits": 4, "names": None}


def change(label: str, old: object, new: object) -> Change:
    return Change(label=label, old=old, new=new)


def test_a_section_that_is_new_or_gone_is_one_line() -> None:
    # given a step that comes, another that goes, and two values of a third
    changes = [
        change("spec compression", "{}", ABSENT),
        *(change(f"spec compression.palettize.{name}", ABSENT, value) for name, value in STEP.items()),
        *(change(f"spec classifier.labels.{place}", name, ABSENT) for place, name in enumerate("abc")),
        change("spec input.image.mean", 0.5, None),
        change("spec input.image.std", 0.5, 0.4),
    ]
    # then
    assert format_changes(changes) == [
        "spec compression.palettize: (none) -> palettize",
        "spec classifier.labels: 3 values -> (none)",
        "spec input.image.mean: 0.5 -> None",
        "spec input.image.std: 0.5 -> 0.4",
    ]


def test_what_follows_from_an_earlier_stage_comes_last_and_a_long_list_is_cut() -> None:
    changes = [change("after convert", "sha256:1", "sha256:2"), change("target", "ios15", "ios16")]
    assert format_changes(changes) == ["target: ios15 -> ios16", "after convert: sha256:1… -> sha256:2…"]
    many = [change(f"file {number:02}", ABSENT, number) for number in range(12)]
    assert format_changes(many)[-2:] == ["file 09: (none) -> 9", "and 2 more differences"]
    assert format_changes(many[:11])[-1] == "file 10: (none) -> 10"
    assert format_changes(None) == ["never built before"]
