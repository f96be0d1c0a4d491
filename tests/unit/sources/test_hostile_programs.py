"""Programs from files run no code and call nothing but operators that compute, whatever is in them."""

from __future__ import annotations

import contextlib
import copy
import io
import json
import pickle
import re
import textwrap
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn

from builder.__main__ import main
from builder.errors import ConversionError, SourceError
from builder.model.flatten import flatten_outputs
from builder.model.sources.archives import RefusedArchiveError
from builder.model.sources.exported_archive import load_exported, refuse_expression
from builder.model.sources.exported_program import load_exported_program, open_exported
from builder.model.sources.operators import may_run, may_run_exported
from builder.model.sources.script_archive import load_script, refuse_functions
from builder.model.sources.torchscript import open_script
from builder.spec import BuildSpec

pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")

SETTINGS = settings(max_examples=120, deadline=None, suppress_health_check=list(HealthCheck))


class Model(nn.Module):
    """Has a weight, a buffer, an open size and nested outputs: something of every part of an archive."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 4)
        self.register_buffer("scale", torch.ones(4))

    def forward(self, x: torch.Tensor) -> dict[str, Any]:
        y = self.linear(x) * self.scale
        return {"out": y.reshape(x.shape[0] * 2, -1), "rest": [torch.nn.functional.gelu(y, approximate="tanh")]}


@pytest.fixture(scope="module")
def exported(tmp_path_factory) -> dict[str, bytes]:
    """The parts of an exported program by name."""
    size = torch.export.Dim("size", min=2, max=64)
    program = torch.export.export(Model().eval(), (torch.ones(3, 4),), dynamic_shapes=({0: size},))
    stream = io.BytesIO()
    torch.export.save(program, stream)
    with zipfile.ZipFile(stream) as archive:
        return {name.partition("/")[2]: archive.read(name) for name in archive.namelist()}


def packed(parts: dict[str, bytes]) -> io.BytesIO:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, content in parts.items():
            archive.writestr(f"m/{name}", content)
    stream.seek(0)
    return stream


class Touch:
    """Makes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return Path.touch, (self.path,)


@pytest.fixture(scope="module")
def mark(tmp_path_factory) -> Path:
    """A file that exists once anything has run."""
    return tmp_path_factory.mktemp("mark") / "ran"


def test_an_honest_program_still_loads(exported):
    program = load_exported(packed(exported))
    assert program.module()(torch.ones(5, 4))["out"].shape == (10, 2)


@pytest.mark.parametrize("write", [pickle.dumps, lambda o: _torch_saved(o), lambda o: _torch_saved({"x": o})])
def test_no_part_is_unpickled_in_full(exported, mark, write):
    """Whatever part holds the pickle, under whatever name torch would look for it."""
    names = [*exported, "data/constants/opaque_obj_0", "data/weights/model.pt",
             "data/constants/custom_obj_0", "data/aotinductor/model/a.so"]  # fmt: skip
    for name in names:
        for table in (None, "weights/model_weights", "constants/model_constants"):
            parts = exported | {name: write(Touch(mark))}
            if table is not None:
                entry = {"path_name": name.rpartition("/")[2], "is_param": False, "use_pickle": True}
                parts[f"data/{table}_config.json"] = json.dumps({"config": {"a": entry}}).encode()
            run(parts)
            assert not mark.exists(), (name, table)


def run(parts: dict[str, bytes]) -> None:
    """Load a program and execute it, unless it is refused, or torch does not understand it."""
    with contextlib.suppress(Exception):
        load_exported(packed(parts)).module()(torch.ones(3, 4))


def _torch_saved(content: object) -> bytes:
    stream = io.BytesIO()
    torch.save(content, stream)
    return stream.getvalue()


def places(document: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The way to every text in a JSON document, and to every name of a mapping (which ends in None)."""
    if isinstance(document, str):
        yield at
    children = (
        document.items() if isinstance(document, dict) else enumerate(document) if isinstance(document, list) else ()
    )
    for name, child in children:
        if isinstance(document, dict):
            yield (*at, name, None)
        yield from places(child, (*at, name))


def replaced(document: Any, place: tuple[Any, ...], text: str) -> Any:
    found = parent = copy.deepcopy(document)
    for name in place[: -2 if place[-1] is None else -1]:
        parent = parent[name]
    if place[-1] is None:
        parent[text] = parent.pop(place[-2])
    else:
        parent[place[-1]] = text
    return found


def attacks(mark: str) -> st.SearchStrategy[str]:
    """Texts that run code where they are evaluated, executed, imported or looked up."""
    call = f"__import__('pathlib').Path({mark!r}).touch()"
    spec = json.dumps([1, {"type": "collections.defaultdict", "children_spec": [], "context": {
        "default_factory_module": "antigravity", "default_factory_name": "x", "dict_context": []}}])  # fmt: skip
    enum = json.dumps([1, {"type": "builtins.dict", "children_spec": [], "context": json.dumps(
        {"__enum__": True, "fqn": "antigravity:x", "name": "x"})}])  # fmt: skip
    wrapped = st.sampled_from(
        ["{}", "x\n    {}\n    y", "x = {}; y", "x={}", "x): {}; (y", "a'+{}+'", 'a"+{}+"', "[{}]", "x if {} else y",
         "Symbol({})", "Add(1, {})", "Max({}, s0)", "lambda: {}", "s0 + {}", "*{}", "getattr({}, 'x')"]
    )  # fmt: skip
    target = st.sampled_from(
        ["torch.serialization.os.system", "torch.ops.aten.from_file.default", "torch.hub.load", "torch.load",
         "_operator.methodcaller", "_operator.call", "math.__loader__.load_module", "torch.ops.load_library",
         "torch._C._jit_eval", "torch.ops.aten.save.default", "#x:y", spec, enum]
    )  # fmt: skip
    return wrapped.map(lambda form: form.format(call)) | target


def test_no_text_of_a_graph_is_evaluated(exported, mark):
    """Torch puts names into code that it executes, sizes into sympy, and follows targets into any module."""
    parts = ("models/model.json", "data/weights/model_weights_config.json")
    documents = {name: json.loads(exported[name]) for name in parts}
    found = [(name, place) for name, document in documents.items() for place in places(document)]

    @SETTINGS
    @given(st.sampled_from(found), attacks(str(mark)))
    def check(where: tuple[str, tuple[Any, ...]], text: str) -> None:
        name, place = where
        changed = json.dumps(replaced(documents[name], place, text)).encode()
        run(exported | {name: changed})
        assert not mark.exists(), (name, place, text)

    check()


@pytest.mark.parametrize(
    "text", ["s0", "2*s0 + 1", "Symbol('s77', positive=True, integer=True)", "Max(1, s0//2)", "Mul(Integer(2), s1)"]
)
def test_arithmetic_of_sizes_is_allowed(text):
    refuse_expression(text)


@pytest.mark.parametrize("text", ["s0 # \x1b[31m", "(s0\n)", "s0\f", "s\u0660", "s0 #" + "x" * 100])
def test_a_size_has_no_more_than_arithmetic_in_it(text):
    """Torch logs a size of which no symbol is known, comments and all."""
    with pytest.raises(RefusedArchiveError, match="others than arithmetic"):
        refuse_expression(text)


@SETTINGS
@given(st.text(max_size=40) | st.from_regex(r"[\w.()'\"\[\]*+ ]{1,40}"))
def test_a_size_calls_nothing_but_arithmetic(text):
    try:
        refuse_expression(text)
    except RefusedArchiveError:
        return
    # then: what is left evaluates without builtins, attributes or items
    assert not set('.[]{}\\@:"') - set(". ") & set(text.replace(".", "")) or "'" in text
    assert "__" not in text


@pytest.mark.parametrize("text", ["10**10**10", "Pow(Pow(9, 99), 99)", "(" * 500 + "1" + ")" * 500, "1+" * 9999 + "1"])
def test_a_size_cannot_fill_the_memory(text):
    with pytest.raises(RefusedArchiveError):
        refuse_expression(text)


KNOWN = {schema.name for schema in torch._C._jit_get_all_schemas()}
REFUSED = {name for name in KNOWN if not may_run(name)}


@pytest.mark.parametrize("name", ["aten::save", "aten::from_file", "prim::Print", "profiler::_record_function_enter"])
def test_operators_that_reach_files_or_people_are_refused(name):
    assert name in REFUSED
    assert not may_run_exported(f"torch.ops.{name.replace('::', '.')}.default")


@SETTINGS
@given(st.text(alphabet="abcdefghijklmnopqrstuvwxyz_:.", max_size=30))
def test_what_nobody_knows_is_refused(name):
    assert not may_run(name) or name in KNOWN or name.partition("::")[0] in ("prim", "higher_order", "prims",
        "quantized", "quantized_decomposed", "torchvision", "builder")  # fmt: skip


BLOCKS = st.lists(
    st.sampled_from(["if c:", "for i in range(n):", "while c:", "if not c:\n    pass\nelse:"]), max_size=4
)
CALLS = {
    "aten::save": "torch.save(x, s)",
    "aten::from_file": "x = torch.from_file(s, True, n)",
    "prim::Print": "print(x)",
    "aten::manual_seed": "torch.manual_seed(n)",
}


@SETTINGS
@given(BLOCKS, st.sampled_from(sorted(CALLS)))
def test_an_operator_is_found_however_deep_it_lies(blocks, name):
    # given
    text = CALLS[name]
    for block in blocks:
        text = f"{block}\n{textwrap.indent(text, '    ')}"
    head = "def forward(x: Tensor, c: bool, n: int, s: str):\n"
    unit = torch.jit.CompilationUnit(f"{head}{textwrap.indent(text, '    ')}\n    return x\n")
    # then
    with pytest.raises(RefusedArchiveError, match=name):
        refuse_functions({str(f.qualified_name): f.graph for f in unit.get_functions()})


class Saves(nn.Module):
    def __init__(self, path: str) -> None:
        super().__init__()
        self.path = path

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        torch.save(x, self.path)
        return x


class Maps(Saves):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + torch.from_file(self.path, True, 4)


class Restores(Saves):
    @torch.jit.export
    def __getstate__(self) -> tuple[str, bool]:
        return self.path, self.training

    @torch.jit.export
    def __setstate__(self, state: tuple[str, bool]) -> None:
        self.path = state[0]
        self.training = state[1]
        torch.save(torch.ones(4), self.path)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x


class Further(Saves):
    @torch.jit.export
    def further(self, x: torch.Tensor) -> torch.Tensor:
        torch.save(x, self.path)
        return x

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x


class Prints(Saves):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        print(self.path)
        return x


@pytest.mark.parametrize("kind", [Saves, Maps, Restores, Further, Prints])
def test_a_script_reaches_no_file_and_nobody(kind, tmp_path, mark, capfd):
    # given: in a submodule, so that nothing is seen from the outside
    file = tmp_path / "m.pt"
    torch.jit.script(nn.Sequential(nn.Identity(), kind(str(mark)))).save(str(file))
    mark.unlink(missing_ok=True)
    # then
    with pytest.raises(SourceError, match=r"is not loaded: it (calls|runs)"):
        open_script(file)
    assert main(["init", str(file)]) == 3
    assert not mark.exists()
    assert str(mark) not in capfd.readouterr().out


class Constants(nn.Module):
    """Has a function with defaults, and constants: what torch computes while it reads code."""

    __constants__ = ("factor", "names")

    def __init__(self) -> None:
        super().__init__()
        self.factor, self.names = 3, ["a", "b"]

    def forward(self, x: torch.Tensor, mode: str = "a", scale: float = 0.5, none: int | None = None) -> torch.Tensor:
        if none is not None:
            x = x + none
        return x * self.factor * scale if mode == "a" else x


class Adds(nn.Module):
    """Adds a constant, which is not an attribute."""

    def __init__(self, constant: torch.Tensor) -> None:
        super().__init__()
        self.constant = [constant]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.constant[0]


@pytest.fixture(scope="module")
def script() -> dict[str, bytes]:
    """The parts of a script by name."""
    stream = io.BytesIO()
    torch.jit.save(torch.jit.script(Constants().eval()), stream)
    with zipfile.ZipFile(stream) as archive:
        return {name.partition("/")[2]: archive.read(name) for name in archive.namelist()}


def test_literals_of_an_honest_script_are_read(script, tmp_path):
    (tmp_path / "m.pt").write_bytes(packed(script).getvalue())
    assert load_script(tmp_path / "m.pt")(torch.ones(2)).tolist() == [1.5, 1.5]


@pytest.mark.parametrize(
    ("found", "put"),
    [
        (r"scale: float=[^,)]*", "scale: float=torch.len(torch.list(str({call})))"),
        (r"scale: float=[^,)]*", "scale: float=float(torch.size({call}, 0))"),
        (r"scale: float=[^,)]*", "scale: float=0.5,\n    more: int=torch.size({call}, 0)"),
        (r"scale: float=[^,)]*", "scale: float= # )\n torch.size({call}, 0)"),
        (r"scale: float=[^,)]*", "scale: float=\\\n torch.size({call}, 0)"),
        (r"factor : Final\[int\] = 3", "factor : Final[int] = torch.size({call}, 0)"),
        (r"\Z", "\nclass S(NamedTuple):\n  size : int = torch.size({call}, 0)\n"),
        (r"\Z", "\ndef f(x: int=torch.size({call}, 0)) -> int:\n  return x\n"),
    ],
)
def test_nothing_is_computed_while_a_script_is_loaded(found, put, script, mark, tmp_path):
    # given: an operator that makes a file, in the place of a literal
    call = f'torch.from_file("{mark}", True, 4)'
    parts = {
        name: re.sub(found, lambda _: put.format(call=call), content.decode()).encode()
        if name.endswith(".py")
        else content
        for name, content in script.items()
    }
    assert parts != script
    (tmp_path / "m.pt").write_bytes(packed(parts).getvalue())
    mark.unlink(missing_ok=True)
    # then
    with pytest.raises(RefusedArchiveError):
        load_script(tmp_path / "m.pt")
    assert not mark.exists()


@pytest.mark.parametrize("name", ["data/0", "data/1", "constants/0"])
@pytest.mark.parametrize("left", [0, 4])
def test_a_tensor_has_no_more_bytes_than_the_file(name, left, tmp_path):
    """Torch would read what lies behind them in memory."""
    module = torch.jit.trace(nn.Sequential(nn.Linear(4, 4), Adds(torch.arange(4.0))), torch.ones(1, 4))
    stream = io.BytesIO()
    torch.jit.save(module, stream)
    with zipfile.ZipFile(stream) as archive:
        parts = {name.partition("/")[2]: archive.read(name) for name in archive.namelist()}
    assert len(parts[name]) >= 16
    parts[name] = parts[name][:left]
    (tmp_path / "m.pt").write_bytes(packed(parts).getvalue())
    with pytest.raises(RefusedArchiveError, match=name):
        load_script(tmp_path / "m.pt")


def test_a_sample_input_has_no_more_bytes_than_the_file(exported):
    with zipfile.ZipFile(io.BytesIO(exported["data/sample_inputs/model.pt"])) as archive:
        parts = {name.partition("/")[2]: archive.read(name) for name in archive.namelist()}
    samples = packed({**parts, "data/0": b""}).getvalue()
    with pytest.raises(RefusedArchiveError, match="data/0"):
        load_exported(packed(exported | {"data/sample_inputs/model.pt": samples}))


@pytest.mark.parametrize(
    "error", [IndexError("not in the map"), MemoryError(), TypeError("x"), KeyError("x")], ids=repr
)
def test_whatever_the_reader_of_torch_raises_is_explained(error, tmp_path, monkeypatch):
    """`std::out_of_range` of C++ is an IndexError, as fuzzing found."""

    def load(_: Path) -> None:
        raise error

    monkeypatch.setattr("builder.model.sources.torchscript.load_script", load)
    with pytest.raises(SourceError, match="cannot be loaded"):
        open_script(tmp_path / "m.pt")


def test_calls_that_grow_beyond_all_bounds_are_not_inlined(tmp_path):
    # given: each function calls the one before it four times
    text = "def f0(x: Tensor):\n    return x + 1\n"
    text += "".join(
        f"def f{i}(x: Tensor):\n    return f{i - 1}(f{i - 1}(f{i - 1}(f{i - 1}(x))))\n" for i in range(1, 40)
    )
    unit = torch.jit.CompilationUnit(text)
    # then
    with pytest.raises(RefusedArchiveError, match="more than 5000000 operators"):
        refuse_functions({str(f.qualified_name): f.graph for f in unit.get_functions()})


def test_a_program_of_another_kind_says_so(tmp_path, exported):
    file = tmp_path / "m.pt2"
    file.write_bytes(packed(exported | {"data/constants/opaque_obj_0": b""}).getvalue())
    with pytest.raises(SourceError, match="is not loaded"):
        open_exported(file)


def test_weights_without_values_are_refused(exported):
    table = "data/weights/model_weights_config.json"
    document = json.loads(exported[table])
    for entry in document["config"].values():
        entry["tensor_meta"]["device"] = {"type": "meta", "index": None}
    with pytest.raises(RefusedArchiveError, match="no values"):
        load_exported(packed({**exported, table: json.dumps(document).encode()}))


@SETTINGS
@given(data=st.data())
def test_parts_of_a_graph_that_do_not_go_together_are_explained(exported, data, tmp_path_factory):
    """Torch makes a program of them first, and a module of that with the build."""
    document = json.loads(exported["models/model.json"])
    signature = document["graph_module"]["signature"]
    calls = document["graph_module"]["module_call_graph"]
    part = data.draw(st.sampled_from([signature["input_specs"], signature["output_specs"], calls]))
    number = data.draw(st.integers(0, len(part) - 1))
    if data.draw(st.booleans()):
        part.pop(number)
    else:
        part.append(part[number])
    path = tmp_path_factory.mktemp("parts") / "m.pt2"
    path.write_bytes(packed({**exported, "models/model.json": json.dumps(document).encode()}).getvalue())
    source = {"kind": "exported_program", "file": str(path)}
    input_ = {"x": {"kind": "tensor", "shape": [3, 4]}}
    rest = {"precision": {"kind": "fp32"}, "target": {"name": "ios15"}, "tracking": {"kind": "none"}}
    spec = BuildSpec.model_validate({"source": source, "input": input_, **rest})
    with contextlib.suppress(SourceError):
        load_exported_program(spec.source, spec)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda x: torch.zeros(2, device="meta"), "without values"),
        (lambda x: torch.quantize_per_tensor(x, 0.1, 0, torch.quint8), "quantized"),
        (lambda x: x.to_sparse(), "sparse"),
        (lambda x: torch.nested.nested_tensor([x, x]), "nested"),
    ],
    ids=["meta", "quantized", "sparse", "nested"],
)
@pytest.mark.parametrize("around", [lambda y: y, lambda y: {"a": [y]}], ids=["alone", "inside"])
@pytest.mark.filterwarnings("ignore:.*quantized tensor creation:UserWarning")
@pytest.mark.filterwarnings("ignore:The PyTorch API of nested:UserWarning")
def test_what_is_not_an_array_is_not_returned(make, message, around):
    with pytest.raises(ConversionError, match=message):
        flatten_outputs(around(make(torch.ones(2))))
