"""Writes the assets of cases with Apple's compiler and runs Apple's interpreter on them, in a process of its own.

python -m tests.runtime.coreai.apple FOLDER [NAME …]. No other file of the tests uses names which Apple calls private.
"""

from __future__ import annotations

import asyncio
import json
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from tests.runtime.coreai.cases import CASES
from tests.runtime.coreai.operands import Case, Operand, tensor


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


async def run(path: Path, feeds: dict[str, Any], function: str = "main") -> dict[str, Any]:
    """What Apple's interpreter computes."""
    from coreai.authoring import AIModelAsset
    from coreai.runtime import NDArray

    async with AIModelAsset.load(path).executable() as model:
        found = await model.load_function(function)({name: NDArray(array) for name, array in feeds.items()})
        return {name: each.numpy().copy() for name, each in found.items()}


def feeds(operands: tuple[Operand, ...]) -> dict[str, Any]:
    """The inputs of a case by name."""
    return {f"x{place}": each.array for place, each in enumerate(operands) if not each.constant}


def main() -> None:
    """Write asset, results, or the reason why there are none, for each case."""
    warnings.simplefilter("ignore")
    folder, wanted = Path(sys.argv[1]), set(sys.argv[2:])
    failures = {}
    for case in CASES:
        if wanted and case.name not in wanted:
            continue
        path = folder / f"{case.name}.aimodel"
        try:
            write(module(case), path)
            np.savez(folder / f"{case.name}.npz", **asyncio.run(run(path, feeds(case.operands))))
        except Exception as error:
            failures[case.name] = f"{type(error).__name__}: {error}"
        (folder / "failures.json").write_text(json.dumps(failures))


if __name__ == "__main__":
    main()
