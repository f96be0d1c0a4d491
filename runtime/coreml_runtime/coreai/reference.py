"""The reference page of Core AI's operators, written from our tables.

`python -m coreml_runtime.coreai.reference > docs/reference/coreai_operators.md` writes it; a test fails when it
drifts, and where coreai-core is installed when the dialect has an operator that the page lacks.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator

from coreml_runtime.coreai.ops import operators

_HEAD = """# Operators of Core AI

Written by `python -m coreml_runtime.coreai.reference`; do not edit.

What `coreml_runtime` runs of an `.aimodel`. Names are those of the dialect `coreai`; a `decomposable.broadcasting_`
twin is the same kernel. A program with an operator that is not listed as run is refused by name before anything runs.

| operator | family | what it computes |
|---|---|---|
"""

STRUCTURE = {
    "condition": "ends the first block of `while`",
    "constant": "read with the program: bool, integers of 1 to 64 bits, fp4 to fp64, bf16, complex",
    "create_token": "tokens order reads and writes of states, which stand in order anyhow",
    "graph": "a function; a private one is a composite",
    "invoke": "the body of the private function is put in its place",
    "join_token": "as `create_token`",
    "output": "ends a function",
    "yield": "ends a block",
}
"""Operators that need no kernel."""

REFUSED = {
    "delegate": "compiled code of one device",
    "image_to_tensor": "no conversion writes images as inputs; give a tensor",
    "isolated_group": "written while a program is compiled for a device, not by a conversion",
    "metal4_kernel": "code for a GPU",
    "reduce": "coreai-core 1.0.0b3 cannot write it to a file; its special cases are run",
    "reduce_index": "as `reduce`",
    "target_spec": "written while a program is compiled for a device, not by a conversion",
    "tensor_to_image": "as `image_to_tensor`",
}
"""Operators that are refused by name, with the reason."""

_OWN = frozenset({"identity"})
"""Kernels that no file names."""


def render_reference() -> str:
    """Return the page as Markdown."""
    lines = [_HEAD.rstrip("\n"), *_rows()]
    lines += ["", "## Structure", "", "| operator | how it is read |", "|---|---|"]
    lines += [f"| `{name}` | {text} |" for name, text in sorted(STRUCTURE.items())]
    lines += ["", "## Refused", "", "| operator | why |", "|---|---|"]
    lines += [f"| `{name}` | {text} |" for name, text in sorted(REFUSED.items())]
    lines += ["", _TAIL]
    return "\n".join(lines) + "\n"


_TAIL = (
    "Earlier versions of `reshape`, `get_shape`, `tile`, `quantize`, `dequantize` and `blockwise_shift_scale`, which\n"
    "coreai-core 1.0.0b3 no longer writes, are refused by their names with the version, such as `reshape_v1`."
)


def _rows() -> Iterator[str]:
    for name, kernel in sorted(operators().items()):
        if name not in _OWN:
            family = kernel.__module__.rpartition(".")[2]
            meaning = (kernel.__doc__ or "").strip().splitlines()[0].replace("|", "\\|")
            yield f"| `{name}` | {family} | {meaning} |"


if __name__ == "__main__":
    sys.stdout.write(render_reference())
