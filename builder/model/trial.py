"""The model, tried before anything is made of it: it runs at each shape, and answers by its inputs alone."""

from __future__ import annotations

from collections.abc import Callable

import torch

from builder.artifacts.stages import ExampleInputs, Sample
from builder.errors import ConfigurationError, ConversionError
from builder.model.calling import Arguments
from builder.model.flatten import flatten_outputs
from builder.model.states import OneAnswer, decide, reset_states, undeclared
from builder.model.wrapper import ExportWrapper
from builder.spec import BuildSpec
from builder.util.process_state import said_by


def try_out(
    arguments: Arguments,
    reference: ExportWrapper,
    examples: ExampleInputs,
    spec: BuildSpec,
    fresh: Callable[[], ExportWrapper],
) -> tuple[dict[str, torch.Tensor], tuple[str, ...]]:
    """Run the model at every shape that the app may choose; return its outputs at the captured one, and what to forget.

    The outputs are what the model itself returns, before any softmax, by the names that it gives them. To forget are
    the paths of buffers and attributes that a call changes and that decide no answer.

    Integers are int64, and those of 0 and 1 booleans, if the model runs with no others; what runs with none is reported
    as it was. Raises ConfigurationError for a buffer that decides answers and that no state declares, ConversionError
    for a model that does not run, or does not answer by its inputs alone.
    """
    try:
        return _try_out(reference, examples, spec, fresh)
    except ConversionError:
        for wide, booleans in _OTHERS:
            if (wide and not arguments.may_widen) or (booleans and not arguments.may_be_boolean):
                continue
            arguments.widen(to=wide)
            arguments.as_booleans(to=booleans)
            try:
                return _try_out(reference, examples, spec, fresh)
            except ConversionError:
                arguments.widen(to=False)
                arguments.as_booleans(to=False)
        raise


_OTHERS = ((True, False), (False, True), (True, True))
"""How else a model may take integers: in 64 bits, as booleans, or some so and some so."""


def _try_out(
    reference: ExportWrapper, examples: ExampleInputs, spec: BuildSpec, fresh: Callable[[], ExportWrapper]
) -> tuple[dict[str, torch.Tensor], tuple[str, ...]]:
    _refuse_other_floats(reference.model)

    def answer(module: torch.nn.Module, number: int) -> list[torch.Tensor]:
        reset_states(module, [f"model.{state.buffer}" for state in spec.state.values()])
        assert isinstance(module, ExportWrapper), "it is the reference, or a copy of it"
        return list(_returned(module, samples[number]).values())

    samples = (*examples.samples[:1], *examples.other_shapes[:2], *examples.samples[1:])
    others = range(1, 1 + len(examples.other_shapes[:2]))
    before, one_answer = _kept(reference), OneAnswer(reference, answer, fresh, others)
    outputs = _returned(reference, examples.samples[0])
    set_once = changed = undeclared(reference.model, before, spec.state)
    if changed and len(examples.samples) > 1:  # of other values: ConViT computes its indices once, and then has them
        before = _kept(reference)
        _returned(reference, examples.samples[1])
        changed = undeclared(reference.model, before, spec.state)
    for sample in examples.other_shapes:
        _returned(reference, sample)

    def decides(names: list[str]) -> bool:
        return decide(reference, [f"model.{name}" for name in names], answer, (0, *others))

    if changed and decides(changed):
        raise _undeclared(reference.model, changed[0])
    changed += [name for name in set_once if name not in changed and not decides([name])]
    kept = one_answer.check(list(outputs.values()))
    is_open = bool(examples.other_shapes)  # at one size nothing but a first call of its own would be captured
    return outputs, (*changed, *(path.removeprefix("model.") for path in kept if is_open))


def _undeclared(model: torch.nn.Module, name: str) -> ConfigurationError:
    buffer = model.get_buffer(name)
    hint = f"write `state: {{{name.rpartition('.')[2]}: {{buffer: {name}}}}}` (needs ios18)"
    if buffer.ndim == 0 or not buffer.is_floating_point():
        kind = f"{str(buffer.dtype).removeprefix('torch.')} of shape {tuple(buffer.shape)}"
        hint = (
            f"states are arrays of numbers with a fraction, and this is {kind}: return a module from a factory of your "
            "own (`kind: python`) that takes it as an input and returns it, or in which it is an array of floats"
        )
    return ConfigurationError(
        f"running the model changes its buffer {name}, which no state declares", code="B0249", hint=hint, key="state"
    )


def refuse_uninitialised(model: torch.nn.Module) -> None:
    """Raise ConversionError for weights that a lazy module makes at its first call, at random."""
    lazy = [name for name, x in model.named_parameters() if isinstance(x, torch.nn.UninitializedParameter)]
    if lazy:
        raise ConversionError(
            f"the model has no weights for {lazy[0]} before its first call",
            code="B0404",
            hint="call the model once in what makes it, and load its weights then",
            key="source",
        )


def _refuse_other_floats(model: torch.nn.Module) -> None:
    """Raise ConversionError for a model whose weights are all in another precision, or with a tensor in bfloat16.

    A build computes its reference in float32; float64 beside that (a constant that nobody thought of) converts.
    """
    weights = {name: x.dtype for name, x in model.named_parameters() if x.is_floating_point()}
    dtypes = {**weights, **{name: x.dtype for name, x in model.named_buffers()}}
    wrong = [name for name, dtype in dtypes.items() if dtype is torch.bfloat16]
    if weights and torch.float32 not in weights.values():
        wrong = list(weights)
    if wrong:
        raise ConversionError(
            f"{wrong[0]} of the model is {str(dtypes[wrong[0]]).removeprefix('torch.')}"
            + (f", and so are {len(wrong) - 1} more" if len(wrong) > 1 else ""),
            code="B0405",
            hint="end what makes the model with `.float()`, and let forward cast to no other dtype: what the artifact "
            "computes in is what `precision` says",
            key="source",
        )


def _kept(reference: ExportWrapper) -> dict[str, torch.Tensor]:
    return {name: buffer.clone() for name, buffer in reference.model.named_buffers()}


def _returned(reference: ExportWrapper, sample: Sample) -> dict[str, torch.Tensor]:
    tensors = list(sample.tensors.values())
    try:
        with torch.no_grad():
            return flatten_outputs(reference.returned(*tensors))
    except ConversionError:
        raise
    except Exception as error:
        shapes = ", ".join(str(tuple(t.shape)) for t in tensors)
        raise ConversionError(
            f"the model does not run on inputs of shape {shapes}: {said_by(error)}",
            code="B0404",
            hint="compare shape, dtype and number of inputs with what the model's forward takes",
            key="input",
        ) from error
