"""Sizes that a model's own code names: where it looks something up by a size, no condition on sizes says so.

`{224: 0.5, 384: 1.0}.get(x.shape[-1], 0.75)` compares hashes, and `str(x.shape[-1])` makes a word of a size.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from types import CodeType, FunctionType

import torch

from builder.artifacts.stages import PreparedModel, Sample

MOST_NUMBERS = 16
"""Numbers of the model's code that are tried, those nearest to the captured size first."""
FEW_ELEMENTS = 2**16
"""Inputs of so many elements are tried in any case; others, but for powers of two, up to `MOST_TIMES` times the
captured ones: a check is not a benchmark."""
MOST_TIMES = 4


def named_sizes(prepared: PreparedModel, sample: Sample) -> Iterator[Sample]:
    """Samples of which a size, or all of them, is a number that the model's code has, or a power of two.

    Shapes that a recipe enumerates are tried as they are.
    """
    given = {name: tensor.shape for name, tensor in sample.tensors.items()}
    free = {size.name: size for sizes in prepared.flexible for size in sizes.values()}
    if not free or any(size.enumerated for size in free.values()):
        return
    captured = {
        size.name: list(given.values())[place][axis]
        for place, sizes in enumerate(prepared.flexible)
        for axis, size in sizes.items()
    }
    near = sorted(numbers_of(prepared.module), key=lambda number: min(abs(number - at) for at in captured.values()))
    fitting = [n for n in near if any(size.min <= n <= size.max for size in free.values())][:MOST_NUMBERS]
    tried: list[dict[str, int]] = []
    for number in dict.fromkeys([*fitting, *(2**bits for bits in range(1, 13))]):
        allowed = [name for name, size in free.items() if size.min <= number <= size.max]
        for changed in ([name] for name in allowed) if len(free) == 1 else [[name] for name in allowed] + [allowed]:
            sizes = captured | dict.fromkeys(changed, number)
            times = MOST_TIMES if number in fitting else 0
            if sizes != captured and sizes not in tried and _is_small(prepared, sample, sizes, times):
                tried.append(sizes)
                yield resized(prepared, sample, sizes)


def resized(prepared: PreparedModel, sample: Sample, sizes: Mapping[str, int]) -> Sample:
    """The sample, cut or repeated to sizes by name; others stay."""
    tensors = dict(sample.tensors)
    for name, flexible in zip(tensors, prepared.flexible, strict=True):
        for axis, size in flexible.items():
            if size.name in sizes:
                steps = torch.arange(sizes[size.name]) % tensors[name].shape[axis]
                tensors[name] = tensors[name].index_select(axis, steps)
    return Sample(given={name: tensor.numpy() for name, tensor in tensors.items()}, tensors=tensors)


def _is_small(prepared: PreparedModel, sample: Sample, sizes: Mapping[str, int], times: int) -> bool:
    """Whether inputs of these sizes have few elements, or at most so many times those of the sample."""
    before = after = 0
    for tensor, flexible in zip(sample.tensors.values(), prepared.flexible, strict=True):
        before += tensor.numel()
        fixed = math.prod(size for axis, size in enumerate(tensor.shape) if axis not in flexible)
        after += fixed * math.prod(sizes[size.name] for size in flexible.values())
    return after <= max(FEW_ELEMENTS, times * before)


def numbers_of(module: torch.nn.Module) -> set[int]:
    """Integers in the code of modules that are not torch's own, and in what their attributes hold, as words too."""
    found: set[int] = set()
    for inner in module.modules():
        if isinstance(inner, torch.nn.ModuleDict | torch.nn.ParameterDict):
            found |= set(_integers(list(inner.keys())))
        if type(inner).__module__.partition(".")[0] in ("torch", "builder"):
            continue
        for kind in type(inner).__mro__:
            functions = (each for name, each in vars(kind).items() if name != "__init__")
            for function in functions if not kind.__module__.startswith("torch.") else ():
                if isinstance(function, FunctionType):
                    found |= set(_integers(_constants(function.__code__)))
        found |= set(_integers([value for name, value in vars(inner).items() if name not in _TORCHS]))
    return found


_TORCHS = frozenset(vars(torch.nn.Module()))


def _constants(code: CodeType) -> Iterator[object]:
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _constants(constant)
        else:
            yield constant


def _integers(values: object) -> Iterator[int]:
    """Those in a value: a number, the word of one, or what a list, set or dictionary of them holds."""
    if isinstance(values, int) and not isinstance(values, bool):
        yield values
    elif isinstance(values, str):
        if values.isascii() and values.isdigit() and len(values) < len(str(2**31)):
            yield int(values)
    elif isinstance(values, dict):
        yield from _integers(list(values))
    elif isinstance(values, list | tuple | set | frozenset | Iterator):
        for value in values:
            yield from _integers(value)
