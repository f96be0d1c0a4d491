"""Looks at the code of a TorchScript archive before torch does: torch computes defaults and constants while it reads.

Defaults of arguments and of fields, and constants of classes, are expressions, which torch compiles and runs
(`ScriptTypeParser::evaluateDefaults` in torch/csrc/jit/frontend/script_type_parser.cpp, called for
functions, for named tuples and for classes by import_source.cpp). What torch itself writes there are literals.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from builder.model.sources.archives import RefusedArchiveError

_ELSEWHERE = re.compile(rb"[\x00-\x09\x0b-\x1f\x7f]|\\\r?\n")
"""What Python's lexer and torch's could read in two ways; torch does not write it, and escapes it in texts."""

_INERT = (
    ast.Constant,
    ast.Name,
    ast.Attribute,
    ast.Subscript,
    ast.List,
    ast.Tuple,
    ast.Dict,
    ast.UnaryOp,
    ast.USub,
    ast.expr_context,
)
_CONSTRUCTORS = frozenset(("annotate", "torch.device", "float", "complex"))
"""What may be called: makes a value of literals, and nothing else."""


def refuse_computed_constants(name: str, content: bytes) -> None:
    """Raise RefusedArchiveError unless all that torch computes while it reads this code are literals and types."""
    if _ELSEWHERE.search(content):
        raise RefusedArchiveError(f"its part {name} has characters that code of torch has not")
    try:
        tree = ast.parse(content.decode("utf-8"))
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise RefusedArchiveError(f"its part {name} is not code as torch writes it") from error
    for expression in _computed_on_load(tree):
        if not _is_inert(expression):
            raise RefusedArchiveError(f"it computes a default or a constant while it is loaded ({name})")


def _computed_on_load(tree: ast.Module) -> Iterator[ast.AST]:
    """Defaults and decorators of all functions, and whatever stands in classes and outside of both."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            yield from (each for each in (*node.args.defaults, *node.args.kw_defaults) if each is not None)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield from node.decorator_list
        if isinstance(node, ast.ClassDef | ast.Module):
            for statement in node.body:
                yield from _expressions(statement)


def _expressions(statement: ast.stmt) -> Iterator[ast.AST]:
    match statement:
        case ast.FunctionDef() | ast.ClassDef() | ast.Pass():
            return
        case ast.Assign(targets=targets, value=value):
            yield from (*targets, value)
        case ast.AnnAssign(target=target, annotation=annotation, value=value):
            yield from (each for each in (target, annotation, value) if each is not None)
        case ast.Expr(value=value):
            yield value
        case _:
            yield statement


def _is_inert(expression: ast.AST) -> bool:
    for node in ast.walk(expression):
        if isinstance(node, ast.Call):
            if ast.unparse(node.func) not in _CONSTRUCTORS:
                return False
        elif not isinstance(node, _INERT):
            return False
    return True
