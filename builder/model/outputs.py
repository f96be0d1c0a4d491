"""Which of the tensors that a model returns become outputs, and what they are called."""

from __future__ import annotations

import re

from builder.errors import ConfigurationError
from builder.spec import BuildSpec
from builder.util.suggest import did_you_mean

_SCORES = ("logits", "scores", "output")
"""What a classifier's scores are called by models that name what they return."""


def choose_outputs(spec: BuildSpec, returned: tuple[str, ...]) -> tuple[str, ...]:
    """Return the model's own names of the outputs that the recipe names, in the recipe's order.

    A model that returns names (a dictionary, a dataclass, an ONNX file) is asked for those that the recipe names, in
    any order (by `source_name` where they have one); the rest is left out. Where they are not its own names, all that
    it returns is named in order. A classifier's first output may be called anything: it is the scores. Raises
    ConfigurationError where neither fits.
    """
    wanted = [_own(given.source_name or name, returned) for name, given in spec.output.items()]
    if not wanted:
        return returned
    by_name = any(given.source_name for given in spec.output.values())
    if spec.classifier is not None and wanted[0] not in returned and not by_name:
        wanted[0] = next((name for name in _SCORES if name in returned), wanted[0])
    if all(name in returned for name in wanted):
        return tuple(wanted)
    if len(wanted) == len(returned) and not by_name:
        return returned
    missing = next((name for name in wanted if name not in returned), wanted[0])
    raise ConfigurationError(
        f"the model returns {len(returned)} output(s) ({', '.join(returned)}), and the recipe names {len(wanted)}"
        + ("" if missing in returned else f", of which {missing} is none of them"),
        code="B0262",
        hint=did_you_mean(missing, returned) or "name every output, in the order in which the model returns them",
        key=f"output.{missing}" if missing in spec.output else "output",
    )


def _own(name: str, returned: tuple[str, ...]) -> str:
    """The model's own name as it is returned: of `scores.1` in an ONNX file, `scores_1`."""
    plain = re.sub(r"\W", "_", name)
    return plain if name not in returned and plain in returned else name
