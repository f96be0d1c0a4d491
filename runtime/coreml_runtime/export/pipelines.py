"""The networks of a pipeline as one program; its other stages are named, with what the app has to do instead."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from torch import Tensor

from coreml_runtime.errors import UnsupportedError
from coreml_runtime.export.networks import Around
from coreml_runtime.export.staged import Staged
from coreml_runtime.features import Feature, read_interface
from coreml_runtime.ops.table import Value
from coreml_runtime.pipeline import fit

if TYPE_CHECKING:
    from google.protobuf.message import Message


NETWORKS = ("mlProgram", "neuralNetwork", "neuralNetworkClassifier", "neuralNetworkRegressor")
PIPELINES = ("pipeline", "pipelineClassifier", "pipelineRegressor")


def stages_of(specification: Message) -> Sequence[Message]:
    """The models of a pipeline in the file's order."""
    kind = specification.WhichOneof("Type")
    message = specification.pipeline if kind == "pipeline" else getattr(specification, kind).pipeline
    found: Sequence[object] = message.models
    return found


def only_network(specification: Message) -> int | None:
    """The place of the network in a pipeline that has one; None for several, none, and other models."""
    if specification.WhichOneof("Type") not in PIPELINES:
        return None
    places = [i for i, stage in enumerate(stages_of(specification)) if stage.WhichOneof("Type") in NETWORKS]
    return places[0] if len(places) == 1 else None


def open_pipeline(specification: object, where: str, open_stage: Callable[[int], Staged]) -> Staged:
    """The networks, joined by the names of their values.

    Raises UnsupportedError where there is none, or where another stage stands between them.
    """
    stages = stages_of(specification)
    kinds = [stage.WhichOneof("Type") for stage in stages]
    places = [index for index, kind in enumerate(kinds) if kind in NETWORKS]
    if not places:
        raise UnsupportedError(f"{where}: no stage of the pipeline is a network, only {', '.join(map(str, kinds))}")
    left = tuple(
        _left(index, stage, before=index < places[0])
        for index, stage in enumerate(stages)
        if index not in places
    )  # fmt: skip
    if len(places) == 1:
        return replace(open_stage(places[0]), specification=specification, left=left)
    between = [index for index in range(places[0], places[-1]) if index not in places]
    if between or places[0]:
        index = between[0] if between else 0
        raise UnsupportedError(
            f"{where}: stage {index} of the pipeline, {kinds[index]}, gives a network what it reads, and is not one"
        )
    later = stages[places[-1] + 1 :]
    return _joined(specification, [open_stage(index) for index in places], later, left)


def _joined(specification: Message, parts: Sequence[Staged], later: Sequence[Message], left: tuple[str, ...]) -> Staged:
    interface = read_interface(specification.description)
    wanted = {*interface.outputs, *(each.name for stage in later for each in stage.description.input)}
    given = {name: feature for part in parts for name, feature in part.inputs.items() if name in interface.inputs}
    outputs = tuple(dict.fromkeys(name for part in parts for name in part.outputs if name in wanted))

    def run(inputs: dict[str, object], states: dict[str, Tensor], around: Around) -> dict[str, Value]:
        values: dict[str, object] = dict(inputs)
        origins: dict[str, Feature] = dict(interface.inputs)
        for number, part in enumerate(parts):
            taken = {
                name: fit(feature, values[name], origins.get(name), number)
                for name, feature in part.inputs.items()
                if name in values
            }
            own = {name: state for name, state in states.items() if name in part.states}
            values.update(part.run(taken, own, _within(around, number)))
            origins.update(part.declared)
        return {name: values[name] for name in outputs}

    return Staged(
        specification=specification,
        inputs={name: interface.inputs[name] for name in given},
        declared={name: feature for part in parts for name, feature in part.declared.items()},
        states={name: state for part in parts for name, state in part.states.items()},
        outputs=outputs,
        operators=tuple(_named(number, name) for number, part in enumerate(parts) for name in part.operators),
        run=run,
        weights=_renamed(parts, "weights"),
        precisions=_renamed(parts, "precisions"),
        left=left,
        forms=tuple(form for part in parts for form in part.forms),
    )


def _named(number: int, name: str) -> str:
    return f"stage_{number}_{name}"


def _within(around: Around, number: int) -> Around:
    return lambda name, run: around(_named(number, name), run)


def _renamed(parts: Sequence[Staged], field: str) -> dict[str, Any]:
    found: dict[str, object] = {}
    for number, part in enumerate(parts):
        values: Mapping[str, object] = getattr(part, field)
        found.update((_named(number, name), value) for name, value in values.items())
    return found


def _left(index: int, stage: Message, *, before: bool) -> str:
    """What an app has to do in the place of a stage."""
    kind = stage.WhichOneof("Type")
    reads, gives = (
        ", ".join(each.name for each in entries) for entries in (stage.description.input, stage.description.output)
    )
    if kind == "nonMaximumSuppression":
        return f"stage {index}, non-maximum suppression, stays behind: {_suppression(stage.nonMaximumSuppression)}"
    when = "before the network" if before else "after the network"
    return f"stage {index}, {kind}, stays behind: the app computes {gives} from {reads} {when}"


def _suppression(stage: Message) -> str:
    kept = "of each class" if stage.pickTop.perClass else "of all classes together"
    return (
        f"the app keeps the boxes of {stage.coordinatesInputFeatureName} whose best value in "
        f"{stage.confidenceInputFeatureName} is at least {stage.confidenceThreshold:g}, and {kept} no two that overlap "
        f"by more than {stage.iouThreshold:g} (IoU)"
    )
