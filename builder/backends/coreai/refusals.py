"""What an operator is called where Core AI has no form for it, and where the user's code has it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from builder.errors import BuilderError, ConversionError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch.fx import Node

REPLACE = "replace the layer by a substitution, or build `format: mlpackage`, which may have it"
_SIZES = (
    "compute the size by sums, products, `//`, `%`, `min`, `max`, comparisons and `torch.sym_ite`, which convert, "
    "give that dimension one size, or build `format: mlpackage`"
)


def where(node: Node) -> str:
    """The module and the line of the user's code, in brackets, as far as they are known."""
    from builder.backends.coreai.passes.edit import modules_of
    from builder.backends.coreml.preflight.operators import frames_of_python, user_place

    paths = [path.removeprefix("model.") for path in modules_of(node)]
    place = user_place(frames_of_python(node.meta.get("stack_trace") or ""))
    known = [f"in {paths[-1]}"] if paths else []
    known += [f"{Path(place.file).name}:{place.line}"] if place is not None else []
    return f" ({', '.join(known)})" if known else ""


@contextmanager
def named_operator(node: Node) -> Iterator[None]:
    """Raise ConversionError that names the operator where coreai-torch raises something of its own inside."""
    import torch

    try:
        yield
    except BuilderError:
        raise
    except Exception as error:
        first = str(error).partition("\n")[0] or type(error).__name__
        if isinstance(node.target, torch._ops.OpOverload):
            message, hint = f"Core AI has no form of {node.target}{where(node)}; coreai-torch says: {first}", REPLACE
        else:
            message, hint = f"Core AI computes no {_plain(node.target)} of sizes{where(node)}", _SIZES
        raise ConversionError(message, code="B0401", hint=hint, key="format") from error


def _plain(function: str | Callable[..., Any]) -> str:
    name = function if isinstance(function, str) else function.__name__
    return name.removeprefix("_").removeprefix("sym_")
