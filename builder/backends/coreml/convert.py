"""The convert stage: a captured program as a Core ML model, with explicit inputs, outputs, precision and target."""

from __future__ import annotations

import contextlib
import errno
import io
import logging
import tempfile
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from builder.artifacts.stages import CapturedProgram, ConvertedModel, ExampleInputs, PreparedModel
from builder.backends.coreml.compression.restore import FIRST_GENERATION, restore
from builder.backends.coreml.importing import import_coremltools
from builder.backends.coreml.input_types import color_layout, input_types
from builder.backends.coreml.lowerings.assignment import assignments
from builder.backends.coreml.lowerings.decomposed import written_out
from builder.backends.coreml.lowerings.half_masks import finite_masks
from builder.backends.coreml.lowerings.high_rank import high_ranks_lowered
from builder.backends.coreml.lowerings.register import registered_lowerings, uses
from builder.backends.coreml.lowerings.writes import functional_writes, uses_of_writes
from builder.backends.coreml.module_names import modules_of_operators
from builder.backends.coreml.neural_network import declare_integers, halve_weights
from builder.backends.coreml.onnx_import import mil_program
from builder.backends.coreml.patches.apply import patched
from builder.backends.coreml.patches.conversion import fast_conversion, validate_program
from builder.backends.coreml.patches.exact_passes import exact_passes
from builder.backends.coreml.precision import MixedSelector, half_precision_selector, normalization_depth
from builder.backends.coreml.refusals import refused_by, why_refused
from builder.backends.coreml.retarget import retarget
from builder.backends.coreml.source_lines import lines_of_operators, noted_lines
from builder.errors import BuilderError, ConversionError, UnfitEnvironmentError
from builder.model.sources.coreml import file_forms
from builder.spec import BuildSpec
from builder.spec.outputs import ImageOutput
from builder.spec.precision import Fp32, Mixed
from builder.util.text import first_of

if TYPE_CHECKING:
    from types import ModuleType

    from coremltools.converters.mil.input_types import ClassifierConfig, InputType, StateType
    from coremltools.converters.mil.mil import Operation, Program
    from coremltools.models import MLModel

COMPRESSED = "_COREML_/"
"""Part of the names of buffers by which coremltools.optimize.torch marks compressed weights."""

_LOG = logging.getLogger("builder.convert")
_FUSING = "coremltools.converters.mil.mil.passes.defs.optimize_elementwise_binary"


def convert(
    prepared: PreparedModel,
    captured: CapturedProgram,
    examples: ExampleInputs,  # noqa: ARG001 - stages of one kind take the same arguments; shapes come from the spec
    spec: BuildSpec,
) -> ConvertedModel:
    """Convert `captured` to `spec.format`; what coremltools says goes to the log.

    Raises ConversionError when coremltools cannot, ConfigurationError when labels do not fit the classes.
    """
    ct = import_coremltools()
    if captured.method == "coreml":
        return retarget(ct, captured, prepared, spec)
    selector = _selector(prepared, spec)
    with fast_conversion() as keep, conversion_errors("the model cannot be converted"):
        captured = written_out(captured)
        with (
            registered_lowerings() as used,
            functional_writes() as written,
            assignments(),
            high_ranks_lowered(),
            exact_passes(),
            finite_masks(),
            _named_probabilities(prepared, spec),
            _exact_normalization(prepared),
            noted_lines() as noted,
        ):
            types = _output_types(ct, prepared, spec)
            program = captured.program
            if captured.method == "onnx":
                program = mil_program(ct, program.model, prepared, spec, [output.name for output in types])
            model = ct.convert(
                program,
                inputs=input_types(ct, spec),
                outputs=types,
                states=state_types(ct, prepared, spec),
                classifier_config=_classifier(ct, prepared, spec),
                convert_to="mlprogram" if spec.format == "mlpackage" else "neuralnetwork",
                minimum_deployment_target=getattr(ct.target, spec.target.coremltools_name),
                compute_precision=_precision(ct, spec, selector),
                skip_model_load=True,
            )
        if isinstance(selector, MixedSelector):
            selector.check_all_matched()
        validate_program(model._mil_program)
        modules = modules_of_operators(model._mil_program)
        lines = lines_of_operators(model._mil_program, noted)
        _check_compressed(captured, model)
        plain: list[str] = []
        if spec.format == "mlmodel":
            declare_integers(model._spec, spec)
            model = model if isinstance(spec.precision, Fp32) else halve_weights(model, prepared)
        elif _may_be_of_a_file(captured):
            model, plain = _restored(model, prepared, spec)
        keep(model)
    return ConvertedModel(
        model=model,
        lowerings=(*uses(used), *uses_of_writes(written)),
        summary=_describe(model) + (f"; stored plain: {first_of(plain, 3)}" if plain else ""),
        modules=modules,
        lines=lines,
    )


def _may_be_of_a_file(captured: CapturedProgram) -> bool:
    """Whether the program may hold the operators of a finished Core ML model: else its module is not even made."""
    return captured.method == "export" and any(".network." in f".{path}" for path in captured.program.state_dict)


def _restored(model: MLModel, prepared: PreparedModel, spec: BuildSpec) -> tuple[MLModel, list[str]]:
    """The model with weights as a finished Core ML file has them, and the names of those that are plain."""
    plain: list[str] = []
    forms = file_forms(prepared.module)
    if not forms or spec.target.generation < FIRST_GENERATION:
        return model, list(forms)

    def change(program: Program) -> None:
        plain.extend(restore(program, forms, spec.target.generation))

    return with_program(model, change), plain


@contextmanager
def conversion_errors(what: str) -> Iterator[None]:
    """Wrap what coremltools raises, once, and send its warnings and prints to the log."""
    printed = io.StringIO()
    try:
        with warnings.catch_warnings(record=True) as caught, contextlib.redirect_stdout(printed):
            warnings.simplefilter("default")
            yield
    except BuilderError:
        raise
    except Exception as error:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise UnfitEnvironmentError(
                f"the disk is full: {error}",
                code="B0706",
                hint=f"free some space in {tempfile.gettempdir()}, or set TMPDIR",
            ) from error
        _LOG.debug("%s", what, exc_info=error)
        raise ConversionError(f"{what}; {refused_by(error)} refused: {why_refused(error)}", code="B0401") from error
    finally:
        for warning in caught:
            _LOG.debug("%s: %s", warning.category.__name__, warning.message)
        for line in filter(None, printed.getvalue().splitlines()):
            _LOG.debug("%s", line)


def with_program(model: MLModel, change: Callable[[Program], None]) -> MLModel:
    """A new model whose program `change` has changed in place."""
    from coremltools.converters.mil.mil.passes.graph_pass import AbstractGraphPass
    from coremltools.models.utils import _apply_graph_pass

    class Apply(AbstractGraphPass):  # type: ignore[misc] # coremltools is untyped
        def apply(self, prog: Program) -> None:
            change(prog)

    return _apply_graph_pass(model, Apply())


def _output_types(ct: ModuleType, prepared: PreparedModel, spec: BuildSpec) -> list[InputType]:
    """One type for each output; integers stay integers where the recipe does not say a dtype."""
    import numpy as np

    types = []
    for index, name in enumerate(prepared.output_names):
        given = spec.output.get(name)
        if index == 0 and spec.classifier is not None:
            types.append(ct.TensorType(name=_scores_name(prepared, spec)))
        elif isinstance(given, ImageOutput):
            types.append(ct.ImageType(name=name, color_layout=color_layout(ct, given.color_layout)))
        elif spec.format == "mlmodel":
            types.append(ct.TensorType(name=name))  # a neural network has float32 outputs
        else:
            dtype = (
                given.dtype
                if given is not None and given.dtype
                else "int32"
                if name in prepared.integer_outputs
                else "float32"
            )
            types.append(ct.TensorType(name=name, dtype=getattr(np, dtype)))
    return types


def state_types(ct: ModuleType, prepared: PreparedModel, spec: BuildSpec) -> list[StateType] | None:
    """One type for each state, by the path of its buffer, which coremltools wants; the seal stage names them."""
    import numpy as np

    if not prepared.states:
        return None  # the module of a model without states is not even made where its program was stored
    buffers = dict(prepared.module.named_buffers(remove_duplicate=False))
    return [
        ct.StateType(
            wrapped_type=ct.TensorType(shape=tuple(buffers[path].shape), dtype=getattr(np, spec.state[name].dtype)),
            name=path,
        )
        for name, path in prepared.states.items()
    ] or None


def _scores_name(prepared: PreparedModel, spec: BuildSpec) -> str:
    """The name of the array behind the dictionary of probabilities, which has the output's own name in a program."""
    return f"{prepared.output_names[0]}_scores" if spec.format == "mlpackage" else prepared.output_names[0]


def _classifier(ct: ModuleType, prepared: PreparedModel, spec: BuildSpec) -> ClassifierConfig | None:
    if spec.classifier is None or prepared.labels is None:
        return None
    return ct.ClassifierConfig(
        list(prepared.labels),
        predicted_feature_name=spec.classifier.predicted_feature_name,
        predicted_probabilities_output=_scores_name(prepared, spec),
    )


@contextmanager
def _named_probabilities(prepared: PreparedModel, spec: BuildSpec) -> Iterator[None]:
    """Give the dictionary of probabilities the output's name, where coremltools writes `<predicted feature>_probs`."""
    if spec.classifier is None or spec.format == "mlmodel":
        yield
        return

    def naming(
        add_classify_op: Callable[[Program, ClassifierConfig], tuple[str, str]],
    ) -> Callable[[Program, ClassifierConfig], tuple[str, str]]:
        def add(program: Program, config: ClassifierConfig) -> tuple[str, str]:
            label, _ = add_classify_op(program, config)
            main = program.functions["main"]
            main.outputs[1].name = prepared.output_names[0]
            if main.output_types is not None and len(main.outputs) > 2:  # label and dictionary stand for the scores
                main.output_types = [main.output_types[0], *main.output_types]
            return label, prepared.output_names[0]

        return add

    with patched("coremltools.converters.mil.backend.mil.load:_add_classify_op", naming):
        yield


@contextmanager
def _exact_normalization(prepared: PreparedModel) -> Iterator[None]:
    """Keep coremltools from fusing the normalisation of an image to a batch_norm, which is not the same.

    Its pass fuse_elementwise_to_batchnorm leaves epsilon at 1e-5 beside a variance of 1, so that the factor is too
    small by 5e-6: 2e-5 at level 255. Delete this when it compensates for epsilon.
    """

    def elsewhere(match: Callable[[Operation], object]) -> Callable[[Operation], object]:
        return lambda op: None if normalization_depth(op, prepared.normalization) else match(op)

    with patched(f"{_FUSING}:fuse_elementwise_to_batchnorm._match_pattern", elsewhere):
        yield


def _check_compressed(captured: CapturedProgram, model: MLModel) -> None:
    """Raise ConversionError where what torch compressed has become plain weights, which coremltools does silently."""
    if captured.method != "trace" or not any(COMPRESSED in name for name, _ in captured.program.named_buffers()):
        return
    if not any(op.op_type.startswith("constexpr_") for op in model._mil_program.functions["main"].operations):
        raise ConversionError(
            "the weights that were compressed in PyTorch are plain ones after conversion", code="B0410"
        )


def _selector(prepared: PreparedModel, spec: BuildSpec) -> Callable[[Operation], bool]:
    select = half_precision_selector(prepared.normalization)
    return MixedSelector(keep=spec.precision, selects=select) if isinstance(spec.precision, Mixed) else select


def _precision(ct: ModuleType, spec: BuildSpec, selector: Callable[[Operation], bool]) -> object:
    if spec.format == "mlmodel":
        return None
    if isinstance(spec.precision, Fp32):
        return ct.precision.FLOAT32
    return ct.transform.FP16ComputePrecision(op_selector=selector)


def _describe(model: MLModel) -> str:
    """One line for people: how many operators of which kinds."""
    program = model._mil_program
    if program is None:
        layers = getattr(model._spec, model._spec.WhichOneof("Type")).layers
        return f"{len(layers)} layers"
    counts = Counter(op.op_type for op in program.functions["main"].operations if op.op_type != "const")
    return f"{counts.total()} operators"
