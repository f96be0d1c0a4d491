"""Samples that a user's factory returns."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import torch

from builder.data.collection import as_label
from builder.errors import SourceError
from builder.spec.data import PythonData
from builder.util.suggest import did_you_mean
from builder.util.user_code import call, import_object

Returned = tuple[Mapping[str, Any], str | int | None]
"""One sample as the factory gives it, and its label."""


def make_samples(data: PythonData, inputs: Sequence[str], count: int | None, key: str) -> list[Returned]:
    """Call the factory, after seeding torch, and return all samples of a sequence, or the first `count` of an iterator.

    Raises SourceError when it raises, or returns something else.
    """
    key = f"{key}.factory"
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        files = {name: Path(file) for name, file in data.files.items()}
        if twice := sorted(files.keys() & data.arguments.keys()):
            raise SourceError(
                f"{twice[0]} is among both `arguments` and `files` of {data.factory}", code="B0334", key=key
            )
        made = call(
            import_object(data.factory, key=key),
            data.factory,
            key=key,
            error=SourceError,
            code="B0313",
            arguments={**data.arguments, **files},
        )
        if not isinstance(made, Sequence | Iterator):
            raise SourceError(
                f"{data.factory} returned a {type(made).__name__}, not a sequence or an iterator of samples",
                code="B0334",
                key=key,
            )
        taken = islice(made, count) if isinstance(made, Iterator) else made
        entries = call(lambda: list(taken), data.factory, key=key, error=SourceError, code="B0313")
    return [_sample(entry, inputs, f"sample {index} of {data.factory}", key) for index, entry in enumerate(entries)]


def _sample(entry: object, inputs: Sequence[str], where: str, key: str) -> Returned:
    label: str | int | None = None
    given = entry
    if isinstance(entry, tuple) and len(entry) == 2:
        given = entry[0]
        try:
            label = as_label(entry[1])
        except (TypeError, ValueError) as error:
            raise SourceError(f"{where}: {error}", code="B0332", key=key) from error
    if not isinstance(given, Mapping):
        raise SourceError(
            f"{where} is of {type(given).__name__}; it must be a mapping from inputs to values, or a pair of that and "
            "a label",
            code="B0334",
            key=key,
        )
    if set(given) != set(inputs):
        wrong = sorted(set(map(str, given)) ^ set(inputs))
        raise SourceError(
            f"{where} has values for {', '.join(map(str, given)) or 'nothing'}, and the inputs are {', '.join(inputs)}",
            code="B0334",
            hint=did_you_mean(wrong[0], inputs),
            key=key,
        )
    return given, label
