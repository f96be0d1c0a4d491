"""Bytes, sizes, loops and choices of programs, and what a build, its tables and the lint say of costs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import coremltools as ct
import numpy as np
import pytest
import torch
from coremltools.converters.mil.mil import Builder as mb  # noqa: N813 - the name that everybody gives it
from torch import nn

from builder.__main__ import main
from builder.analysis.costs.analyse import analyse_costs
from builder.analysis.costs.screen import format_costs
from builder.artifacts.costs import Costs, costs_of
from builder.jobs.table import Row, figure_text
from builder.runtime import load
from builder.search.measures import known_measures, value_of
from builder.spec import BuildSpec
from tests.runtime.programs import save_program


def cost(path: Path) -> Costs:
    (found,) = analyse_costs(path)
    return found


def weight(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal(shape).astype(np.float16)


def test_bytes_are_those_of_the_program(tmp_path: Path) -> None:
    # given x (1, 4, 8) in half: a product with a weight (6, 4) and a bias, both used twice, sums, and a view
    shared = weight(6, 4)

    def build(x: Any) -> Any:
        held, bias = mb.const(val=shared), mb.const(val=weight(6))
        turned = mb.transpose(x=x, perm=(0, 2, 1))
        first, second = (
            mb.linear(x=turned, weight=held, bias=bias),
            mb.linear(x=mb.relu(x=turned), weight=held, bias=bias),
        )
        return mb.reshape(x=mb.add(x=mb.add(x=first, y=second), y=np.float16(1.5)), shape=(1, 48))

    found = cost(save_program(tmp_path, build, {"x": ((1, 4, 8), "fp16")}, precision="fp16"))
    # then weights count once in total, and for each of their readers
    assert [each.weights_stored for each in found.operators if each.operator == "linear"] == [2 * (6 * 4 + 6)] * 2
    assert found.weights_stored == found.weights_computed == 2 * (6 * 4 + 6) + 2
    # and each operator reads and writes its tensors, a view none
    moved = {each.operator: (each.read, each.written) for each in found.operators}
    assert moved["relu"] == moved["transpose"] == (64, 64)
    assert moved["linear"] == (64, 96)
    assert moved["add"] == (96, 96)
    assert moved["reshape"] == (0, 0)
    assert found.macs == 2 * 8 * 6 * 4
    product = next(each for each in found.operators if each.operator == "linear")
    assert product.intensity == 2 * 8 * 6 * 4 / (60 + 64 + 96)


@pytest.mark.filterwarnings("ignore")  # coremltools leaves its temporary folders to the collector
def test_compressed_weights_are_stored_small_and_computed_dense(tmp_path: Path) -> None:
    # given a product with 64 x 32 weights, palettized to 4 bits
    def build(x: Any) -> Any:
        return mb.linear(x=x, weight=weight(64, 32), bias=weight(64))

    path = save_program(tmp_path, build, {"x": ((1, 32), "fp16")}, precision="fp16")
    config = ct.optimize.coreml.OpPalettizerConfig(mode="kmeans", nbits=4, weight_threshold=0)
    small = ct.optimize.coreml.palettize_weights(
        ct.models.MLModel(str(path), skip_model_load=True), ct.optimize.coreml.OptimizationConfig(global_config=config)
    )
    small.save(str(tmp_path / "small.mlpackage"))
    # then
    found = cost(tmp_path / "small.mlpackage")
    table = 2 * 16
    assert found.weights_stored == 64 * 32 // 2 + table + 2 * 64
    assert found.weights_computed == 2 * 64 * 32 + 2 * 64
    assert found.operators[0].operator == "linear"


def loop(turns: int | None) -> Any:
    """A product of 4 x 4 in each turn; without `turns` an input says how many there are."""

    def build(x: Any, n: Any) -> Any:
        times = n if turns is None else np.int32(turns)

        def goes_on(count: Any, _: Any) -> Any:
            return mb.less(x=count, y=mb.squeeze(x=times, axes=[0]) if turns is None else times)

        def body(count: Any, value: Any) -> Any:
            return mb.add(x=count, y=np.int32(1)), mb.matmul(x=value, y=weight(4, 4))

        _, value = mb.while_loop(_cond=goes_on, _body=body, loop_vars=(np.int32(0), x))
        return value, mb.add(x=n, y=np.int32(1))

    return build


def test_a_loop_counts_its_turns_where_constants_say_them(tmp_path: Path) -> None:
    values = {"x": ((3, 4), "fp16"), "n": ((1,), "int32")}
    found = cost(save_program(tmp_path, loop(5), values, precision="fp16"))
    assert (found.macs, found.open_loops) == (5 * 3 * 4 * 4, 0)
    (product,) = [each for each in found.operators if each.operator == "matmul"]
    assert (product.times, product.total) == (5, 240)


def test_a_loop_whose_turns_an_input_says_is_counted_once_and_said(tmp_path: Path) -> None:
    values = {"x": ((3, 4), "fp16"), "n": ((1,), "int32")}
    found = cost(save_program(tmp_path, loop(None), values, precision="fp16"))
    assert (found.macs, found.open_loops) == (3 * 4 * 4, 1)
    lines = "\n".join(format_costs(found))
    assert "Multiply-accumulates: 48 at least" in lines
    assert "1 loop counted with one turn" in lines


def test_of_a_choice_the_heavier_branch_counts(tmp_path: Path) -> None:
    def build(x: Any, flag: Any) -> Any:
        def light() -> Any:
            return mb.relu(x=x)

        def heavy() -> Any:
            return mb.matmul(x=x, y=weight(4, 4))

        return mb.cond(pred=mb.cast(x=mb.squeeze(x=flag, axes=[0]), dtype="bool"), _true_fn=light, _false_fn=heavy)

    values = {"x": ((3, 4), "fp16"), "flag": ((1,), "int32")}
    found = cost(save_program(tmp_path, build, values, precision="fp16"))
    assert found.macs == 3 * 4 * 4
    assert "relu" not in [each.operator for each in found.operators]


class Text(nn.Module):
    """Shapes that depend on the length: a product of all pairs, and a reshape by the size."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.head = nn.Embedding(50, 8), nn.Linear(16, 4)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        x = self.embed(tokens)
        pairs = x @ x.transpose(1, 2)
        wide = torch.cat([x, torch.softmax(pairs, -1) @ x], -1)
        found: torch.Tensor = self.head(wide.reshape(-1, 16))
        return found


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("format_", ["mlprogram", "neuralnetwork"])
def test_flexible_sizes_are_counted_at_their_default(format_: str, tmp_path: Path) -> None:
    # given a length of 1 to 64, 12 where the app says nothing
    traced = torch.jit.trace(Text().eval(), torch.zeros(1, 12, dtype=torch.int64))
    length = ct.RangeDim(1, 64, default=12)
    given = ct.TensorType(name="tokens", shape=(1, length), dtype=np.int32)
    model = ct.convert(traced, inputs=[given], convert_to=format_)
    path = tmp_path / ("m.mlpackage" if format_ == "mlprogram" else "m.mlmodel")
    model.save(str(path))
    # then the costs are those of 12, and say so
    found = cost(path)
    assert (found.macs, found.unknown) == (12 * 12 * 8 * 2 + 12 * 16 * 4, 0)
    assert found.sizes == ("tokens: 1 x 12",)
    assert "Counted at the default sizes: tokens: 1 x 12." in "\n".join(format_costs(found))


@pytest.mark.filterwarnings("ignore")
def test_shapes_agree_with_the_runtimes_own(tmp_path: Path) -> None:
    # given a network of layers whose shapes the file does not declare
    module = nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2, padding=1), nn.ReLU(), nn.MaxPool2d(3, 2), nn.ConvTranspose2d(8, 4, 4, stride=2),
        nn.Upsample(scale_factor=2), nn.Flatten(), nn.LazyLinear(5),
    ).eval()  # fmt: skip
    example = torch.rand(1, 3, 33, 31)
    module(example)
    traced = torch.jit.trace(module, example)
    model = ct.convert(traced, inputs=[ct.TensorType(name="x", shape=example.shape)], convert_to="neuralnetwork")
    path = tmp_path / "m.mlmodel"
    model.save(str(path))
    # when it is executed
    values = load(path).predict({"x": example.numpy()}, intermediates="all")
    # then each layer wrote what was counted without that
    written = {each.name: each.written for each in cost(path).operators}
    layers = model.get_spec().neuralNetwork.layers
    assert len(layers) >= 7
    for layer in layers:
        if written[layer.name]:
            assert written[layer.name] == 4 * values[layer.output[0]].size
    assert sum(size > 0 for size in written.values()) >= 6


RECIPE = """\
# A product and a convolution of a few weights.
schema: 1
defaults: [precision: fp16, target: ios16, checks: none, tracking: none]
source: {kind: python, factory: "net_of_costs:net"}
input:
  x: {kind: tensor, shape: [1, 4, 8, 8]}
output: {y: null}
"""
NET = """
from torch import nn

def net():
    return nn.Sequential(nn.Sequential(nn.Conv2d(4, 8, 3, dilation=2), nn.ReLU()), nn.Flatten(), nn.Linear(128, 10))
"""


def test_a_build_records_its_costs_and_changes_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    # given a build
    monkeypatch.chdir(tmp_path)
    Path("recipes").mkdir()
    Path("net_of_costs.py").write_text(NET)
    Path("recipes/x.yaml").write_text(RECIPE)
    assert main(["recipe=x"]) == 0
    (file,) = Path("outputs/x").glob("*/build.json")
    document = json.loads(file.read_text())
    # then the record has totals, and each operator with its module
    (costs,) = document["costs"]
    convolution, product = 4 * 4 * 8 * 4 * 9, 128 * 10
    assert costs["macs"] == convolution + product
    by_module = {row["module"]: row["macs"] for row in costs["operators"] if row["macs"]}
    assert by_module == {"0.0": convolution, "2": product}
    assert costs_of(costs).macs == costs["macs"]
    # and the lint says what share it is about
    (dilated,) = [each for each in document["lint"] if each["rule"] == "dilated_convolution"]
    assert dilated["share"] == convolution / costs["macs"]
    assert costs["clear_share"] == product / costs["macs"]
    page = file.with_name("report.html").read_text()
    assert "21.7 % of the MACs are in operators with no known obstacle" in page
    assert "By module" in page
    # and the verb says the same of the file
    capsys.readouterr()
    assert main(["lint", document["artifact"]["path"]]) == 0
    screen = capsys.readouterr().out
    assert "Multiply-accumulates: 5.9 k" in screen
    assert "78.3 % of the MACs" in screen
    assert "(conv) of 0.0" in screen


def test_a_search_and_a_sweep_have_the_numbers() -> None:
    # given a job's row with costs
    outcome: Any = None
    row = Row(
        outcome=outcome, recipe="x", variant="v", size_bytes=1, digest="", checks={},
        figures={"costs.macs": 300_774_272.0, "costs.peak_bytes": 4_816_896.0},
    )  # fmt: skip
    # then they can be objectives, and read well
    assert value_of("costs.macs", row, "largest") == 300_774_272.0
    assert [figure_text(name, value) for name, value in row.figures.items()] == ["300.8 M", "4.8 MB"]
    config = {"schema": 1, "source": {"kind": "python", "factory": "a:b"}, "input": {}, "output": {}}
    spec = BuildSpec.model_construct(**config)
    assert "costs.peak_bytes" in known_measures(spec)
