"""Gives constants of an asset the compressed form that they had in the file which it was made of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from builder.backends.coreai.child import call
from coreml_runtime.forms import Form

_SECONDS = 3600.0


def restore(asset: Path, destination: Path, forms: Mapping[str, Form]) -> list[str]:
    """Write `asset` to `destination` with its weights in `forms`; the names of those that it does not have as such."""
    left: list[str] = call(
        "compression.restore:run", asset.absolute(), destination.absolute(), dict(forms), seconds=_SECONDS
    )
    return left


def run(asset: Path, destination: Path, forms: Mapping[str, Form]) -> list[str]:
    """What `restore` does, in the child."""
    import torch

    from builder.backends.coreai import adapter
    from builder.backends.coreai.compression.emit import emit
    from coreml_runtime.export.matching import match_forms

    program = adapter.load_program(asset)
    left = dict(forms)
    with adapter.module_of(program).context:
        taken: set[str] = set()
        for constant in adapter.constants(program):
            if not adapter.is_float(constant.results[0]):
                continue
            values = torch.from_numpy(adapter.constant_array(constant))
            for name, form in forms.items():
                found = match_forms({name: values}, [form])
                if found:
                    own = adapter.resource_name(constant) or name
                    emit(constant, _values_alone(found[name]), adapter.unique(own, taken))
                    left.pop(name, None)
                    break
    program.save_asset(destination)
    return list(left)


def _values_alone(form: Form) -> Form:
    """A sparse palette as Core AI has it: the indices of what is stored, without places for what is not."""
    if form.mask is None or form.palette is None:
        return form
    palette = form.palette
    table = palette.table.reshape(1, *palette.table.shape[-2:])
    return replace(form, palette=replace(palette, indices=palette.indices[form.mask], table=table, axis=0))
