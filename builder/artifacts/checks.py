"""What the checks found, with the evidence that a report shows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, get_args

from builder.artifacts.headroom import Headroom


class InStore:
    """Marks bytes that the store keeps as an object of their own: the record has only the object's name.

    `builder.engine.serialize` gives what reads and writes objects, as the context of pydantic's adapter.
    """

    def __get_pydantic_core_schema__(self, source: object, handler: object) -> Any:
        read = {"type": "with-info", "function": lambda name, info: info.context.read(name)}
        write = {"type": "function-plain", "info_arg": True, "function": lambda value, info: info.context.write(value)}
        return {"type": "function-plain", "function": read, "serialization": write}  # a schema of pydantic-core


StoredBytes = Annotated[bytes, InStore()]


@dataclass(frozen=True, kw_only=True)
class CheckedOutput:
    """What both models gave as one output, in words; where it is a picture, as PNG too."""

    name: str
    reference: str
    artifact: str
    reference_png: StoredBytes | None = None
    artifact_png: StoredBytes | None = None


@dataclass(frozen=True, kw_only=True)
class CheckedPicture:
    """A picture that a check used, and what both models said of it, best class first."""

    input: str
    png: StoredBytes
    """The picture as the app gives it, PNG-encoded."""
    label: str | None
    """The right class, where the data is labelled."""
    reference_top: tuple[tuple[str, float], ...]
    """The original's best classes, each with its probability (or score)."""
    artifact_top: tuple[tuple[str, float], ...]
    """The artifact's; empty for what is not a classifier."""
    engine: str
    outputs: tuple[CheckedOutput, ...] = ()
    """What the tops do not tell: every output that is not a classifier's."""


Verdict = Literal["passed", "failed", "inconclusive", "skipped"]
VERDICTS: tuple[Verdict, ...] = get_args(Verdict)
"""What a check may end with: the last two have `passed` None, since nothing was proved or it did not run."""


@dataclass(frozen=True, kw_only=True)
class CheckReport:
    """The verdict of one check. `passed` is None where it did not run or proves nothing, with `reason`."""

    name: str
    kind: str
    engine: str
    """`coreml` (Apple's), `runtime` (ours) or `none` (structure only)."""
    values: Mapping[str, Any]
    limits: Mapping[str, Mapping[str, float]]
    passed: bool | None
    reason: str | None = None
    samples: int | None = None
    data: Mapping[str, Any] | None = None
    """What was it measured on: the kind of data, how many samples, in words too (`description`), and their digest; the
    array inputs without data (`synthetic`), and how many stress inputs and tries of a search there were besides."""
    pictures: tuple[CheckedPicture, ...] = ()
    """Evidence for the report; not in `build.json`."""
    worst_input: StoredBytes | None = None
    """The input on which artifact and original differ most of all that were tried, as `.npz`; not in `build.json`."""
    failed_on: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    """By output that missed a limit, the numbers of the samples, those first that differ most."""
    headroom: Headroom | None = None
    """What values the artifact's operators have, by bounds and on the first inputs of this check; in `build.json` by
    itself."""

    @property
    def verdict(self) -> Verdict:
        """The one word for it, everywhere: `inconclusive` where it was measured and proves nothing, or has no limit."""
        if self.passed is None:
            return "inconclusive" if self.values else "skipped"
        return "passed" if self.passed else "failed"
