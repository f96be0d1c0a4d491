"""The model as the app calls it: raw inputs, exact normalisation, the model itself, softmax, levels of pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Self

import torch

from builder.artifacts.stages import Suppression
from builder.model.calling import Arguments, call_model
from builder.model.detection.detect import Detect
from builder.model.detection.kept import Detections
from builder.model.first_call import as_at_first, begin_as
from builder.model.flatten import flatten_outputs
from builder.model.normalization import Normalization


class Normalize(torch.nn.Module):
    """`scale * x + bias` for each channel of (N, C, H, W); a scale of 1 or a bias of 0 costs nothing."""

    scale: torch.Tensor
    bias: torch.Tensor

    def __init__(self, normalization: Normalization) -> None:
        super().__init__()
        shape = (1, -1, 1, 1)
        self.register_buffer("scale", torch.tensor(normalization.scale, dtype=torch.float32).view(shape))
        self.register_buffer("bias", torch.tensor(normalization.bias, dtype=torch.float32).view(shape))
        self._scales = any(s != 1.0 for s in normalization.scale)
        self._adds = any(b != 0.0 for b in normalization.bias)

    def forward(self, levels: torch.Tensor) -> torch.Tensor:
        """Levels of 0 to 255, float32, to what the model was trained on."""
        if self._scales:
            levels = levels * self.scale
        return levels + self.bias if self._adds else levels


class NormalizeAsTrained(torch.nn.Module):
    """`(x/255 - mean) / std`, the formula of torchvision's Normalize, for levels x of (N, C, H, W)."""

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(self, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
        super().__init__()
        shape = (1, -1, 1, 1)
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32).view(shape))
        self.register_buffer("std", torch.tensor(std, dtype=torch.float32).view(shape))

    def forward(self, levels: torch.Tensor) -> torch.Tensor:
        """Levels of 0 to 255, float32, to what the model was trained on."""
        return (levels / 255 - self.mean) / self.std


class ToLevels(torch.nn.Module):
    """What the model returns as levels of a picture (N, C, H, W): scaled, and clipped where pixels have 8 bits."""

    def __init__(self, normalization: Normalization, *, clips: bool) -> None:
        super().__init__()
        self.normalize = Normalize(normalization)
        self._clips = clips

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        """Levels of 0 to 255, float32, not rounded: Core ML rounds."""
        levels: torch.Tensor = self.normalize(values)
        return levels.clamp(0, 255) if self._clips else levels


class ExportWrapper(torch.nn.Module):
    """The model as the app calls it: raw inputs in order, a tuple with one tensor for each output.

    Scalars (rank 0), which Core ML does not have, are arrays of shape (1,) on both sides.
    """

    def __init__(
        self,
        model: torch.nn.Module,
        arguments: Arguments,
        normalize: Mapping[int, torch.nn.Module],
        levels: Mapping[int, torch.nn.Module],
        *,
        softmax: bool,
        detect: Detect | None = None,
    ) -> None:
        """`normalize` is by the number of an input, `levels` by the number of an output; `detect` runs a detector."""
        super().__init__()
        self.model = model
        self._arguments = arguments
        self.normalize = torch.nn.ModuleDict({str(i): module for i, module in normalize.items()})
        self.levels = torch.nn.ModuleDict({str(i): module for i, module in levels.items()})
        self.detect = detect
        self._softmax = softmax
        self._chosen: tuple[str, ...] | None = None
        self._forgotten: tuple[str, ...] = ()

    def choose(self, names: Sequence[str]) -> Self:
        """Let only these of what the model returns be outputs, by its own names."""
        self._chosen = tuple(names)
        return self

    def forget(self, paths: Sequence[str], first: torch.nn.Module) -> Self:
        """Let every call begin with what `first`, which was never called, holds at these paths of the model."""
        self._forgotten = begin_as(self.model, first, paths)
        return self

    def forward(self, *inputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Normalise the image inputs, run the model, flatten what it returns."""
        returned = flatten_outputs(self.returned(*inputs))
        outputs = tuple(returned[name] for name in self._chosen or returned)
        if self._softmax:
            outputs = (torch.softmax(outputs[0], dim=-1), *outputs[1:])
        shown = (self.levels[str(i)](y) if str(i) in self.levels else y for i, y in enumerate(outputs))
        return _each_its_own(inputs, [y if y.ndim else y.reshape(1) for y in shown])

    def scores(self, *inputs: torch.Tensor) -> torch.Tensor:
        """The first output as the model itself gives it, before any softmax."""
        with torch.no_grad():
            returned = flatten_outputs(self.returned(*inputs))
        return returned[(self._chosen or tuple(returned))[0]]

    def returned(self, *inputs: torch.Tensor) -> Any:
        """What the model itself returns for raw inputs."""
        normalized = self._normalized(inputs)
        if self.detect is not None:
            return self.detect.tensors(self.model, *normalized)
        if not self._forgotten:
            return call_model(self.model, self._arguments.names, self._arguments.of(normalized))
        with as_at_first(self.model, self._forgotten):
            return call_model(self.model, self._arguments.names, self._arguments.of(normalized))

    def more_candidates(self, picture: torch.Tensor) -> dict[str, torch.Tensor]:
        """What a detector gives its last stage, and as much again: what rounding may bring among the best."""
        assert self.detect is not None, "only a detector has candidates"
        return self.detect.more(self.model, *self._normalized((picture,)))

    def original(self, picture: torch.Tensor, suppression: Suppression) -> Detections:
        """What a detector's own post-processing keeps."""
        assert self.detect is not None, "only a detector keeps boxes"
        (normalized,) = self._normalized((picture,))
        return self.detect.original(self.model, normalized, suppression)

    def _normalized(self, inputs: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        return [self.normalize[str(i)](x) if str(i) in self.normalize else x for i, x in enumerate(inputs)]


def _each_its_own(inputs: Sequence[torch.Tensor], outputs: Sequence[torch.Tensor]) -> tuple[torch.Tensor, ...]:
    """The outputs; an input, or a tensor that is returned again, is computed again: each output has its own name."""
    found: list[torch.Tensor] = []
    for number, y in enumerate(outputs):
        if any(y is other for other in (*inputs, *outputs[:number])):
            found.append(y.logical_and(y) if y.dtype == torch.bool else y * y.new_ones(()))
        else:  # no operator may touch it here: a trace would call it by the name of this variable
            found.append(y)
    return tuple(found)
