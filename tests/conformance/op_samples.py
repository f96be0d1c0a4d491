"""Samples of torch's own operator tests as modules: tensors are inputs, all else is constant; and their values."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor

DTYPES = {"float32": torch.float32, "int32": torch.int32, "bool": torch.bool}
VALUES = ("own", "large", "huge", "small", "zero", "ends")
"""The sample's own values, a hundred, a thousand and a thousandth times them, zeros, and the ends of what half
precision holds (of 32-bit integers: a thousand times them, their parity, and near the ends of int16 and beyond)."""


OWN_VALUES = frozenset(
    {
        "nn_functional_hinge_embedding_loss",
        "bucketize",
        "searchsorted",
        "byte",
        "char",
        "short",
        "int",
        "long",
        "bitwise_left_shift",
        "__rlshift__",
        "_softmax_backward_data",
    }
)
"""Operators that are not defined for other values: boundaries that are not sorted, numbers beyond the dtype, and
targets other than 1 and -1, and probabilities beyond 1."""

UNDEFINED = frozenset({"empty", "empty_like", "empty_permuted", "empty_strided", "new_empty", "new_empty_strided"})
"""Operators whose result is whatever memory holds."""

ANY_ORDER = frozenset(
    {"argsort", "sort", "topk", "kthvalue", "median", "nanmedian", "mode", "msort", "argmax", "argmin"}
)
"""Operators that may give any place of several equal values."""


class Operator(torch.nn.Module):
    """One operator with one sample's constants; takes the sample's tensors, gives every tensor of the result."""

    def __init__(self, function: Callable[..., Any], sample: Any) -> None:
        super().__init__()
        self.function = function
        self.template = (sample.input, tuple(sample.args), dict(sample.kwargs))
        self.floats: torch.dtype | None = None
        """What floats are instead, if anything: halves, for what torch itself gives in them, or doubles."""
        self.wide: torch.dtype | None = None
        """What 32-bit integers are instead, if anything: what does not overflow."""
        self.given = [leaf for leaf in _leaves(self.template) if _is_input(leaf)]

    def _restored(self, x: Tensor, own: Tensor) -> Tensor:
        x = x.reshape(()) if own.dim() == 0 else x
        if self.wide is not None and own.dtype == torch.int32:
            return x.to(self.wide)
        return x.to(self.floats if self.floats is not None and own.is_floating_point() else own.dtype)

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        restored = (self._restored(x, own) for x, own in zip(tensors, self.given, strict=True))
        first, args, kwargs = _filled(self.template, restored)
        result = self.function(first, *args, **kwargs)
        results = [leaf for leaf in _leaves(result) if isinstance(leaf, Tensor)]
        return tuple(_plain(leaf) if self.wide is None or leaf.is_complex() else leaf.double() for leaf in results)


def _is_input(leaf: Any) -> bool:
    return isinstance(leaf, Tensor)


def _leaves(value: Any) -> Iterator[Any]:
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list | tuple):
        for entry in value:
            yield from _leaves(entry)
    else:
        yield value


def _filled(value: Any, tensors: Iterator[Tensor]) -> Any:
    if isinstance(value, dict):
        return {key: _filled(entry, tensors) for key, entry in value.items()}
    if isinstance(value, list | tuple) and not isinstance(value, torch.Size):
        filled = [_filled(entry, tensors) for entry in value]
        return filled if isinstance(value, list) else tuple(filled)
    return next(tensors) if _is_input(value) else value


def _plain(result: Tensor) -> Tensor:
    """What Core ML can return; never an input itself."""
    if result.dtype == torch.bool:
        return torch.where(result, 1, 0).to(torch.int32)
    if result.is_complex():
        return torch.view_as_real(result.resolve_conj()) * 1
    return result * 1 if result.is_floating_point() else result.to(torch.int32) * 1


@dataclass(frozen=True, kw_only=True)
class Case:
    """A module and the sets of inputs on which artifact and torch are compared; the first is what it is traced on."""

    name: str
    """Of the operator."""
    module: Operator
    inputs: tuple[Tensor, ...]
    others: dict[str, tuple[Tensor, ...]]
    outputs: int
    """How many the module gives."""


def cases(operator: Any, dtype: torch.dtype, count: int) -> list[Case]:
    """Up to `count` samples, spread over all of them. An operator that draws random numbers has none."""
    if operator.name in UNDEFINED:
        return []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.manual_seed(0)
        samples = list(itertools.islice(operator.sample_inputs("cpu", dtype, requires_grad=False), _MOST))
        spread = _spread(samples, 3 * count)
        return _spread([case for sample in spread if (case := _case(operator, sample)) is not None], count)


_MOST = 500
"""Samples of one operator that are looked at."""


def _spread(entries: Sequence[Any], count: int) -> list[Any]:
    """At most so many of them, from the first to the last."""
    if len(entries) <= count:
        return list(entries)
    return [entries[round(i * (len(entries) - 1) / max(count - 1, 1))] for i in range(count)]


def _case(operator: Any, sample: Any) -> Case | None:
    operator_name = operator.formatted_name
    module = Operator(operator.op, sample).eval()
    inputs = tuple(_held(tensor) for tensor in module.given)
    if not inputs or any(not x.numel() or not _has_a_dtype(x) for x in module.given):
        return None
    if (outputs := _outputs(module, inputs)) is None:
        return None
    names = VALUES[1:] if operator_name not in OWN_VALUES else ()
    others = {name: made for name in names if (made := _valued(name, module.given, inputs)) is not None}
    return Case(name=operator.name, module=module, inputs=inputs, others=others, outputs=outputs)


def _outputs(module: Operator, inputs: Sequence[Tensor]) -> int | None:
    """How many tensors there are; None where random numbers decide their values, although the sample seeds them."""
    runs = []
    for seed in range(6):
        torch.manual_seed(seed)
        with torch.no_grad(), patch("torch.manual_seed"):
            runs.append(module(*(x.clone() for x in inputs)))
    pairs = [pair for run in runs[1:] for pair in zip(runs[0], run, strict=True)]
    return len(runs[0]) if all(torch.equal(a.nan_to_num(), b.nan_to_num()) for a, b in pairs) else None


def _has_a_dtype(x: Tensor) -> bool:
    return x.dtype in (torch.float32, torch.float16, torch.int32, torch.int64, torch.bool)


def _held(x: Tensor) -> Tensor:
    """Plain memory of at least one axis, of what Core ML takes, with values that half precision holds exactly."""
    x = x.detach().resolve_conj().contiguous().clone()
    x = x.reshape(1) if x.dim() == 0 else x
    return x.half().float() if x.is_floating_point() else x.to(torch.int32)


def _valued(name: str, given: Sequence[Tensor], inputs: Sequence[Tensor]) -> tuple[Tensor, ...] | None:
    """Other values for the inputs of the first one's dtype; indices and booleans stay."""
    if given[0].dtype not in (torch.float32, torch.int32):
        return None
    own = [x.dtype for x in given]
    made = tuple(_changed(name, x) if dtype == own[0] else x for x, dtype in zip(inputs, own, strict=True))
    return None if all(torch.equal(a, b) for a, b in zip(made, inputs, strict=True)) else made


def _changed(name: str, x: Tensor) -> Tensor:
    if name == "zero":
        return torch.zeros_like(x)
    if x.dtype == torch.int32:
        if name == "huge":
            return x.clone()
        ends = torch.tensor([32767, -32768, 70001, -70001, 2**24 + 1, 2049], dtype=torch.int32)
        made = ends.repeat(x.numel() // 6 + 1)[: x.numel()].view(x.shape)
        return {"large": x * 1000 + 1, "small": x % 2, "ends": made}[name]
    if name == "ends":
        ends = torch.tensor([60000.0, -60000.0, 300.0, 0.0, 2.0**-14, -300.0])
        return ends.repeat(x.numel() // 6 + 1)[: x.numel()].view(x.shape)
    factor = {"large": 100.0, "huge": 1e3, "small": 1e-3}[name]
    return (x * factor).clamp(-60000, 60000).half().float()
