"""A sweep's command line becomes the arguments of every job, with Hydra's own syntax."""

from __future__ import annotations

import pytest

from builder.config.compose import sweep
from builder.errors import ConfigurationError
from tests.unit.config.conftest import LEAST, Write


@pytest.mark.parametrize(
    ("arguments", "jobs"),
    [
        (["recipe=x"], [("recipe=x",)]),
        (["recipe=x", "precision=fp32,fp16"], [("recipe=x", "precision=fp32"), ("recipe=x", "precision=fp16")]),
        (["recipe=x", "seed=range(1,3)"], [("recipe=x", "seed=1"), ("recipe=x", "seed=2")]),
        (["recipe=x", "seed=choice(5,7)"], [("recipe=x", "seed=5"), ("recipe=x", "seed=7")]),
        (["recipe=glob(y*)", "~source.weights"], [("recipe=y1", "~source.weights"), ("recipe=y2", "~source.weights")]),
        (["recipe=glob(y*,exclude=*2)"], [("recipe=y1",)]),
        (["recipe=x", "precision=glob(fp*)"], [("recipe=x", "precision=fp16"), ("recipe=x", "precision=fp32")]),
        (
            ["recipe=x,y1", "seed=1,2"],
            [("recipe=x", "seed=1"), ("recipe=x", "seed=2"), ("recipe=y1", "seed=1"), ("recipe=y1", "seed=2")],
        ),
    ],
)
def test_sweeps_expand(arguments: list[str], jobs: list[tuple[str, ...]], write: Write) -> None:
    for name in ("x", "y1", "y2"):
        write(f"recipes/{name}.yaml", LEAST)
    assert sweep(arguments) == jobs


def test_glob_of_all_finds_the_shipped_recipes_too(write: Write) -> None:
    write("recipes/x.yaml", LEAST)
    jobs = sweep(["recipe=glob(*)"])
    assert ("recipe=x",) in jobs
    assert ("recipe=mobilenet_v2_fp16",) in jobs


def test_a_glob_without_a_match_is_an_error(write: Write) -> None:
    write("recipes/x.yaml", LEAST)
    with pytest.raises(ConfigurationError, match="nothing matches"):
        sweep(["recipe=glob(zzz*)"])


@pytest.mark.parametrize("values", ["range(0,1000000000)", "range(0,1,1e-12)"])
def test_a_sweep_is_counted_before_it_is_made(values):
    from builder.config.hydra.overrides import MOST_JOBS, expand_sweep

    for written in (values, f"shuffle({values})", f"sort({values},reverse=true)"):
        found = expand_sweep([f"seed={written}"], None)
        assert isinstance(found, list)
        assert f"at most {MOST_JOBS} jobs" in found[0].message


@pytest.mark.parametrize("values", ["range(nan,1)", "range(0,inf)", "range(0,1,nan)", "range(1,5,0)", "range(1,5,0.0)"])
def test_a_range_without_an_end_is_refused(values):
    from builder.config.hydra.overrides import expand_sweep

    found = expand_sweep([f"seed={values}"], None)
    assert isinstance(found, list)
    assert "finite ends" in found[0].message


@pytest.mark.parametrize(("values", "count"), [("range(5,1,-2)", 2), ("range(0,1,0.25)", 4), ("shuffle(range(3))", 3)])
def test_a_range_that_ends_has_its_values(values, count):
    assert len(sweep(["recipe=x", f"seed={values}"])) == count
