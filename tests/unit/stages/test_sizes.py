"""Branches, loops and numbers of Python that follow from a flexible size: found with their lines, never frozen."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn
from torch.nn.functional import pad

from builder.artifacts.stages import LoadedModel
from builder.backends.coreml.preflight.raised import Watch, trace_constants
from builder.data import make_examples
from builder.engine.diagnose import PreflightInput, diagnose
from builder.errors import ConversionError
from builder.stages.capture import capture
from builder.stages.prepare import prepare
from tests.unit.stages.small_builds import make_spec


class Merge(nn.Module):
    """Pads only where a side is odd, as Swin does; both ends of the range below are even."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        width = x.shape[-1]
        if width % 2 == 1:
            x = pad(x, (0, width % 2))
        return x[..., 0::2] + 2 * x[..., 1::2]


class Halves(nn.Module):
    """Leaves out the last of an odd number, but not of the ends and the default: only sizes between them show it."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if x.shape[1] % 2 == 1 and x.shape[1] not in (1, 5, 11):
            x = x[:, :-1]
        half = x.shape[1] // 2
        return x[:, :half].sum(1) - x[:, half:].sum(1)


class Loop(nn.Module):
    """Counts in Python up to a size."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        total = x[:, 0]
        for _ in range(x.shape[1]):
            total = total * 2
        return total


class Large(nn.Module):
    """Does something else beyond a size that the range has, and that no size that is tried reaches."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if x.shape[1] * 2 == 1774:
            return x.sum(1) * 2
        if x.shape[0] != 2:
            raise ValueError("two rows")
        if x.shape[1] > 100000:
            raise ValueError("too long")
        return x.sum(1)


class NotExported(Large):
    """Asks for what torch.export's tensors have not."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x.data_ptr()
        return super().forward(x)


class Shares(nn.Module):
    """Shares of a size, rounded to even."""

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        size = x.shape[1]
        return x[:, round(size * 0.3) :].sum(1), x[:, : round(size / 2)].sum(1), x[:, : round(size / 3) + 1]


class Pads(nn.Module):
    """Up to the next multiple of 8, where it is not one, as windows ask for."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if -x.shape[1] % 8 > 0:
            x = pad(x, (0, -x.shape[1] % 8))
        return x.reshape(1, -1, 8).cumsum(1)


class PadsButOnce(Pads):
    """And otherwise at one of those sizes."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x + 1 if x.shape[1] == 77 else x)


class LongestPower(nn.Module):
    """A logarithm of a size, which no way of capture has."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x[:, : int(math.log2(x.shape[1]))]


class Chunks(nn.Module):
    """As many outputs as the size is enough for: 2 of 4, 3 of 5 and more."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.stack([part.mean(1) for part in x.chunk(3, 1)], 1)


class Square(nn.Module):
    """Does something else for a picture of 17 x 17, which the shapes of its recipe leave out."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * 2 if x.shape[2] + x.shape[3] == 34 else x


class Multiples(nn.Module):
    """Refuses sizes between the ends, which an app cannot use either."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if x.shape[1] % 4:
            raise ValueError("multiples of four")
        return x.reshape(2, -1, 4).sum(2)


def patient(module: nn.Module, shape: list[object], **parts: object) -> PreflightInput:
    spec = make_spec(input={"x": {"kind": "tensor", "shape": shape}}, precision={"kind": "fp32"}, **parts)
    examples = make_examples(spec)
    loaded = LoadedModel(module=module.eval(), digest="0" * 64, origin={})
    return PreflightInput(loaded=loaded, prepared=prepare(loaded, examples, spec), examples=examples, spec=spec)


MERGE = [1, {"min": 16, "max": 32, "default": 24}]
HALVES = [2, {"min": 1, "max": 11, "default": 5}, 3]


@pytest.mark.parametrize(
    ("module", "shape", "line"),
    [
        (Merge(), MERGE, "a branch on a size in test_sizes.py:27, `if width % 2 == 1:`"),
        (Halves(), HALVES, "a branch on a size in test_sizes.py:36, `if x.shape[1] % 2 == 1 and"),
        (Loop(), HALVES, "a size as a number in test_sizes.py:47, `for _ in range(x.shape[1]):`"),
    ],
)
def test_a_trace_that_is_wrong_at_another_size_is_refused_with_the_line(
    module: nn.Module, shape: list[object], line: str
) -> None:
    given = patient(module, shape)
    watch = Watch(given.prepared.module.get_submodule("model"))
    with pytest.raises(ConversionError, match="trace froze a size: for x ") as raised:
        capture(given.prepared, given.examples, "trace", {}, watch=watch)
    assert line in raised.value.message


class Unscripted(Halves):
    """The same with something that TorchScript does not know."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        shorter = lambda y: y[:, :-1]  # noqa: E731 - as above
        if x.shape[1] % 2 == 1 and x.shape[1] not in (1, 5, 11):
            x = shorter(x)
        half = x.shape[1] // 2
        return x[:, :half].sum(1) - x[:, half:].sum(1)


@pytest.mark.parametrize("method", ["auto", "export"])
def test_a_diagnosis_names_the_line_and_no_method_that_gives_a_wrong_artifact(method: str) -> None:
    # given a model whose branch trace and export would freeze, and which cannot be compiled
    given = patient(Unscripted(), HALVES, capture={"method": method})
    # when
    best = diagnose(given).best
    # then it is found where it is, and what to do is to change the model or the range
    (obstacle,) = [each for each in best.in_the_way if each.rule == "sizes"]
    assert obstacle.sites[0].place is not None
    assert "x.shape[1] % 2 == 1" in obstacle.sites[0].place.text
    assert "froze a size" in obstacle.what
    assert obstacle.remedy is not None
    assert (obstacle.remedy.kind, obstacle.remedy.paste) == ("rewrite", None)


def test_a_script_keeps_the_branch() -> None:
    best = diagnose(patient(Halves(), HALVES, capture={"method": "auto"})).best
    assert (best.method, list(best.in_the_way)) == ("script", [])


def test_a_share_of_a_size_is_exported_as_compiled_code() -> None:
    class Share(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x[:, int(x.shape[1] * 0.3) :]

    given = patient(Share(), [1, {"min": 3, "max": 12, "default": 8}])
    captured = capture(given.prepared, given.examples, "export", {}, strict=True)
    for size in range(3, 13):
        assert captured.run(torch.ones(1, size))[0].shape == (1, size - int(size * 0.3))


@pytest.mark.parametrize(
    ("model", "ends"), [(Shares, (2, 40)), (Pads, (2, 300))], ids=["rounded to even", "padded where it must be"]
)
def test_a_program_is_right_at_every_size(model: type[nn.Module], ends: tuple[int, int]) -> None:
    given = patient(model(), [1, {"min": ends[0], "max": ends[1], "default": 16}])
    captured = capture(given.prepared, given.examples, "export", {}, strict=True)
    for size in range(ends[0], ends[1] + 1):
        x = torch.randn(1, size)
        for found, wanted in zip(captured.run(x), given.prepared.module(x), strict=True):
            torch.testing.assert_close(found, wanted)


def test_a_size_among_many_that_pad_is_found() -> None:
    given = patient(PadsButOnce(), [1, {"min": 2, "max": 300, "default": 16}])
    with pytest.raises(ConversionError, match="froze a size"):
        capture(given.prepared, given.examples, "export", {}, strict=True)


def test_a_method_is_no_remedy_where_core_ai_does_not_take_what_it_captures() -> None:
    pytest.importorskip("coreai_torch", reason="needs the extra coreai")
    shape = [1, {"min": 3, "max": 12, "default": 8}]
    best = diagnose(patient(LongestPower(), shape, format="aimodel", target={"name": "ios27"})).best
    (obstacle,) = best.in_the_way
    assert obstacle.remedy is not None
    assert obstacle.remedy.kind != "method"


def test_a_branch_goes_another_way_at_a_size_that_export_knows() -> None:
    given = patient(Large(), [2, {"min": 4, "max": 1000, "default": 8}])
    watch = Watch(given.prepared.module.get_submodule("model"))
    with pytest.raises(ConversionError, match=r"for x \(2, 887\) output of the captured program is not the model's"):
        capture(given.prepared, given.examples, "trace", {}, watch=watch)


class Looks(nn.Module):
    """Looks up what it does by a size, of which no condition tells."""

    def __init__(self) -> None:
        super().__init__()
        self.heads = nn.ModuleDict({"48": nn.Identity()})

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        head = str(x.shape[1])
        return x * {96: 0.5}.get(x.shape[1], 1.0) if head not in self.heads else -x


class Powers(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        size = int(x.shape[1])
        return x * (2.0 if size & (size - 1) == 0 else 0.5)


@pytest.mark.parametrize("module", [Looks(), Powers(), Chunks()])
def test_what_a_size_decides_without_a_branch_on_it_is_found(module: nn.Module) -> None:
    given = patient(module, [1, {"min": 4, "max": 120, "default": 30}, 2])
    with pytest.raises(ConversionError, match="froze a size"):
        capture(given.prepared, given.examples, "trace", {})


def test_of_enumerated_shapes_no_others_count() -> None:
    shapes = [[1, 1, 16, 16], [1, 1, 17, 24], [1, 1, 24, 17]]
    spec = make_spec(
        input={"x": {"kind": "tensor", "shape": shapes[0], "enumerated_shapes": shapes}}, precision={"kind": "fp32"}
    )
    examples = make_examples(spec)
    prepared = prepare(LoadedModel(module=Square(), digest="0" * 64, origin={}), examples, spec)
    assert capture(prepared, examples, "export", {}, strict=True).method == "export"


def test_a_branch_that_goes_one_way_at_all_sizes_is_not_noted() -> None:
    given = patient(Large(), [2, {"min": 4, "max": 800, "default": 8}])
    watch = Watch(given.prepared.module.get_submodule("model"))
    capture(given.prepared, given.examples, "trace", {}, watch=watch)
    assert watch.branches == []


def test_a_branch_that_no_tried_size_shows_is_noted_and_what_only_refuses_is_not() -> None:
    given = patient(NotExported(), [2, {"min": 4, "max": 1000, "default": 8}])
    watch = Watch(given.prepared.module.get_submodule("model"))
    capture(given.prepared, given.examples, "trace", {}, watch=watch)
    assert trace_constants(watch.branches) == ("a branch on a size in test_sizes.py:56, `if x.shape[1] * 2 == 1774:`",)


def test_where_all_sizes_were_tried_nothing_is_noted() -> None:
    given = patient(Large(), [2, {"min": 4, "max": 6, "default": 5}])
    watch = Watch(given.prepared.module.get_submodule("model"))
    capture(given.prepared, given.examples, "trace", {}, watch=watch)
    assert watch.branches == []


def test_sizes_that_the_model_refuses_itself_are_left_out() -> None:
    given = patient(Multiples(), [2, {"min": 4, "max": 16, "default": 8}])
    assert [sample.tensors["x"].shape[1] % 4 for sample in given.examples.between] != [0, 0, 0]
    assert capture(given.prepared, given.examples, "trace", {}).method == "trace"
    assert capture(given.prepared, given.examples, "export", {}).method == "export"


@pytest.mark.parametrize("method", ["trace", "export"])
def test_noise_is_called_so_and_no_frozen_size(method: str) -> None:
    class Noise(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x + torch.randn_like(x)

    given = patient(Noise(), [1, {"min": 2, "max": 40, "default": 16}])
    with pytest.raises(ConversionError, match="draws at random: output is another each time"):
        capture(given.prepared, given.examples, method, {}, strict=True)
