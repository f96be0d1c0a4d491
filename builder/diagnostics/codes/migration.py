"""B0417 to B0419: what of a finished Core ML model cannot become another format."""

from __future__ import annotations

from builder.diagnostics.code import Code, Example

_HEAD = """\
from coremltools.models import datatypes
from coremltools.models.neural_network import NeuralNetworkBuilder
from coremltools.models.utils import save_spec

{arrays}
made = NeuralNetworkBuilder({given}, [("y", None)], disable_rank5_shape_mapping=True)
"""


def _file(layer: str, to: str = "pt2", **sizes: int) -> Example:
    """A neural network of one layer, which `export` is given."""
    arrays = "\n".join(f"{name} = datatypes.Array({size})" for name, size in sizes.items())
    given = "[" + ", ".join(f'("{name}", {name})' for name in sizes) + "]"
    script = _HEAD.format(arrays=arrays, given=given) + layer + 'save_spec(made.spec, "m.mlmodel")\n'
    return Example(files={"make.py": script}, commands=("python make.py", f"export m.mlmodel --to {to}"))


CODES = (
    Code(
        code="B0417",
        title="an operator of a finished model has no counterpart",
        text="`export`, and a build of another format from a Core ML file, take the file apart into operators of "
        "torch. The message names the operator or layer as the file does, and why it cannot be one: a custom layer, a "
        "tree, text, what is drawn by a seed for a size that an input gives.",
        example=_file(
            'made.add_random_uniform_dynamic("noise", "x", "y", seed=3)\n',
            x=2,
        ),
    ),
    Code(
        code="B0418",
        title="a format cannot hold what a finished model needs",
        text="The operators became a program of torch, but the other format has no place for a part of it: ONNX has no "
        "states, and random numbers cannot be compared where another engine draws them. The message says which. "
        "`export --to pt2` holds both.",
        example=_file(
            'made.add_random_uniform_like("noise", "x", "y")\n',
            to="onnx",
            x=2,
        ),
    ),
    Code(
        code="B0419",
        title="nothing can be proven of a migrated file",
        text="`export` executes both ends on inputs that it draws, and the original takes none of them: the values of "
        "an input give sizes that must fit each other, or no recipe can say what the input takes. Nothing is written.",
        example=_file(
            'made.add_reshape_dynamic("shaped", ["x", "sizes"], "y")\n',
            x=7,
            sizes=2,
        ),
    ),
)
