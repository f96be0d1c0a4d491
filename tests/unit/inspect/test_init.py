"""`init` drafts recipes that build, from every kind of model that can be looked at."""

from __future__ import annotations

import argparse
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from coremltools.models import datatypes
from coremltools.models.neural_network import NeuralNetworkBuilder
from coremltools.models.utils import save_spec
from safetensors.torch import save_file
from torch import nn

from builder.__main__ import main
from builder.analysis.init import inspect_source
from builder.config.compose import compose
from builder.errors import SourceError
from builder.model.torchvision_import import import_torchvision
from builder.spec.inputs import ImageInput

FACTORY = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3)
        self.head = nn.Linear(4 * 30 * 30, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.conv(x).flatten(1))

class Words(nn.Module):
    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(50, 4)

    def forward(self, ids):
        return self.table(ids).mean(1)

class Two(nn.Module):
    def forward(self, a, b):
        return a + b
"""


class Net(nn.Module):
    """Takes (1, 3, 32, 32) and no other size."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.head = nn.Linear(4 * 30 * 30, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.conv(x).relu().flatten(1))


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with a model of each kind that torch writes, and factories."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "init_factories.py").write_text(FACTORY)
    torch.manual_seed(0)
    return tmp_path


def init(*arguments: str, capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    code = main(["init", *arguments])
    out, err = capsys.readouterr()
    return code, out.strip(), err


def build(recipe: str, capsys: pytest.CaptureFixture[str], *overrides: str) -> None:
    """Build it with all its checks."""
    code = main([f"recipe={recipe}", "tracking=none", *overrides])
    assert code == 0, capsys.readouterr().err


def written(file: str) -> dict[str, Any]:
    return dict(yaml.safe_load(Path(file).read_text()))


def save(kind: str) -> str:
    """Write a model of one kind; returns its path."""
    x = torch.rand(1, 3, 32, 32)
    net = Net().eval()
    if kind == "torchscript":
        torch.jit.trace(net, x).save("net.pt")
        return "net.pt"
    if kind == "exported_program":
        torch.export.save(torch.export.export(net, (x,)), "net.pt2")
        return "net.pt2"
    pytest.importorskip("onnx")
    torch.onnx.export(net, (x,), "net.onnx", dynamo=False, input_names=["x.1"], output_names=["y"])
    return "net.onnx"


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch's own, of the ways in which the files are written
@pytest.mark.parametrize("kind", ["torchscript", "exported_program", "onnx"])
def test_a_file_becomes_a_recipe_that_builds(kind: str, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    # given
    file = save(kind)
    # when
    code, out, err = init(file, capsys=capsys)
    # then the recipe says what the file takes, and why, and builds
    assert (code, out) == (0, "recipes/net.yaml"), err
    recipe = written(out)
    assert recipe["source"] == {"file": f"../{file}"}
    assert recipe["defaults"][0] == {"source": kind}
    assert next(iter(recipe["input"].values()))["shape"] == [1, 3, 32, 32]
    assert "python -m builder recipe=net\n" in Path(out).read_text()
    build("net", capsys, "precision=fp32")


def test_sizes_that_an_onnx_file_leaves_open_are_such_that_it_runs(
    here: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    onnx = pytest.importorskip("onnx")
    from onnx import TensorProto, helper

    # given windows of sound, padded by reflection, with a recurrent state, their rate, a mask and lengths
    def of(name: str, kind: int, shape: list[str | int]) -> object:
        return helper.make_tensor_value_info(name, kind, shape)

    constants = {"pads": np.array([0, 64, 0, 64]), "ends": np.array([0, 1]), "axes": np.array([1, 2])}
    graph = helper.make_graph(
        [
            helper.make_node("Pad", ["sound", "pads"], ["padded"], mode="reflect"),
            helper.make_node("ReduceSum", ["state", "axes"], ["carried"], keepdims=0),
            *(helper.make_node("Cast", [n], [f"{n}_float"], to=TensorProto.FLOAT) for n in ("sr", "mask", "lengths")),
            helper.make_node("ReduceSum", ["mask_float"], ["masked"], keepdims=0),
            helper.make_node("ReduceSum", ["padded"], ["summed"], keepdims=0),
            helper.make_node("ReduceSum", ["carried"], ["state_sum"], keepdims=0),
            helper.make_node("Sum", ["summed", "state_sum", "sr_float", "masked", "lengths_float"], ["y"]),
        ],
        "net",
        [
            of("sound", TensorProto.FLOAT, ["batch", "samples"]),
            of("state", TensorProto.FLOAT, [2, "anything", 8]),
            of("sr", TensorProto.INT64, []),
            of("mask", TensorProto.BOOL, ["batch", "samples"]),
            of("lengths", TensorProto.INT64, ["batch"]),
        ],
        [of("y", TensorProto.FLOAT, ["batch"])],
        [onnx.numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.save(model, "net.onnx")
    # when
    assert main(["init", "net.onnx", "--output", "recipes/net.yaml"]) == 0
    # then it is the least size at which there is something to reflect, and onnxruntime says nothing of the others
    assert "onnxruntime" not in capfd.readouterr().err
    given = written("recipes/net.yaml")["input"]
    assert given["sound"]["shape"] == [1, 256]
    assert given["state_input"]["shape"] == [2, 1, 8]
    assert given["sr"] == {"constant": 16000}
    assert given["lengths"] | {"low": 1, "high": 257} == given["lengths"]
    assert "booleans" in Path("recipes/net.yaml").read_text()


def test_a_file_that_loops_is_not_run(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    onnx = pytest.importorskip("onnx")
    import builder.analysis.init.onnx as inspected

    # given a loop whose condition stays true
    text = """<ir_version: 9, opset_import: ["" : 18]> g (float[batch,samples] x) => (float[batch,samples] y) {
        on = Constant <value: tensor = bool {1}> ()
        y = Loop <body = b (int64 i, bool go, float[batch,samples] v) => (bool go_on, float[batch,samples] w) {
            go_on = Identity(go)
            w = Identity(v) }> (, on, x) }"""
    onnx.save(onnx.parser.parse_model(text), "net.onnx")
    monkeypatch.setattr(inspected, "make_session", lambda _: pytest.fail("it runs"))
    # when / then
    assert main(["init", "net.onnx", "--output", "recipes/net.yaml"]) == 0
    assert written("recipes/net.yaml")["input"]["x"]["shape"] == [1, 16]


@pytest.mark.parametrize("file", ["epoch_3.pth.tar", "weights"])
def test_a_checkpoint_of_any_name_is_told_by_its_content(
    file: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.save(Net().state_dict(), file, _use_new_zipfile_serialization=file != "weights")
    code, out, err = init(file, capsys=capsys)
    assert code == 0, err
    assert written(out)["defaults"][0] == {"source": "checkpoint"}


def test_a_package_of_torch_is_told_as_such(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with torch.package.PackageExporter("net.pt") as package:
        package.save_pickle("model", "model.pkl", {"weights": [0.0, 1.0]})
    code, _, err = init("net.pt", capsys=capsys)
    assert code == 3
    assert "is a package of torch.package" in err
    assert "PackageImporter" in err


@pytest.mark.slow
def test_an_existing_core_ml_model_becomes_a_recipe_that_builds(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    # given an artifact
    (here / "recipes").mkdir()
    image = "{kind: image, shape: [1, 1, 32, 32], color_layout: G, scale: 0.01}"
    source = "{kind: python, factory: 'init_factories:Net'}"
    for name, more in (("plain", ""), ("labelled", "classifier: {labels: [a, b, c]}\n")):
        (here / "recipes" / f"{name}.yaml").write_text(f"source: {source}\ninput:\n  x: {image}\n{more}")
        build(name, capsys, "precision=fp32")
        capsys.readouterr()
        # when
        code, out, err = init(f"outputs/{name}/precision=fp32/{name}.mlpackage", capsys=capsys)
        # then the answer is all that is said
        assert (code, out) == (0, f"recipes/{name}_again.yaml"), err
        assert err == f"next: python -m builder recipe={name}_again\n"
        build(f"{name}_again", capsys)


@pytest.mark.parametrize(
    ("name", "shape"),
    [("Net", [1, 1, 32, 32]), ("Words", [1, 16])],
)
def test_a_factory_becomes_a_recipe_that_builds(
    name: str, shape: list[int], here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = init(f"init_factories:{name}", capsys=capsys)
    assert code == 0, err
    assert next(iter(written(out)["input"].values()))["shape"] == shape
    build(name, capsys)


def test_a_factory_that_nothing_fits_says_so_in_the_recipe(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = init("init_factories:Two", capsys=capsys)
    assert code == 0
    assert list(written(out)["input"]) == ["a", "b"]
    assert "A GUESS" in Path(out).read_text()


@pytest.mark.parametrize("model", ["torchvision:squeezenet1_1", "timm:resnet10t.c3_in1k"])
def test_a_name_becomes_a_recipe_with_the_published_preprocessing(
    model: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if model.startswith("timm"):
        pytest.importorskip("timm")
    code, out, err = init(model, "--output", "recipes/mine.yaml", capsys=capsys)
    assert (code, out) == (0, "recipes/mine.yaml"), err
    request = compose(["recipe=mine"])
    image = request.spec.input["image"]
    assert isinstance(image, ImageInput)
    assert image.from_weights
    assert image.shape[:2] == [1, 3]


@pytest.mark.slow
def test_weights_of_a_torchvision_model_are_recognised(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    # given a training state, as wrapped by DataParallel, of a model with 5 classes
    models = import_torchvision().models
    net = models.squeezenet1_1(num_classes=5)
    torch.save(net.state_dict(), "bare.pth")
    torch.save({"epoch": 1, "model": {f"module.{k}": v for k, v in net.state_dict().items()}}, "wrapped.pth")
    save_file(net.state_dict(), "sorted.safetensors")
    # when
    for file in ("bare.pth", "wrapped.pth", "sorted.safetensors"):
        code, _, err = init(file, capsys=capsys)
        assert code == 0, err
    # then
    bare, wrapped = written("recipes/bare.yaml")["source"], written("recipes/wrapped.yaml")["source"]
    assert bare == {"name": "squeezenet1_1", "file": "../bare.pth", "arguments": {"num_classes": 5}}
    assert written("recipes/sorted.yaml")["source"] == {**bare, "file": "../sorted.safetensors"}
    file = {"file": "../wrapped.pth", "state_dict_key": "model", "strip_prefix": "module."}
    assert wrapped == {**bare, **file}
    build("bare", capsys, "input.image.shape=[1,3,64,64]")


@pytest.mark.slow
@pytest.mark.skipif(find_spec("timm") is None, reason="an optional package")
def test_what_timms_own_training_script_writes_builds(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    # given the file that it writes, with the arguments of its command line, as wrapped by DistributedDataParallel
    import_torchvision()
    import timm

    state = timm.create_model("test_resnet", num_classes=3).state_dict()
    state = {f"module.{name}": value for name, value in state.items()}
    arguments = argparse.Namespace(model="test_resnet", lr=0.1)
    torch.save({"epoch": 1, "arch": "test_resnet", "state_dict": state, "args": arguments}, "model_best.pth.tar")
    # when
    code, out, err = init("model_best.pth.tar", capsys=capsys)
    # then it is the model that the file names, with its classes
    assert code == 0, err
    assert written(out)["source"] == {
        "name": "test_resnet",
        "file": "../model_best.pth.tar",
        "state_dict_key": "state_dict",
        "strip_prefix": "module.",
        "arguments": {"num_classes": 3},
    }
    build(Path(out).stem, capsys, "input.image.shape=[1,3,64,64]")


def test_weights_of_an_unknown_model_ask_for_a_factory(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save(Net().state_dict(), "mine.pth")
    code, out, err = init("mine.pth", capsys=capsys)
    assert code == 0
    assert "source.factory" in err
    assert "# factory: " in Path(out).read_text()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_the_name_of_a_recipe_elsewhere_is_not_taken_again(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    # given a file that is called like a shipped recipe
    torch.jit.trace(Net().eval(), torch.rand(1, 3, 32, 32)).save("resnet18.pt")
    # when
    code, out, err = init("resnet18.pt", capsys=capsys)
    # then another name is found, told, and builds
    assert (code, out) == (0, "recipes/resnet18_2.yaml"), err
    assert "called resnet18_2, since a recipe resnet18 is there already: " in err
    assert "next: python -m builder recipe=resnet18_2\n" in err
    build("resnet18_2", capsys)
    capsys.readouterr()
    # and a name that was asked for is refused before the model is looked at
    code, out, err = init("resnet18.pt", "--output", "recipes/resnet18.yaml", capsys=capsys)
    assert (code, out) == (2, "")
    assert "a recipe resnet18 is there already: " in err
    # and a recipe in a folder that is not searched says how it is found
    code, out, err = init("resnet18.pt", "--output", "mine/a.yaml", capsys=capsys)
    assert (code, out) == (0, "mine/a.yaml")
    assert "next: BUILDER_RECIPES=mine python -m builder recipe=a\n" in err


def test_an_existing_recipe_is_kept(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "recipes").mkdir()
    (here / "recipes" / "Net.yaml").write_text("mine")
    code, out, err = init("init_factories:Net", capsys=capsys)
    assert (code, out) == (2, "")
    assert "is there already" in err
    assert (here / "recipes" / "Net.yaml").read_text() == "mine"


@pytest.mark.parametrize(
    ("source", "code", "said"),
    [
        ("nothing.onnx", 2, "there is no file nothing.onnx"),
        ("torchvision:resnet51", 2, "did you mean `resnet50`?"),
        ("torchvision:maskrcnn_resnet50_fpn", 2, "does not know"),
        ("resnet50", 2, "is not a model that can be looked at"),
        ("init_factories:Nothing", 3, "has no Nothing"),
        ("broken.pth", 3, "broken.pth"),
        ("broken.onnx", 3, "broken.onnx"),
        ("broken.mlmodel", 3, "broken.mlmodel"),
        ("broken.pt2", 3, "broken.pt2"),
    ],
)
def test_what_is_no_model_is_explained(
    source: str, code: int, said: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for suffix in ("pth", "onnx", "mlmodel", "pt2"):
        Path(f"broken.{suffix}").write_bytes(b"\xffnot a model")
    found, out, err = init(source, capsys=capsys)
    assert (found, out) == (code, "")
    assert said in err
    assert not (here / "recipes").exists()


def test_a_neural_network_with_arrays_in_double_precision_becomes_a_recipe_that_builds(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # given a file as coremltools' builder writes it, with weights from a table of few values
    weights = np.random.default_rng(0).integers(0, 16, (64, 64)).astype(np.float32)
    network = NeuralNetworkBuilder(
        [("x", datatypes.Array(1, 64))], [("y", datatypes.Array(1, 64))], disable_rank5_shape_mapping=True
    )
    network.add_inner_product("fc", weights, None, 64, 64, False, input_name="x", output_name="y")
    save_spec(network.spec, "net.mlmodel")
    # when
    code, out, err = init("net.mlmodel", capsys=capsys)
    # then it builds in its own format, and as a package in which every weight is an index of four bits
    assert (code, out) == (0, "recipes/net_again.yaml"), err
    assert written(out)["input"]["x"]["dtype"] == "float32"
    build("net_again", capsys)
    small = "compression={small: {kind: palettize, mode: unique, nbits: null}}"
    build("net_again", capsys, "format=mlpackage", "target=ios16", small)
    (made,) = (path for path in Path("outputs/net_again").rglob("weight.bin"))
    assert made.stat().st_size < weights.size


@pytest.mark.parametrize(
    ("text", "shape"),
    [
        ("g (uint8[N,8,6,3] x) => (uint8[N,8,6,3] y)", [1, 3, 8, 6]),
        ("g (uint8[1,1,8,6] x) => (uint8[1,1,8,6] y)", [1, 1, 8, 6]),
    ],
)
def test_bytes_of_an_onnx_file_are_a_picture(text: str, shape: list[int], here: Path) -> None:
    onnx = pytest.importorskip("onnx")
    onnx.save(
        onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["" : 18]> {text} {{ y = Identity(x) }}'), "b.onnx"
    )
    (drafted,) = inspect_source("b.onnx", here).inputs.values()
    assert (drafted["kind"], drafted["shape"], drafted["scale"]) == ("image", shape, 1)


def test_ids_are_below_the_rows_of_their_table_and_a_file_that_measures_scales_is_taken_in_float(here: Path) -> None:
    # given a table of bytes, looked up with the last of some ids, and a product of what is quantized on the way
    onnx = pytest.importorskip("onnx")
    text = """<ir_version: 8, opset_import: ["" : 17]> g (int64[1,8] ids) => (int32[1,4] y) {
            rows = DequantizeLinear(table, scale)  last = Constant <value: tensor = int64 {-1}> ()
            one = Gather<axis: int = 1>(ids, last)  x = Gather(rows, one)
            q, s, z = DynamicQuantizeLinear(x)  y = MatMulInteger(q, w, z) }"""
    model = onnx.parser.parse_model(text)
    arrays = {"table": np.ones((9, 4), np.int8), "scale": np.array(0.1, np.float32), "w": np.ones((4, 4), np.int8)}
    model.graph.initializer.extend(onnx.numpy_helper.from_array(array, name) for name, array in arrays.items())
    onnx.save(model, "ids.onnx")
    # then
    drafted = inspect_source("ids.onnx", here)
    assert drafted.inputs["ids"]["high"] == 9
    assert drafted.source["dequantize"] is True


@pytest.mark.filterwarnings("ignore::DeprecationWarning:torch")  # torch.jit.script itself
def test_files_without_inputs_or_outputs_are_refused(here: Path) -> None:
    onnx = pytest.importorskip("onnx")
    constant = "g () => (float[1] y) { y = Constant <value_floats = [1.0]> () }"
    onnx.save(onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["" : 18]> {constant}'), "same.onnx")
    Path("empty.onnx").touch()
    torch.jit.save(torch.jit.script(Same()), "same.pt")
    torch.export.save(torch.export.export(Same(), ()), "same.pt2")
    for name, said in {
        "same.onnx": "no inputs",
        "same.pt": "no inputs",
        "same.pt2": "no inputs",
        "empty.onnx": "is empty",
    }.items():
        with pytest.raises(SourceError, match=said):
            inspect_source(name, here)


class Same(torch.nn.Module):
    """Gives the same each time."""

    def forward(self) -> torch.Tensor:
        return torch.ones(2)
