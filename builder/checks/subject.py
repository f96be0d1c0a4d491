"""What checks look at: one build, from its recipe to its sealed artifact."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from builder.artifacts.stages import CapturedProgram, PreparedModel, Sample, SealedPackage
from builder.data.collection import samples_digest
from builder.errors import SourceError
from builder.model.uncertainty import Uncertainty
from builder.progress import Progress
from builder.spec import BuildSpec
from builder.spec.precision import Fp32

Outputs = Mapping[str, torch.Tensor]
"""By output name, the values for one sample."""


@dataclass(frozen=True, kw_only=True)
class Converted:
    """A program before compression."""

    path: Path
    spec: BuildSpec
    """The recipe without compression."""


@dataclass(frozen=True, kw_only=True)
class Subject:
    """Everything that a verdict may rest on."""

    spec: BuildSpec
    prepared: PreparedModel
    captured: CapturedProgram
    sealed: SealedPackage
    progress: Progress
    function: str = ""
    """The function of the artifact that is looked at; empty where it has none."""
    build_seconds: float = 0.0
    """How much processor time the build took up to its checks."""
    converted: Converted | None = None
    """The program before steps on it compressed weights or values, of an artifact that is compressed."""

    @property
    def scores(self) -> str | None:
        """The output whose largest value is the best class, for classifiers."""
        return self.prepared.output_names[0] if self.spec.classifier else None

    @property
    def in_half(self) -> bool:
        """Whether the artifact computes in half precision or with weights that are compressed."""
        return not isinstance(self.spec.precision, Fp32) or bool(self.spec.compression)

    def reset(self) -> None:
        """Set the states of the PyTorch modules to zero, as a new state of the artifact is."""
        for module in (self.prepared.module, self.prepared.uncompressed, self.prepared.reference):
            for path, buffer in module.named_buffers(remove_duplicate=False):
                if path in self.prepared.states.values():
                    buffer.zero_()

    def states(self) -> dict[str, torch.Tensor]:
        """The states of the model that the artifact is compared with, by path; they change with every run."""
        if not self.prepared.states:
            return {}
        buffers = dict(self.prepared.uncompressed.named_buffers(remove_duplicate=False))
        return {path: buffers[path] for path in self.prepared.states.values()}

    def run_original(self, module: Callable[..., tuple[torch.Tensor, ...]], sample: Sample) -> dict[str, torch.Tensor]:
        """Run a PyTorch module of the deployed form on one sample; its outputs by name.

        Raises SourceError when the module cannot take what the data of a check holds.
        """
        try:
            with torch.no_grad():
                outputs = module(*sample.tensors.values())
        except Exception as error:  # whatever the user's own code raises
            raise SourceError(
                f"the original model raised {type(error).__name__} on the data of a check: {error}",
                code="B0335",
                hint="look for values that the model cannot take, such as an index beyond its vocabulary",
                key="checks",
            ) from error
        return dict(zip(self.prepared.output_names, outputs, strict=True))

    def known_original(self, module: torch.nn.Module, sample: Sample) -> Outputs:
        """As `run_original`, but what capture or another check has computed is not computed again."""
        if self.prepared.states:
            return self.run_original(module, sample)
        outputs = self.prepared.answers.of(
            module, samples_digest([sample]), lambda: tuple(self.run_original(module, sample).values())
        )
        return dict(zip(self.prepared.output_names, outputs, strict=True))

    def known_captured(self, sample: Sample) -> Outputs:
        """What the captured program gives for a sample, by output name; likewise."""
        program, inputs = self.captured, tuple(sample.tensors.values())
        if self.prepared.states:
            outputs = program.run(*inputs)
        else:
            outputs = program.answers.of(program.program, samples_digest([sample]), lambda: program.run(*inputs))
        return dict(zip(self.prepared.output_names, outputs, strict=True))

    def other_outputs(self, module: torch.nn.Module, samples: Sequence[Sample]) -> OtherOutputs:
        """What `module` answers for each sample where its rounding falls otherwise; states begin as they are now."""
        buffers = dict(module.named_buffers(remove_duplicate=False)) if self.prepared.states else {}
        states = {path: buffers[path] for path in self.prepared.states.values()}
        answers = Uncertainty(module, _Tensors(samples), states, half=not isinstance(self.spec.precision, Fp32))
        return OtherOutputs(answers, self.prepared.output_names)


class OtherOutputs:
    """By the number of a sample, what the original answers for it where its rounding falls otherwise."""

    def __init__(self, answers: Uncertainty, names: Sequence[str]) -> None:
        self._answers, self._names = answers, names

    def __call__(self, number: int) -> list[Outputs]:
        """In float32 on the same sample, but for the last digit."""
        return [dict(zip(self._names, answer, strict=True)) for answer in self._answers(number)]

    def further(self, number: int) -> Iterator[Outputs]:
        """Where its inputs and weights are rounded as the artifact rounds them, each made when it is asked for."""
        for answer in self._answers.further(number):
            yield dict(zip(self._names, answer, strict=True))


class _Tensors(Sequence[tuple[torch.Tensor, ...]]):
    """What the original takes of each sample, made when it is asked for."""

    def __init__(self, samples: Sequence[Sample]) -> None:
        self._samples = samples

    def __len__(self) -> int:
        return len(self._samples)

    def __getitem__(self, number: Any) -> Any:
        return tuple(self._samples[number].tensors.values())
