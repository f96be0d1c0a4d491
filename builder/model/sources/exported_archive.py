"""Loads exported programs (`.pt2`) whose every part was checked: torch's own loader unpickles and evaluates."""

from __future__ import annotations

import ast
import io
import json
import math
import re
from collections.abc import Iterator
from typing import IO, Any

import torch

from builder.model.sources.archives import Archive, RefusedArchiveError, first_line
from builder.model.sources.operators import may_run_exported, words
from builder.model.sources.storages import refuse_short_storages

_GRAPH, _SAMPLES = "models/model.json", "data/sample_inputs/model.pt"
_WEIGHTS, _CONSTANTS = "data/weights/", "data/constants/"
_TABLES = (f"{_WEIGHTS}model_weights_config.json", f"{_CONSTANTS}model_constants_config.json")

_PARTS = re.compile(
    r"models/model\.json|data/weights/(model_weights_config\.json|weight_\d+)"
    r"|data/constants/(model_constants_config\.json|tensor_\d+)|data/sample_inputs/model\.pt"
    r"|archive_format|archive_version|byteorder|\.data/(version|serialization_id)|\.format_version"
    r"|\.storage_alignment|extra/[^\0]*"
)
"""What `torch.export.save` writes of a program without Python objects; not libraries (`data/aotinductor`) or others."""

_OLD = "serialized_exported_program.json"

_NAME = re.compile(r"[A-Za-z_]\w*|")
_PATH = re.compile(r"[\w.-]*")
_WORDS = re.compile(r"[\w .:/<>=,+-]*")
_FREE = words("stack_trace nn_module_stack torch_fn source_fn_stack from_node custom as_string as_strings guards_code")
"""Texts that are shown, compared or written as literals; `guards_code` is emptied before anybody reads it."""

_PATHS = frozenset(
    ("parameter_name", "buffer_name", "tensor_constant_name", "custom_obj_name", "fqn", "class_fqn", "user_input_name")
)
_INERT = words("torch_version verifiers type path_name as_float as_floats real imag")
_TREES = ("in_spec", "out_spec")
_CONTAINERS = frozenset((None, "builtins.tuple", "builtins.list", "builtins.dict", "collections.OrderedDict"))
"""What inputs and outputs may be nested in: others are made by importing the module that the file names."""

_MOST_EXPRESSION = 4000
_EXPRESSION = re.compile(r"[\w .,()+*/%<>=!'\"-]*", re.ASCII)
"""The characters of sizes; no comments, which torch prints where it knows no symbol of that name."""
_MOST_SHOWN = 120
_BIG = 1 << 63
_CALLS = words(
    "Symbol Integer Rational Float Add Mul Pow Max Min Mod floor ceiling Abs FloorDiv ModularIndexing Where PythonMod "
    "CleanDiv CeilToInt FloorToInt CeilDiv PowByNatural FloatPow FloatTrueDiv IntTrueDiv TruncToFloat TruncToInt "
    "RoundToInt ToFloat Identity Eq Ne Lt Le Gt Ge Equality Unequality StrictLessThan LessThan StrictGreaterThan "
    "GreaterThan And Or Not"
)
_POWERS = frozenset(("Pow", "PowByNatural", "FloatPow"))
_MOST_POWER, _MOST_POWERS = 16, 4


def load_exported(stream: IO[bytes]) -> torch.export.ExportedProgram:
    """Load a program from an open file.

    Raises RefusedArchiveError where a part of it is a pickle of more than tensors, a library, an expression or a name
    that torch would evaluate, or a call of anything but operators that compute; and whatever torch raises where it is
    damaged in another way.
    """
    from torch.export.pt2_archive._package import load_pt2

    _refuse(Archive(stream))
    stream.seek(0)
    # Not `torch.export.load`: where that fails, it prints why, and tries the format of torch 2.7, which is pickles.
    programs = load_pt2(stream).exported_programs
    program = programs["model"]
    program._guards_code = []  # Python that `module()` would execute; it only repeats the shapes
    return program


def _refuse(archive: Archive) -> None:
    if _OLD in archive.names:
        raise RefusedArchiveError("it was written by torch 2.7 or before, in a format of pickles")
    archive.refuse_unknown_parts(_PARTS)
    _refuse_samples(archive)
    for table, folder in zip(_TABLES, (_WEIGHTS, _CONSTANTS), strict=True):
        _refuse_payloads(archive.read_json(table), folder, archive)
    refuse_graph(archive.read_json(_GRAPH))


def _refuse_samples(archive: Archive) -> None:
    """Torch unpickles sample inputs in full where its weights-only unpickler refuses them."""
    content = archive.read(_SAMPLES)
    refuse_short_storages(Archive(io.BytesIO(content)), "data.pkl", "data/")
    try:
        torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except RefusedArchiveError:
        raise
    except Exception as error:  # whatever the unpickler raises: it is not what torch may read
        raise RefusedArchiveError(f"its sample inputs are more than tensors: {first_line(error)}") from error


def _refuse_payloads(table: object, folder: str, archive: Archive) -> None:
    """Refuse weights that are pickled, and those that would be larger than what the file has of them."""
    if not isinstance(table, dict) or not isinstance(table.get("config"), dict):
        raise RefusedArchiveError(f"the table of {folder} is damaged")
    for name, payload in table["config"].items():
        if not isinstance(payload, dict) or not isinstance(payload.get("path_name"), str):
            raise RefusedArchiveError(f"the entry {name!r} of {folder} is damaged")
        if _PATH.fullmatch(name) is None:
            raise RefusedArchiveError(f"{_shown(name)} is not a name of a weight")
        if payload.get("use_pickle") is not False:
            raise RefusedArchiveError(f"{name!r} is pickled (`use_pickle`), and reading it would run code")
        size = archive.sizes.get(folder + payload["path_name"])
        if size is None:
            raise RefusedArchiveError(f"the data of {name!r} are missing")
        if _is_without_values(payload):
            raise RefusedArchiveError(f"{name!r} has no values: it was made on the device `meta`")
        if _elements(payload) > max(size, 1 << 24):  # an expanded tensor has more elements than data, but not many
            raise RefusedArchiveError(f"{name!r} has more elements than data")
        _refuse_texts(payload)


def _is_without_values(payload: dict[str, Any]) -> bool:
    meta = payload.get("tensor_meta")
    device = meta.get("device") if isinstance(meta, dict) else None
    return isinstance(device, dict) and device.get("type") == "meta"


def _elements(payload: dict[str, object]) -> int:
    meta = payload.get("tensor_meta")
    sizes = meta.get("sizes") if isinstance(meta, dict) else None
    numbers: list[Any] = [size.get("as_int") if isinstance(size, dict) else None for size in sizes or ()]
    if sizes is None or any(type(number) is not int or number < 0 for number in numbers):
        raise RefusedArchiveError("a weight has no sizes")
    return math.prod(numbers)


def refuse_graph(program: object) -> None:
    """Raise RefusedArchiveError unless all texts in a serialized program are inert where torch puts them.

    Torch writes names of values into Python code that it executes, evaluates sizes with sympy, imports modules for
    containers, and calls whatever Python object a target leads to.
    """
    if not isinstance(program, dict):
        raise RefusedArchiveError("its graph is damaged")
    _refuse_texts(program)


def _refuse_texts(document: object) -> None:
    for key, value in _texts(document):
        if key == "expr_str":
            refuse_expression(value)
        elif key in ("target", "as_operator"):
            if not may_run_exported(value):
                raise RefusedArchiveError(f"it calls {_shown(value)}, which a model from a file may not")
        elif key in _TREES:
            _refuse_tree(value)
        elif key not in _FREE:
            allowed = _PATH if key in _PATHS else _WORDS if key in _INERT else _NAME
            if allowed.fullmatch(value) is None or len(value) > _MOST_EXPRESSION:
                raise RefusedArchiveError(f"{_shown(value)} is not a name ({key})")


def _texts(document: object) -> Iterator[tuple[str, str]]:
    """Every text of a JSON document with the key that it has, names of mappings included (under `name`)."""
    waiting: list[tuple[str, object]] = [("", document)]
    while waiting:
        key, value = waiting.pop()
        if isinstance(value, str):
            yield key, value
        elif isinstance(value, list):
            waiting += [(key, child) for child in value]
        elif isinstance(value, dict):
            for name, child in value.items():
                yield ("expr_str" if key == "range_constraints" else "name"), name
                waiting.append((name, child))


def _refuse_tree(text: str) -> None:
    """Refuse a nesting of inputs or outputs with other containers than those of Python, or keys that are not names."""
    try:
        document = json.loads(text)
        _, tree = document
        waiting = [tree]
        while waiting:
            node = waiting.pop()
            context = node["context"]
            names = json.loads(context) if isinstance(context, str) else context
            plain = names is None or (isinstance(names, list) and all(isinstance(n, (str, int)) for n in names))
            if node["type"] not in _CONTAINERS or not plain:
                raise RefusedArchiveError(f"its inputs or outputs are nested in {node['type']!r}")
            if any(isinstance(name, str) and _PATH.fullmatch(name) is None for name in names or ()):
                raise RefusedArchiveError("a key of its inputs or outputs is not a name")
            waiting += node["children_spec"]
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise RefusedArchiveError("the nesting of its inputs or outputs is damaged") from error


def refuse_expression(text: str) -> None:
    """Raise RefusedArchiveError unless a size is plain arithmetic of symbols and numbers: sympy evaluates Python."""
    if len(text) > _MOST_EXPRESSION or _EXPRESSION.fullmatch(text) is None:
        raise RefusedArchiveError("a size is an expression of more than 4000 characters, or of others than arithmetic")
    try:
        tree = ast.parse(text, mode="eval")
        plain = _is_plain(tree.body)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise RefusedArchiveError(f"a size is {_shown(text)}, which is not an expression") from error
    powers = [node for node in ast.walk(tree) if _is_power(node)]
    if not plain or len(powers) > _MOST_POWERS or not all(_is_small_power(node) for node in powers):
        raise RefusedArchiveError(f"a size is {_shown(text)}, which is not plain arithmetic")


def _shown(text: str) -> str:
    """A text of a file as a message has it."""
    return repr(text) if len(text) <= _MOST_SHOWN else f"{text[:_MOST_SHOWN]!r}…"


_ARITHMETIC = (ast.Add, ast.Sub, ast.Mult, ast.Div, ast.FloorDiv, ast.Mod, ast.Pow)
_SYMBOL = re.compile(r"[a-z]{1,4}\d{1,6}|oo|int_oo")
"""Torch's names of sizes; it counts up to the number of some, one by one."""


def _is_plain(node: ast.expr) -> bool:
    match node:
        case ast.Constant(value=value):
            return type(value) in (bool, float) or (type(value) is int and abs(value) <= _BIG)
        case ast.Name(id=name):
            return _is_symbol(name)
        case ast.UnaryOp(op=ast.USub() | ast.UAdd(), operand=operand):
            return _is_plain(operand)
        case ast.BinOp(left=left, op=op, right=right):
            return isinstance(op, _ARITHMETIC) and _is_plain(left) and _is_plain(right)
        case ast.Compare(left=left, comparators=others):
            return all(_is_plain(one) for one in (left, *others))
        case ast.Call(func=ast.Name(id=name), args=args, keywords=keywords) if name in _CALLS:
            flags = all(k.arg is not None and _is_flag(k.value) for k in keywords)
            if name == "Symbol":
                return flags and len(args) == 1 and _is_symbol_text(args[0])
            if name == "Float":
                return all(_is_number_text(arg) or _is_plain(arg) for arg in args)
            return flags and all(_is_plain(arg) for arg in args)
    return False


def _is_flag(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and type(node.value) in (bool, int)


def _is_symbol(name: str) -> bool:
    return _SYMBOL.fullmatch(name) is not None


def _is_symbol_text(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, str) and _is_symbol(node.value)


def _is_number_text(node: ast.expr) -> bool:
    value = node.value if isinstance(node, ast.Constant) else None
    return isinstance(value, str) and re.fullmatch(r"-?\d{1,20}(\.\d{0,20})?(e[+-]?\d{1,2})?", value) is not None


def _is_power(node: ast.AST) -> bool:
    if isinstance(node, ast.BinOp):
        return isinstance(node.op, ast.Pow)
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in _POWERS


def _is_small_power(node: ast.AST) -> bool:
    """Whether the exponent is a small number, so that no power of powers fills the memory."""
    exponent = node.right if isinstance(node, ast.BinOp) else node.args[1] if len(node.args) == 2 else None  # type: ignore[attr-defined]
    while isinstance(exponent, ast.UnaryOp):
        exponent = exponent.operand
    if isinstance(exponent, ast.Call) and exponent.args:  # Integer(2), Rational(1, 2)
        return all(isinstance(a, ast.Constant | ast.UnaryOp) and _is_small_literal(a) for a in exponent.args)
    return exponent is not None and _is_small_literal(exponent)


def _is_small_literal(node: ast.expr) -> bool:
    while isinstance(node, ast.UnaryOp):
        node = node.operand
    value = node.value if isinstance(node, ast.Constant) else None
    return isinstance(value, int | float) and abs(value) <= _MOST_POWER
