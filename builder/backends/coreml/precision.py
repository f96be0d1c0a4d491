"""Which operators of a MIL program compute in half precision."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from builder.backends.coreml.angles import angle_selector
from builder.errors import ConfigurationError
from builder.spec.detection_names import PARTS
from builder.spec.precision import Mixed
from builder.util.suggest import did_you_mean

if TYPE_CHECKING:
    from coremltools.converters.mil.mil import Operation, Var

_NORMALISING = ("mul", "add", "sub", "real_div", "batch_norm")
"""What a normalisation can become: coremltools fuses a mul and an add per channel to one batch_norm."""


def normalization_steps(normalization: Mapping[str, Mapping[str, Sequence[float]]]) -> dict[str, int]:
    """By image input, how many operators its normalisation takes: one for a scale, one for a bias."""
    return {
        name: int(any(s != 1.0 for s in given["scale"])) + int(any(b != 0.0 for b in given["bias"]))
        for name, given in normalization.items()
    }


def normalization_depth(op: Operation, inputs: Iterable[str]) -> tuple[str, int] | None:
    """The image input that `op` normalises and its position behind it from 1, or None for any other operator.

    Given:   %x_1 = mul(x=%image, y=scale);  %x_2 = add(x=%x_1, y=bias);  %y = conv(x=%x_2, weight=w)
    Result:  ("image", 1) for mul, ("image", 2) for add, None for conv
    """
    if op.op_type not in _NORMALISING:
        return None
    varying = [var for var in _variables(op) if var.op is None or var.op.op_type != "const"]
    if len(varying) != 1:
        return None
    source = varying[0]
    while source.op is not None and source.op.op_type == "cast":  # of a G16 image
        source = source.op.x
    if source.op is None:
        return (source.name, 1) if source.name in inputs else None
    before = normalization_depth(source.op, inputs)
    return None if before is None else (before[0], before[1] + 1)


def half_precision_selector(normalization: Mapping[str, Mapping[str, Sequence[float]]]) -> Callable[[Operation], bool]:
    """Everything in half precision except what loses bits that show.

    That is the normalisation of images, with levels of 0 to 255, the decoding of boxes, whose edges would move by
    pixels and whose order decides what non-maximum suppression keeps, and angles of positions and times.
    """
    steps = normalization_steps(normalization)
    is_angle = angle_selector()

    def select(op: Operation) -> bool:
        if is_decoding(op) or is_angle(op):
            return False
        found = normalization_depth(op, steps)
        return found is None or found[1] > steps[found[0]]

    return select


@dataclass(kw_only=True)
class MixedSelector:
    """Half precision except what the recipe keeps in float32; remembers what there was to name.

    An operator that coremltools fused from several, such as conv and batch_norm, belongs to the last one's module.
    """

    keep: Mixed
    selects: Callable[[Operation], bool]
    """What the selection starts from: `half_precision_selector`."""
    op_types: set[str] = field(default_factory=set)
    names: set[str] = field(default_factory=set)
    modules: set[str] = field(default_factory=set)

    def __call__(self, op: Operation) -> bool:
        """Whether `op` computes in half precision."""
        if op.op_type == "const":
            return True  # a constant follows the operators that it feeds
        names = {name for output in op.outputs for name in (output.name, artifact_name(output.name))}
        modules = module_paths(op)
        self.op_types.add(op.op_type)
        self.names |= names
        self.modules |= modules
        kept = (
            op.op_type in self.keep.fp32_op_types_if_present
            or _any_match({op.op_type}, self.keep.fp32_op_types)
            or _any_match(names, self.keep.fp32_names)
            or _any_match(modules, self.keep.fp32_modules)
        )
        return not kept and self.selects(op)

    def check_all_matched(self) -> None:
        """Raise ConfigurationError for a pattern that named nothing in the program, or a type that no program has."""
        self._check_known_types()
        settings = (
            ("fp32_op_types", self.keep.fp32_op_types, self.op_types, "operator type"),
            ("fp32_names", self.keep.fp32_names, self.names, "operator output"),
            ("fp32_modules", self.keep.fp32_modules, self.modules, "module"),
        )
        for setting, patterns, known, what in settings:
            for pattern in patterns:
                if any(fnmatchcase(name, pattern) for name in known):
                    continue
                if setting == "fp32_modules" and not known:
                    hint: str | None = "write `capture.method: trace`: exported programs carry no module paths"
                else:
                    hint = did_you_mean(pattern, known)
                raise ConfigurationError(
                    f"{pattern} matches no {what} of the program",
                    code="B0264",
                    hint=hint,
                    key=f"precision.{setting}",
                )

    def _check_known_types(self) -> None:
        from coremltools.converters.mil.mil.ops.registry import SSAOpRegistry

        known = set(SSAOpRegistry.core_ops)
        for name in self.keep.fp32_op_types_if_present:
            if name not in known:
                raise ConfigurationError(
                    f"{name} is not an operator type of MIL",
                    code="B0264",
                    hint=did_you_mean(name, known),
                    key="precision.fp32_op_types_if_present",
                )


def artifact_name(name: str) -> str:
    """How an artifact calls a value that is called `name` when its precision is chosen (coremltools' NameSanitizer)."""
    plain = re.sub(r"[^a-zA-Z0-9_]", "_", name)
    return plain if re.match(r"[a-zA-Z_]", plain) else f"var_{plain}"


def module_paths(op: Operation) -> set[str]:
    """The paths of the PyTorch modules that `op` came from: the innermost and all around it.

    coremltools keeps them as scopes of traced programs. The builder wraps the model as `model`, which is left out.
    """
    from coremltools.converters.mil.mil.scope import ScopeSource

    names = [name for name in op.scopes.get(ScopeSource.TORCHSCRIPT_MODULE_NAME, []) if name]
    paths = {".".join(names[: count + 1]) for count in range(len(names))}
    return paths | {path.removeprefix("model.") for path in paths}


def is_decoding(op: Operation) -> bool:
    """Whether `op` decodes the boxes of a detector: the builder's own part of the captured module, where traced."""
    from coremltools.converters.mil.mil.scope import ScopeSource

    names = op.scopes.get(ScopeSource.TORCHSCRIPT_MODULE_NAME, [])
    return len(names) > 1 and names[0] in PARTS


def _variables(op: Operation) -> Iterable[Var]:
    for value in op.inputs.values():
        yield from value if isinstance(value, list | tuple) else (value,)


def _any_match(names: Iterable[str], patterns: Iterable[str]) -> bool:
    return any(fnmatchcase(name, pattern) for name in names for pattern in patterns)
