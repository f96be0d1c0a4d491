"""Arithmetic of complex numbers that no format has, written in their real and imaginary parts while it is captured.

Core ML and Core AI have complex numbers within a program and few operators on them, and neither has constants such as
`1j`. Formulas: a + bi as usual; `exp(a + bi) = exp(a) (cos b + i sin b)`; a quotient by way of `|z|^2`,
scaled as R. L. Smith does (Algorithm 116, 1962).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

if TYPE_CHECKING:
    from torch.export import ExportedProgram

Function = Callable[..., Any]


@contextmanager
def complex_in_parts() -> Iterator[None]:
    """Within the block, such operators compute the parts of complex numbers by themselves."""
    with _InParts():
        yield


def is_complex_trace(traced: Any) -> bool:
    """Whether complex numbers occur in a TorchScript trace."""
    return "Complex" in str(traced.inlined_graph)


def is_complex_program(program: ExportedProgram) -> bool:
    """Whether complex numbers occur in an exported program."""
    return any(_is_complex(node.meta.get("val")) for node in program.graph.nodes)


class _InParts(TorchFunctionMode):
    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        given = dict(kwargs or {})
        name = getattr(func, "__name__", "")
        write = _FORMULAS.get(name) or (partial(_LINEAR[name], func) if name in _LINEAR else None)
        is_meant = any(map(_is_complex, args)) or given.get("dtype") in _REAL
        found = write(*args, **given) if write is not None and is_meant else NotImplemented
        return func(*args, **given) if found is NotImplemented else found


def _is_complex(value: object) -> bool:
    if isinstance(value, list | tuple):
        return any(map(_is_complex, value))
    return isinstance(value, complex) or (isinstance(value, Tensor) and value.is_complex())


def _parts(value: Any) -> tuple[Any, Any]:
    """The real and the imaginary part; 0 for that of a real number."""
    if isinstance(value, Tensor):
        return (value.real, value.imag) if value.is_complex() else (value, 0)
    return (value.real, value.imag)


def _joined(real: Any, imaginary: Any) -> Tensor:
    """A complex tensor of both parts, of which one may be a number."""
    like = real if isinstance(real, Tensor) else imaginary
    return torch.complex(
        *(part if isinstance(part, Tensor) else torch.full_like(like, float(part)) for part in (real, imaginary))
    )


def _has_number(*values: Any) -> bool:
    """Whether one of them is a number, which torch takes for a complex one where the other is a complex tensor."""
    return not all(isinstance(value, Tensor) for value in values)


def _add(a: Any, b: Any, *, alpha: float = 1) -> Any:
    if not _has_number(a, b):
        return NotImplemented  # of two tensors, which have it
    (p, q), (r, s) = _parts(a), _parts(b)
    return _joined(_sum(p, alpha * r), _sum(q, alpha * s))


def _sum(a: Any, b: Any) -> Any:
    """Without an operator where one of them is the number 0."""
    if not isinstance(b, Tensor) and b == 0:
        return a
    return b if not isinstance(a, Tensor) and a == 0 else a + b


def _subtract(a: Any, b: Any, *, alpha: float = 1) -> Any:
    return _add(a, b, alpha=-alpha)


def _subtract_from(a: Any, b: Any) -> Any:
    return _add(b, a, alpha=-1)


def _product(a: Any, b: Any) -> Tensor:
    (p, q), (r, s) = _parts(a), _parts(b)
    return _joined(_sum(_times(p, r), _times(-q, s)), _sum(_times(p, s), _times(q, r)))


def _times(a: Any, b: Any) -> Any:
    """Without an operator where one of them is the number 0 or 1."""
    for one, other in ((a, b), (b, a)):
        if not isinstance(one, Tensor) and one in (0, 1):
            return other if one == 1 else 0
    return a * b


def _multiply(a: Any, b: Any) -> Any:
    return _product(a, b) if _has_number(a, b) else NotImplemented


def _divide(a: Any, b: Any, **options: Any) -> Any:
    if options.get("rounding_mode") is not None or (isinstance(b, complex) and not b):
        return NotImplemented
    (p, q), (r, s) = _parts(a), _parts(b)
    if not _is_complex(b):
        return _joined(p / r, q / r)
    if isinstance(b, complex):
        return _product(a, 1 / b)
    largest = torch.maximum(r.abs(), s.abs())  # the square of |b| itself would pass half precision from 256 on
    r, s = r / largest, s / largest
    square = (r * r + s * s) * largest
    return _joined((p * r + q * s) / square, (q * r - p * s) / square)


def _divide_by(a: Any, b: Any) -> Any:
    return _divide(b, a)


def _reciprocal(a: Any) -> Any:
    return _divide(1.0, a)


def _exponential(a: Any) -> Any:
    real, imaginary = _parts(a)
    return _joined(real.exp() * imaginary.cos(), real.exp() * imaginary.sin())


def _logarithm(a: Any) -> Any:
    return _joined(a.abs().log(), a.angle())


def _of_each(func: Function, a: Any, *arguments: Any, **options: Any) -> Any:
    """Sums and whatever else is linear and takes one complex tensor."""
    if options.get("dtype") is not None:
        return NotImplemented
    real, imaginary = _parts(a)
    return _joined(func(real, *arguments, **options), func(imaginary, *arguments, **options))


def _of_several(func: Function, tensors: Any, *arguments: Any, **options: Any) -> Any:
    """What joins tensors, of which some may be real."""
    parts = [_parts(_joined(each, 0.0) if not _is_complex(each) else each) for each in tensors]
    return _joined(*(func([part[i] for part in parts], *arguments, **options) for i in (0, 1)))


def _where(func: Function, condition: Any, *chosen: Any) -> Any:
    if len(chosen) != 2:
        return NotImplemented
    (p, q), (r, s) = map(_parts, chosen)
    return _joined(func(condition, p, r), func(condition, q, s))


def _of_zeros(func: Function, *sizes: Any, dtype: torch.dtype | None = None, **options: Any) -> Any:
    """A new tensor of zeros."""
    if dtype not in _REAL or any(map(_is_complex, sizes)):
        return NotImplemented
    return _joined(*(func(*sizes, dtype=_REAL[dtype], **options) for _ in range(2)))


def _assign(func: Function, target: Tensor, index: Any, value: Any) -> Any:
    """Into the pairs of numbers that a complex tensor consists of."""
    if not _is_complex(target) or not isinstance(value, Tensor):
        return NotImplemented
    places = index if isinstance(index, tuple) else (index,)
    at = (*places, slice(None)) if any(place is Ellipsis for place in places) else places
    return func(
        torch.view_as_real(target), at, torch.view_as_real(value if _is_complex(value) else _joined(value, 0.0))
    )


def _of_products(func: Function, a: Any, b: Any, *arguments: Any) -> Any:
    """Matrix products, which are linear in both."""
    return NotImplemented if arguments else _bilinear(func, a, b)


def _einsum(func: Function, equation: Any, *operands: Any) -> Any:
    given = operands[0] if len(operands) == 1 and isinstance(operands[0], list | tuple) else operands
    if not isinstance(equation, str) or len(given) != 2:
        return NotImplemented
    return _bilinear(lambda a, b: func(equation, a, b), *given)


def _bilinear(product: Function, a: Any, b: Any) -> Tensor:
    (p, q), (r, s) = _parts(a), _parts(b)  # torch multiplies no complex matrix by a real one
    return _joined(product(p, r) - product(q, s), product(p, s) + product(q, r))


_REAL: Mapping[object, torch.dtype] = {torch.complex64: torch.float32, torch.complex128: torch.float64}
"""The dtype of a part, by that of the whole."""
_FORMULAS: Mapping[str, Function] = {
    **dict.fromkeys(("add", "__add__", "__radd__"), _add),
    **dict.fromkeys(("sub", "subtract", "__sub__"), _subtract),
    **dict.fromkeys(("rsub", "__rsub__"), _subtract_from),
    **dict.fromkeys(("mul", "multiply", "__mul__", "__rmul__"), _multiply),
    **dict.fromkeys(("div", "divide", "true_divide", "__div__", "__truediv__"), _divide),
    **dict.fromkeys(("__rdiv__", "__rtruediv__"), _divide_by),
    "__rmatmul__": lambda a, b: _bilinear(torch.matmul, b, a),
    "reciprocal": _reciprocal,
    "exp": _exponential,
    "log": _logarithm,
}
"""By the name of torch's function, or of Python's operator."""
_LINEAR: Mapping[str, Function] = {
    **dict.fromkeys(("sum", "mean", "cumsum", "flip", "roll", "expand", "neg", "__neg__"), _of_each),
    **dict.fromkeys(("cat", "concat", "stack"), _of_several),
    "where": _where,
    "zeros": _of_zeros,
    "__setitem__": _assign,
    **dict.fromkeys(("matmul", "mm", "bmm", "mv", "__matmul__", "linear"), _of_products),
    "einsum": _einsum,
}
"""What computes the parts by torch's function itself."""
