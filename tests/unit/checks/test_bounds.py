"""What a running check says of its end always holds: a search may stop a build by it and lose nothing."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from builder.checks.bounds import accuracy_bounds, output_sizes, parity_bounds
from builder.checks.comparison import judge

VALUES = st.lists(st.floats(-4, 4, width=32), min_size=3, max_size=3)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(VALUES, VALUES, VALUES, VALUES), min_size=1, max_size=5))
def test_the_final_parity_is_never_better_than_an_earlier_bound(samples):
    # given samples with two outputs, of which one or both may prove nothing
    references = [{"a": torch.tensor(a), "b": torch.tensor(b)} for a, b, _, _ in samples]
    results = [{"a": torch.tensor(a), "b": torch.tensor(b)} for _, _, a, b in samples]

    # when they are judged, and bounds are asked for after each sample
    report = judge(
        name="p", kind="parity", engine="runtime", references=references, results=results, scores=None, limits={}
    )
    sizes = output_sizes(references)
    bounds = [parity_bounds("p", sizes, *pair) for pair in zip(references, results, strict=True)]

    # then the final values keep within all of them, and nothing was said of what proves nothing
    for name, bound in [entry for found in bounds for entry in found.items()]:
        _, _, output, measure = name.split(".")
        final = report.values[output]
        assert "not_meaningful" not in final
        assert bound.at_least is None or final[measure] >= bound.at_least
        assert bound.at_most is None or final[measure] <= bound.at_most


def test_nothing_bounds_what_proves_nothing_and_each_sample_the_rest():
    references = [{"a": torch.tensor([1.0, 2.0])}, {"a": torch.tensor([3.0, 4.0])}]
    results = [{"a": torch.tensor([1.0, 2.5])}, {"a": torch.tensor([3.0, 4.25])}]
    assert output_sizes([references[0], references[0]]) == {}
    sizes = output_sizes(references)
    assert parity_bounds("p", sizes, references[0], results[0])["checks.p.a.max_abs"].at_least == 0.5
    assert parity_bounds("p", sizes, references[1], results[1])["checks.p.a.max_abs"].at_least == 0.25


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=30))
def test_the_final_accuracy_and_drop_keep_within_every_bound(answers):
    total = len(answers)
    right = [sum(mine for mine, _ in answers[:k]) for k in range(total + 1)]
    original = [sum(theirs for _, theirs in answers[:k]) for k in range(total + 1)]
    for done in range(1, total + 1):
        bounds = accuracy_bounds("c", right[done], original[done], done, total)
        at_most, at_least = bounds["checks.c.accuracy"].at_most, bounds["checks.c.drop"].at_least
        assert at_most is not None
        assert at_least is not None
        assert right[-1] / total <= at_most
        assert (original[-1] - right[-1]) / total >= at_least
    assert at_most == right[-1] / total  # and in the end they are the values
    assert at_least == (original[-1] - right[-1]) / total
