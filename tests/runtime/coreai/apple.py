"""Writes the assets of cases with Apple's compiler and runs Apple's interpreter on them, in a process of its own.

python -m tests.runtime.coreai.apple FOLDER [NAME …]. No other file of the tests uses names which Apple calls private.
"""

from __future__ import annotations

import asyncio
import json
import sys
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from tests.runtime.coreai.cases import CASES
from tests.runtime.coreai.operands import Case, Operand, tensor
from tests.runtime.coreai.programs import PROGRAMS, Call


def render(array: np.ndarray[Any, Any]) -> str:
    """A constant's elements as MLIR writes them: floats by their bits."""
    if array.ndim:
        return "[" + ", ".join(render(each) for each in array) + "]"
    if array.dtype.kind == "f":
        width = array.dtype.itemsize
        return f"0x{int.from_bytes(array.tobytes(), 'little'):0{2 * width}X}"
    return str(array.item()).lower()


def module(case: Case) -> str:
    """The graph of a case, in MLIR's generic form."""
    lines, names, arguments = [], [], []
    for place, operand in enumerate(case.operands):
        names.append(f"%v{place}")
        if operand.constant:
            lines.append(f"%v{place} = coreai.constant dense<{render(operand.array)}> : {operand.type}")
        else:
            arguments.append(f'%v{place}: {operand.type} {{coreai.name = "x{place}"}}')
    types = ", ".join(operand.type for operand in case.operands)
    results = ", ".join(tensor(each) for each in case.results)
    named = ", ".join(f'{tensor(each)} {{coreai.name = "y{place}"}}' for place, each in enumerate(case.results))
    given = ", ".join(f"%r#{place}" if len(case.results) > 1 else "%r" for place in range(len(case.results)))
    count = f":{len(case.results)}" if len(case.results) > 1 else ""
    attributes = f" <{{{case.attributes}}}>" if case.attributes else ""
    body = "\n".join(lines)
    return f"""module {{ coreai.graph @main({", ".join(arguments)}) -> ({named}) {{
      {body}
      %r{count} = "coreai.{case.operator}"({", ".join(names)}){attributes} : ({types}) -> ({results})
      coreai.output {given} : {results} }} }}"""


def write(text: str, path: Path) -> None:
    """Save a module as an asset."""
    from coreai.authoring.asset import AIProgram  # isort: skip  # before anything of coreai._compiler
    from coreai._compiler.context import Context
    from coreai._compiler.ir import Module
    from coreai.runtime import AIModelAssetMetadata

    with Context() as context:
        parsed = Module.parse(text, context._mlir_context)
        AIProgram._from_mlir_module(parsed).save_asset(path, AIModelAssetMetadata())


async def run(path: Path, calls: Iterable[Call], states: dict[str, Any]) -> dict[str, Any]:
    """What Apple's interpreter computes: outputs and states after each call, as "0.y" and "0.state.total"."""
    from coreai.authoring import AIModelAsset
    from coreai.runtime import NDArray

    kept = {name: NDArray(array.copy()) for name, array in states.items()}
    results = {}
    async with AIModelAsset.load(path).executable() as model:
        for place, (function, feeds) in enumerate(calls):
            given = {name: NDArray(array) for name, array in feeds.items()}
            found = await model.load_function(function)(given, kept or None)
            results |= {f"{place}.{name}": each.numpy().copy() for name, each in found.items()}
            results |= {f"{place}.state.{name}": each.numpy().copy() for name, each in kept.items()}
    return results


def feeds(operands: tuple[Operand, ...]) -> dict[str, Any]:
    """The inputs of a case by name."""
    return {f"x{place}": each.array for place, each in enumerate(operands) if not each.constant}


def main() -> None:
    """Write asset, results, or the reason why there are none, for each case and program."""
    warnings.simplefilter("ignore")
    folder, wanted = Path(sys.argv[1]), set(sys.argv[2:])
    failures = {}
    jobs: list[tuple[str, str, tuple[Call, ...], dict[str, Any]]] = [
        (case.name, module(case), (("main", feeds(case.operands)),), {}) for case in CASES
    ]
    jobs += [(each.name, each.text, each.calls, each.states) for each in PROGRAMS]
    for name, text, calls, states in jobs:
        if wanted and name not in wanted:
            continue
        path = folder / f"{name}.aimodel"
        try:
            write(text, path)
            np.savez(folder / f"{name}.npz", **asyncio.run(run(path, calls, states)))
        except Exception as error:  # whatever Apple's packages raise is what the test shows
            failures[name] = f"{type(error).__name__}: {error}"
        (folder / "failures.json").write_text(json.dumps(failures))


if __name__ == "__main__":
    main()
