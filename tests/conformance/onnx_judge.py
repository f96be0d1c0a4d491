"""Builds a case as a user would, executes the artifact, and says whether it computes what onnxruntime computes."""

import re
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import ValidationError

import coreml_runtime as runtime
from builder.artifacts.stages import CapturedProgram, ExampleInputs, PreparedModel, Sample
from builder.backends.coreml.convert import convert
from builder.errors import BuilderError, ConfigurationError, SourceError
from builder.model.calling import Arguments
from builder.model.sources.onnx import OnnxModule, load_onnx
from builder.progress import Silent
from builder.spec import BuildSpec
from builder.spec.source import OnnxSource
from builder.stages.capture import capture
from builder.stages.prepare import prepare
from tests.conformance.onnx_cases import Case, Values, stressed

RIGHT, WRONG, REFUSED, BROKEN = "right", "wrong", "refused", "broken"
PRECISIONS = ("fp32", "fp16")
_HALF_MOST = 2048.0
"""Inputs of half precision are at most this: beyond, what overflows is the model's own affair."""
_LARGEST_HALF, _HARMLESS = 60000, 16.0
"""What half precision holds, and inputs whose products and powers within a loop are not beyond it."""
# fmt: off
_MOVING = frozenset({
    "Clip", "Concat", "Constant", "DepthToSpace", "Expand", "Flatten", "Gather", "GatherElements", "GatherND",
    "Identity", "Max", "MaxPool", "Min", "Pad", "ReduceMax", "ReduceMin", "Relu", "Reshape", "ReverseSequence",
    "ScatterElements", "ScatterND", "Slice", "SpaceToDepth", "Split", "Squeeze", "Tile", "TopK", "Transpose", "Trilu",
    "Unsqueeze", "Where",
})
# fmt: on
"""Operators that only move values, or choose among them: infinities among others harm nothing."""
_OPENED = [("", "Attention"), ("", "NegativeLogLikelihoodLoss"), ("", "SoftmaxCrossEntropyLoss")]
"""Operators whose intermediate values are the model's own: products of queries and keys, sums of losses."""
_INT32 = 2**31
_SLACK = {"fp32": (256 * 2**-23, 1e-6), "fp16": (16 * 2**-10, 1e-3)}
"""Of the largest value of an output and absolutely: what rounding alone may change."""


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What came of a case in one precision; `baked` inputs had to be constants, `on` says which inputs failed."""

    case: str
    precision: str
    verdict: str
    reason: str = ""
    on: str = ""
    baked: tuple[str, ...] = ()
    operators: tuple[str, ...] = ()
    compared: int = 0

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def judge(case: Case) -> Iterator[Verdict]:
    """One verdict for each precision; parameters are baked in where the file as it is cannot be converted."""
    operators = tuple(sorted({node.op_type for node in case.model.graph.node}))
    verdicts: dict[str, Verdict] = {}
    for baked in _to_bake(case):
        left = [p for p in PRECISIONS if p not in verdicts or verdicts[p].verdict in (REFUSED, BROKEN)]
        if not left:
            break
        with tempfile.TemporaryDirectory() as name, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            file = Path(name) / "m.onnx"
            _save(case, file)
            captured: _Captured | BuilderError | Exception
            try:
                captured = _capture(case, file, baked)
            except Exception as error:
                captured = error
            for precision in left:
                found = _verdict(case, captured, precision)
                if precision not in verdicts or found.verdict != REFUSED:
                    verdicts[precision] = replace(found, operators=operators, baked=baked)
    yield from verdicts.values()


@dataclass(frozen=True, kw_only=True)
class _Captured:
    """A case as far as its program, which is converted in each precision."""

    file: Path
    baked: tuple[str, ...]
    given: Values
    moves: bool
    half: bool
    prepared: PreparedModel
    program: CapturedProgram
    examples: ExampleInputs


def _capture(case: Case, file: Path, baked: tuple[str, ...]) -> _Captured:
    if any(array.dtype.kind not in "fiubV" for array in case.given.values()):
        raise SourceError("the file takes text, and Core ML takes and gives arrays of numbers", code="B0318")
    spec = _spec(case, file, "fp32", baked)
    given = {key: _rounded(array, "fp16") for key, array in case.given.items() if key not in baked}
    examples = ExampleInputs(samples=(_sample(spec, given),), digest="")
    assert isinstance(spec.source, OnnxSource)
    prepared = prepare(load_onnx(spec.source, spec, Silent()), examples, spec)
    program = capture(prepared, examples, "onnx", {})
    kinds = {value.type.tensor_type.elem_type for value in (*case.model.graph.input, *case.model.graph.output)}
    return _Captured(
        file=file,
        baked=baked,
        given=given,
        moves=all(node.op_type in _MOVING for node in case.model.graph.node),
        half=10 in kinds,  # TensorProto.FLOAT16: the original computes in half precision itself
        prepared=prepared,
        program=program,
        examples=examples,
    )


def _verdict(case: Case, captured: _Captured | Exception, precision: str) -> Verdict:
    common = {"case": case.name, "precision": precision}
    try:
        if isinstance(captured, Exception):
            raise captured
        on, reason, compared = _compared(case, captured, precision)
    except BuilderError as error:
        return Verdict(**common, verdict=REFUSED, reason=_short(str(error.message)))
    except TimeoutError:
        raise
    except Exception as error:
        return Verdict(**common, verdict=BROKEN, reason=_short(repr(error)))
    return Verdict(**common, verdict=WRONG if reason else RIGHT, reason=reason, on=on, compared=compared)


def _to_bake(case: Case) -> Iterator[tuple[str, ...]]:
    """Nothing, then what looks like parameters: small integers and scalars behind the first input, then more."""
    yield ()
    rest = list(case.given.items())[1:]
    small = tuple(name for name, a in rest if a.ndim < 2 and (a.dtype.kind in "iub" or a.size == 1))
    if small:
        yield small
    others = tuple(name for name, _ in rest)
    if others and others != small:
        yield others
    everything = tuple(case.given)[:-1]
    if len(everything) and everything != others:
        yield everything


def _compared(case: Case, captured: _Captured, precision: str) -> tuple[str, str, int]:
    """Words for the inputs that failed and why, both empty where none did, and how many inputs were compared."""
    spec, prepared = _spec(case, captured.file, precision, captured.baked), captured.prepared
    converted = convert(prepared, captured.program, captured.examples, spec)
    package = captured.file.with_name(f"{precision}.mlpackage")
    converted.model.save(str(package))
    artifact = runtime.load(package)
    compared = 0
    precision = "fp16" if captured.half else precision
    for word, values in (("as shipped", captured.given), *stressed(captured.given, moves=captured.moves)):
        rounded = {key: _rounded(array, precision) for key, array in values.items()}
        try:
            wanted = [_outputs(prepared, spec, rounded)]
            shaken = [_outputs(prepared, spec, _shaken(rounded, precision, seed)) for seed in range(3)]
            shapes = [output.shape for output in wanted[0]]
            wanted += [outputs for outputs in shaken if [output.shape for output in outputs] == shapes]
        except Exception:
            if word == "as shipped":
                raise
            continue
        if _overflows(prepared, spec, rounded, _LARGEST_HALF if precision == "fp16" else 3e38):
            continue
        compared += 1
        predicted = artifact.predict(dict(_sample(spec, rounded).given))
        got = [np.asarray(predicted[key]) for key in prepared.output_names]
        for key, found, outputs in zip(prepared.output_names, got, zip(*wanted, strict=True), strict=True):
            if reason := _difference(found, outputs, precision, asks_infinity=True):
                return word, f"{key}: {reason}", compared
    return "", "", compared


def _difference(found: np.ndarray, outputs: Sequence[np.ndarray], precision: str, *, asks_infinity: bool) -> str:
    """In what an output differs from the original's, beyond what the original changes by rounding of its inputs.

    An infinite result is asked for where inputs are finite; a result that is not a number never.
    """
    wanted, *others = outputs
    if found.shape != wanted.shape:
        return f"shape {found.shape} for {wanted.shape}"
    if not wanted.size:
        return ""
    exact = wanted.astype(np.float64)
    exact = np.where(abs(exact) > 3e38, np.sign(exact) * np.inf, exact)  # the lowest float32, by which masks are made
    if wanted.dtype.kind in "iub":
        fits = abs(exact) < _INT32
        return "" if np.array_equal(found[fits], wanted[fits]) else _shown(found, wanted, fits & (found != wanted))
    steady = [np.where(np.isfinite(o) & np.isfinite(exact), abs(o.astype(np.float64) - exact), 0.0) for o in others]
    finite = np.isfinite(exact)
    relative, absolute = _SLACK[precision]
    largest = np.max(abs(exact[finite]), initial=0.0)
    limit = 8 * np.max(steady, axis=0) + relative * np.maximum(abs(exact), min(largest, 1.0) * 0.01) + absolute
    # sums, as of Fourier transforms, round at the scale of their terms, onnxruntime's too
    limit = limit + largest * 2.0**-19 if precision == "fp32" else limit + relative * largest / 4
    if precision == "fp16":
        finite &= abs(exact) < 60000
    got = found.astype(np.float64)
    wrong = finite & ~(abs(got - exact) <= limit)
    if asks_infinity:
        wrong |= np.isinf(exact) & (got != exact)
    return _shown(found, wanted, wrong) if wrong.any() else ""


def _shown(found: np.ndarray, wanted: np.ndarray, wrong: np.ndarray) -> str:
    place = np.unravel_index(np.argmax(wrong), wrong.shape)
    return f"{found[place]:.6g} for {wanted[place]:.6g}, {wrong.mean():.0%}"


def _spec(case: Case, file: Path, precision: str, baked: Sequence[str]) -> BuildSpec:
    inputs: dict[str, Any] = {}
    for number, (name, array) in enumerate(case.given.items()):
        called = f"input_{number}"
        if name in baked:
            inputs[called] = {"constant": array.tolist(), "source_name": name}
            continue
        inputs[called] = {"kind": "tensor", "shape": list(array.shape), "source_name": name}
        if array.dtype.kind in "iub":
            inputs[called] |= {"dtype": "int32", "low": -(2**31), "high": 2**31 - 1}
    return _validated(
        {
            "source": {"kind": "onnx", "file": str(file)},
            "input": inputs,
            "precision": {"kind": precision},
            "target": {"name": "ios18"},
            "tracking": {"kind": "none"},
        }
    )


def _validated(recipe: dict[str, Any]) -> BuildSpec:
    """The spec; what the recipe cannot say is refused as a build does it."""
    try:
        return BuildSpec.model_validate(recipe)
    except ValidationError as error:
        first = error.errors()[0]
        raise ConfigurationError(
            f"the recipe cannot say it: {first['loc'][-1]}: {first['msg']}", code="B0214"
        ) from error


def _save(case: Case, file: Path) -> None:
    import onnx

    onnx.save(case.model, str(file))


def _sample(spec: BuildSpec, values: Values) -> Sample:
    """The inputs as the app gives them; scalars as arrays of one element, everything in float32 or int32."""
    names = {given.source_name: name for name, given in spec.artifact_inputs.items()}
    given = {}
    for own, name in names.items():
        array = values[str(own)]
        dtype = np.float32 if array.dtype.kind == "f" else np.int32
        given[name] = np.ascontiguousarray(array.reshape(array.shape or (1,)).astype(dtype))
    return Sample(given=given, tensors={name: torch.from_numpy(array) for name, array in given.items()})


def _outputs(prepared: Any, spec: BuildSpec, values: Values) -> list[np.ndarray]:
    return [output.numpy() for output in prepared.reference(*_sample(spec, values).tensors.values())]


def _overflows(prepared: Any, spec: BuildSpec, values: Values, most: float) -> bool:
    """Whether a value between the file's own operators is beyond what the precision holds: the model's own affair."""
    import onnx

    source = next(module for module in prepared.reference.modules() if isinstance(module, OnnxModule))
    largest = max(
        (float(abs(x[np.isfinite(x)]).max(initial=0)) for x in values.values() if x.dtype.kind == "f"), default=0
    )
    if (
        most <= _LARGEST_HALF
        and largest > _HARMLESS
        and {"Scan", "Loop"} & {node.op_type for node in source.graph.graph.node}
    ):
        return True  # what is computed within a loop is not seen
    model = onnx.ModelProto()
    model.CopyFrom(source.graph)
    model = onnx.inliner.inline_selected_functions(
        onnx.shape_inference.infer_shapes(model), _OPENED, exclude=False, inline_schema_functions=True
    )
    outputs = {value.name for value in model.graph.output}
    between = {name for node in model.graph.node for name in node.output if name and name not in outputs}
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in sorted(between))
    every = OnnxModule(model, source.inputs)
    results = every(*Arguments(spec.artifact_inputs).of(list(_sample(spec, values).tensors.values())))
    return any(
        bool((~y.isnan() & (y.abs() > most) & (y > -torch.inf)).any())
        for y in results.values()
        if torch.is_floating_point(y)
    )


def _rounded(array: np.ndarray, precision: str) -> np.ndarray:
    """Floats as half precision holds them, where that is what the artifact computes in."""
    if array.dtype.kind != "f" or precision == "fp32":
        return array
    finite = np.isfinite(array)
    return np.where(finite, np.clip(array, -_HALF_MOST, _HALF_MOST), array).astype(np.float16).astype(array.dtype)


def _shaken(values: Values, precision: str, seed: int) -> Values:
    """The same, each float changed by up to one unit in its last place."""
    generator = np.random.default_rng(seed)
    unit = 2.0**-23 if precision == "fp32" else 2.0**-10
    return {
        name: (array * (1 + unit * generator.choice([-1.0, 1.0], size=array.shape))).astype(array.dtype)
        if array.dtype.kind == "f"
        else array
        for name, array in values.items()
    }


def _short(text: str) -> str:
    return re.sub(r"/tmp\S*/", "", text)[:300]
