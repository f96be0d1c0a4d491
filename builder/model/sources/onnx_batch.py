"""A batch that an ONNX file fixes, opened on request: the app chooses it, and both graphs run to see that it may."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from builder.errors import SourceError
from builder.model.sources.onnx_graph import graphs_in

if TYPE_CHECKING:
    from onnx import GraphProto, ModelProto
    from onnxruntime import InferenceSession

_SEED = 0
_COUNTS, _LARGEST = (2, 3, 5), 16
"""How many times the file's batch is tried, and the largest multiple that is tried of what a recipe declares."""
_KEY = "source.open_batch"


def open_batch(model: ModelProto, path: Path) -> int:
    """Open the first size of all inputs that have the first one's, and return that; the graph is changed.

    Given:   %x (1, 3, 8, 8);  %y = Reshape(%x, [1, 192])
    Result:  %x (batch, 3, 8, 8);  %y = Reshape(%x, [0, 192])

    Raises SourceError where no input has a fixed first size.
    """
    defaults = {tensor.name for tensor in model.graph.initializer}
    batched = [v for v in model.graph.input if v.name not in defaults and v.type.tensor_type.shape.dim]
    sizes = [value.type.tensor_type.shape.dim[0] for value in batched]
    fixed = next((int(size.dim_value) for size in sizes if size.dim_value > 0), 0)
    if not fixed:
        raise SourceError(
            f"no input of {path} has a fixed first size, so there is no batch to open",
            code="B0316",
            hint="leave `open_batch` out",
            key=_KEY,
        )
    for size in sizes:
        if size.dim_value == fixed:
            size.dim_param = "batch"
    for value in model.graph.output:
        value.type.tensor_type.ClearField("shape")
    for graph in graphs_in(model.graph):
        del graph.value_info[:]
        _open_reshapes(graph, fixed)
    return fixed


def _open_reshapes(graph: GraphProto, fixed: int) -> None:
    """Let a Reshape whose first size is the batch take it from what it reshapes."""
    import onnx

    wanted = {node.input[1] for node in graph.node if node.op_type == "Reshape"}
    made = [(node.output[0], node.attribute[0].t) for node in graph.node
            if node.op_type == "Constant" and node.attribute[0].name == "value"]  # fmt: skip
    for name, tensor in (*((tensor.name, tensor) for tensor in graph.initializer), *made):
        shape = onnx.numpy_helper.to_array(tensor) if name in wanted else np.zeros(0)
        if len(shape) > 1 and shape[0] == fixed:
            tensor.CopyFrom(onnx.numpy_helper.from_array(np.array([0, *shape[1:]], np.int64), tensor.name))


def check_opened(fixed: InferenceSession, opened: InferenceSession, batch: int, path: Path, most: int = 0) -> None:
    """Run both sessions on some batches: one after the other, and as one. `most` is the largest that is declared.

    Raises SourceError where that gives something else: then operators of the file count on its batch.
    """
    generator = np.random.default_rng(_SEED)
    largest = min(most // batch, _LARGEST)
    counts = sorted({count for count in (*_COUNTS, largest) if 1 < count <= max(largest, _COUNTS[-1])})
    for count in counts:
        for draw in _DRAWS:
            parts = [_drawn(fixed, generator, draw, number) for number in range(count)]
            shared = {name: array for name, array in parts[0].items() if not array.ndim or array.shape[0] != batch}
            parts = [part | shared for part in parts]
            whole = {name: np.concatenate([part[name] for part in parts]) for name in parts[0] if name not in shared}
            apart = [fixed.run(None, part) for part in parts]
            try:
                reason = _difference(apart, opened.run(None, whole | shared))
            except Exception as error:  # onnxruntime has an exception for each of its status codes
                reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            if reason:
                raise SourceError(
                    f"the batch of {path} cannot be opened: of {count * batch} at once, {reason}",
                    code="B0316",
                    hint="export the model again with the batch among `dynamic_axes`: an operator of the file counts "
                    "on it",
                    key=_KEY,
                )


Draw = Callable[[np.random.Generator, Sequence[int], int], np.ndarray]
"""(generator, shape, number of the part) -> numbers of one input."""

_DRAWS: tuple[Draw, ...] = (
    lambda generator, shape, _: generator.random(shape),
    lambda generator, shape, _: generator.standard_normal(shape),
    lambda generator, shape, number: generator.standard_normal(shape) * 10.0 ** (number % 3 - 1),
    lambda _, shape, number: np.full(shape, float(number % 2)),
)
"""Shares, signs, parts of other sizes, and parts that are all ones next to zeros: what one part does to another."""


def _drawn(session: InferenceSession, generator: np.random.Generator, draw: Draw, number: int) -> dict[str, np.ndarray]:
    """Numbers for each input, integers of them 0 and 1; sizes that are open are 2."""
    given = {}
    for value in session.get_inputs():
        shape = [size if isinstance(size, int) else 2 for size in value.shape]
        kind = {"tensor(float)": np.float32, "tensor(float16)": np.float16, "tensor(double)": np.float64}
        if value.type in kind:
            given[value.name] = draw(generator, shape, number).astype(kind[value.type])
        else:
            dtype = value.type.removeprefix("tensor(").removesuffix(")")
            given[value.name] = generator.integers(0, 2, shape).astype(dtype)
    return given


def _difference(apart: Sequence[Sequence[np.ndarray]], together: Sequence[np.ndarray]) -> str:
    for index, (*parts, both) in enumerate(zip(*apart, together, strict=True)):
        wanted = np.concatenate(parts) if parts[0].ndim else parts[0]
        if wanted.shape != both.shape:
            return f"output {index} has shape {both.shape} for {wanted.shape}"
        if not np.allclose(both, wanted, rtol=1e-3, atol=_near(wanted), equal_nan=True):
            return f"output {index} is another one"
    return ""


def _near(wanted: np.ndarray) -> float:
    """A ten-thousandth of the largest number: products of more rows round otherwise."""
    return 1e-4 * float(np.max(np.abs(wanted), initial=1e-6, where=np.isfinite(wanted)))
