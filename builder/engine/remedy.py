"""A change to the recipe with which its checks pass: each is tried by a build with all checks before it is shown."""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

import coreml_runtime as runtime
from builder.analysis.numerics.operators import Comparison, compare_programs
from builder.analysis.numerics.samples import Missed, missed_by, samples_to_compare
from builder.analysis.numerics.screen import ranked_line, worst_operators
from builder.artifacts.checks import CheckReport
from builder.artifacts.stages import BuildRequest, Sample
from builder.auto.attempts import Candidate, measured
from builder.auto.decided import resolve_auto
from builder.auto.precision import choose_precision
from builder.backends import backend_of
from builder.engine.pipeline import find_choice, seal_only, try_out
from builder.engine.table import VERIFY
from builder.engine.table.choose import as_tried
from builder.errors import BuilderError
from builder.model.capture.methods import methods_to_try
from builder.progress import Silent
from builder.spec import BuildSpec
from builder.spec.checks import ParityCheck
from builder.spec.compression import Palettize
from builder.spec.coverage import is_without_range
from builder.spec.precision import Fp16, Fp32, Mixed
from builder.spec.source_kinds import kind_of

if TYPE_CHECKING:
    from builder.util.reading import JsonObject

Say = Callable[[str], None]
"""Takes a line for people as soon as it is known."""

SAMPLES = 2
"""On how many of the samples that missed a limit operators are ranked."""
FIRST = 2
"""So many trials may take longer than the time that is left: a promise of the app, and everything in float32."""
MOST_NAMES = 12
"""Where more operators than these must be in float32, all of them are shown to be."""


@dataclass(frozen=True, kw_only=True)
class Remedy:
    """A change with which every check passed."""

    what: str
    section: JsonObject
    """What the recipe says then, by section."""

    def lines(self) -> list[str]:
        """For people, and as it is pasted into the recipe."""
        text = yaml.safe_dump(dict(self.section), sort_keys=False, default_flow_style=None, width=110)
        first, *rest = text.rstrip().splitlines()
        return [f"tried, and all checks pass: {self.what}", f"-> {first}", *(f"   {line}" for line in rest)]


@dataclass(frozen=True, kw_only=True)
class Searched:
    """What was tried, and what helped."""

    remedy: Remedy | None
    tried: tuple[str, ...]
    """Each change that did not help, with what came of it."""
    in_time: bool
    seconds: float


class _OutOfTimeError(Exception):
    """Another trial would take longer than there is time."""


def find_remedy(request: BuildRequest, missed: Missed, *, seconds: float, say: Say) -> Searched:
    """Try changes until one passes or `seconds` are over; what adds most of the error is said on the way.

    Nothing is tried that the recipe has already, or that its kind of source or format cannot do. What passes is made
    smaller as long as there is time.
    """
    if request.spec.is_open:
        chosen = find_choice(request, progress=Silent())
        sections = {"precision": chosen.precision, "compression": chosen.compression}
        request = replace(request, spec=resolve_auto(request.spec, sections))
    with tempfile.TemporaryDirectory(prefix="builder-remedy-") as workspace:
        until = time.monotonic() + seconds
        trials = _Trials(request=request, missed=missed, workspace=Path(workspace), until=until, say=say)
        in_time = True
        try:
            _narrower(trials)  # one check, and what it asks of the app is not for us to grant: the others follow
            promised = len(trials.passed)
            for step in (_in_float32, _compressed_less, _without_substitution, _captured_otherwise):
                step(trials)
                if len(trials.passed) > promised:
                    break
        except _OutOfTimeError:
            in_time = False
        left = until - time.monotonic()
        return Searched(
            remedy=trials.best(), tried=tuple(trials.failed), in_time=in_time, seconds=seconds - max(left, 0)
        )


def found_missed(request: BuildRequest) -> Missed:
    """Where the parity checks of a recipe miss their limits, by running them; nowhere where there are none."""
    checks = {name: check for name, check in request.spec.checks.items() if isinstance(check, ParityCheck)}
    if not checks or request.spec.is_open:
        return Missed()
    inner = replace(request, spec=request.spec.model_copy(update={"checks": checks}))
    with tempfile.TemporaryDirectory(prefix="builder-missed-") as folder:
        return missed_by(try_out(inner, folder=Path(folder))[VERIFY].value())


@dataclass(kw_only=True)
class _Trials:
    """Builds of changed recipes, and what came of them."""

    request: BuildRequest
    missed: Missed
    workspace: Path
    until: float
    say: Say
    passed: list[Remedy] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    longest: float = 0.0

    @property
    def spec(self) -> BuildSpec:
        """The recipe as it is."""
        return self.request.spec

    def best(self) -> Remedy | None:
        """The last that passed, unless it names too many operators for anybody to read."""
        short = [remedy for remedy in self.passed if len(_names(remedy)) <= MOST_NAMES]
        found = short or self.passed
        return found[-1] if found else None

    def build(self, what: str, changes: Mapping[str, object]) -> Candidate | None:
        """Build with changed sections and run all checks; None where that fails before there is anything to check."""
        began = time.monotonic()
        tried = len(self.passed) + len(self.failed)
        if began + (self.longest if tried >= FIRST else 0) > self.until:
            raise _OutOfTimeError
        spec = self.spec.model_copy(update=dict(changes))
        folder = Path(tempfile.mkdtemp(dir=self.workspace))
        try:
            candidate = measured(what, spec, as_tried(try_out(replace(self.request, spec=spec), folder=folder)))
        except BuilderError as error:
            self.failed.append(f"{what} ({error.message.splitlines()[0]})")
            return None
        finally:
            self.longest = max(self.longest, time.monotonic() - began)
        if candidate.passes:
            section = {name: _plain(value) for name, value in changes.items()}
            remedy = Remedy(what=what, section=section)
            if all(each.section.keys() != section.keys() for each in self.passed):  # of a smaller change only the last
                for line in remedy.lines():
                    self.say(line)
            self.passed.append(remedy)
        else:
            self.failed.append(f"{what} ({_shown(candidate)})")
        return candidate

    def rank(self, compared: Comparison, modules: Mapping[str, str]) -> None:
        """Say what adds most of the error, where there was time to measure it."""
        if any(each.noise is not None for each in compared.measured):
            self.say(ranked_line(compared, modules, self.missed.outputs))

    def as_it_is(self) -> Candidate:
        """The artifact that missed its limits, which is not checked again."""
        run = seal_only(self.request, folder=Path(tempfile.mkdtemp(dir=self.workspace)), progress=Silent())
        report = CheckReport(
            name=self.missed.check,
            kind="parity",
            engine="runtime",
            values={},
            limits={},
            passed=False,
            failed_on=self.missed.failed_on,
            worst_input=self.missed.worst_input,
        )
        return Candidate(what="as it is", spec=self.spec, build=as_tried(run), reports=(report,))


def _without_substitution(trials: _Trials) -> None:
    """Leave out each rewrite that is not exact; an exact one changes nothing."""
    substitutions = trials.spec.substitutions
    for effect in trials.as_it_is().build.prepared().substitutions if substitutions else ():
        if effect.replaced and not effect.exact:
            rest = {name: each for name, each in substitutions.items() if name != effect.name}
            trials.build(f"without substitution {effect.name}", {"substitutions": rest})


def _in_float32(trials: _Trials) -> None:
    """The fewest operators in float32; what of them is tried comes from their own errors on the samples that failed."""
    spec = trials.spec
    if isinstance(spec.precision, Fp32) or kind_of(spec.source).is_finished:
        return
    if not spec.format_kind.is_analysed or spec.functions:
        trials.build("everything in float32", {"precision": Fp32(kind="fp32")})
        return
    first = trials.as_it_is()

    def attempt(what: str, precision: Fp16 | Fp32 | Mixed) -> Candidate:
        if precision == spec.precision or isinstance(precision, Fp16):
            return first
        found = trials.build(what, {"precision": precision})
        if found is None:
            raise _RefusedError
        return found

    def samples(_: Candidate) -> Sequence[Sample]:
        return samples_to_compare(spec, first.build.prepared(), trials.missed, SAMPLES)

    def ranking(compared: Comparison, modules: Mapping[str, str]) -> None:
        trials.rank(compared, modules)

    halfway = (time.monotonic() + trials.until) / 2
    try:
        choose_precision(attempt, samples, _modules, ranking=ranking, until=halfway)
    except _RefusedError:
        return


def _modules(candidate: Candidate) -> Mapping[str, str]:
    return candidate.build.modules


class _RefusedError(Exception):
    """A precision that does not convert: the others would not either."""


def _compressed_less(trials: _Trials) -> None:
    """Milder steps, or none for the weights that add most; first none at all, which says whether that is the cause."""
    spec = trials.spec
    if not spec.compression:
        return
    without = trials.build("without compression", {"compression": {}})
    if without is not None and not without.passes:
        _neither(trials)
    if without is None or not without.passes or not spec.format_kind.is_analysed or spec.functions:
        return
    first = trials.as_it_is()
    feeds = backend_of(spec.format).feeds
    samples = samples_to_compare(spec, first.build.prepared(), trials.missed, SAMPLES)
    compared = compare_programs(
        runtime.load(first.path),
        runtime.load(without.path),
        [feeds(sample, spec) for sample in samples],
        outputs=trials.missed.outputs,
        until=(time.monotonic() + trials.until) / 2,
    )
    trials.rank(compared, _modules(first))
    for what, steps in _milder(spec, [each.given_name for each in worst_operators(compared)]):
        trials.build(what, {"compression": steps})


def _neither(trials: _Trials) -> None:
    """Both at once, where the one does not help without the other."""
    spec = trials.spec
    if isinstance(spec.precision, Fp32) or kind_of(spec.source).is_finished:
        return
    mixed = spec.format_kind.is_analysed and not spec.functions
    precision = Mixed(kind="mixed", fp32_names=["*"]) if mixed else Fp32(kind="fp32")
    trials.build("everything in float32, without compression", {"precision": precision, "compression": {}})


def _milder(spec: BuildSpec, worst: Sequence[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Compressions with a little less in them, the larger change first."""
    finer = {
        name: step.model_copy(update={"nbits": next(bits for bits in (2, 3, 4, 6, 8) if bits > step.nbits)})
        if isinstance(step, Palettize) and step.nbits is not None and step.nbits < 8
        else step
        for name, step in spec.compression.items()
    }
    if finer != spec.compression:
        yield "with more bits for each weight", finer
    for count in (4, 1):
        names = list(worst[:count])
        steps = {
            name: step.model_copy(update={"except_names": [*(step.except_names or ()), *names]})
            for name, step in spec.compression.items()
            if hasattr(step, "except_names")
        }
        if len(names) == count and len(steps) == len(spec.compression):
            yield f"without compressing {', '.join(names)}", steps


def _captured_otherwise(trials: _Trials) -> None:
    """The other ways of capture, of a source that has some."""
    spec = trials.spec
    possible = methods_to_try(spec.model_copy(update={"capture": spec.capture.model_copy(update={"method": "auto"})}))
    used = trials.as_it_is().build.method if len(possible) > 1 else possible[0]
    for method in possible:
        if method != used:
            capture = spec.capture.model_copy(update={"method": method})
            found = trials.build(f"capture by {method}", {"capture": capture})
            if found is not None and found.passes:
                return


NARROW = 1.0
"""What floats that declare no range may be promised to stay within: sounds, and what is normalised to that."""


def _narrower(trials: _Trials) -> None:
    """A promise of the app, where the samples hold the limits and an input of no declared range does not."""
    inputs = {
        name: given.model_copy(update={"low": -NARROW, "high": NARROW}) if is_without_range(given) else given
        for name, given in trials.spec.input.items()
    }
    if trials.missed.worst_input is not None and inputs != dict(trials.spec.input):
        trials.build(f"where the app gives nothing beyond {NARROW:g}", {"input": inputs})


def _names(remedy: Remedy) -> Sequence[str]:
    precision = remedy.section.get("precision") or {}
    names: Sequence[str] = precision.get("fp32_names", ())
    return names


def _shown(candidate: Candidate) -> str:
    """What came of a trial that did not help: its SNR, where the samples missed a limit and that says something."""
    if math.isfinite(candidate.snr_db) and any(report.failed_on for report in candidate.reports):
        return f"{candidate.snr_db:.1f} dB"
    return next((str(report.reason) for report in candidate.reports if report.passed is False), "nothing is proved")


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _plain(each) for name, each in value.items()}
    return value.model_dump(mode="json", exclude_defaults=True)


def remedy_lines(searched: Searched) -> list[str]:
    """What helps, as it is pasted; or all that was tried, and that nothing did."""
    if searched.remedy is not None:
        return searched.remedy.lines()
    tried = "; ".join(searched.tried)
    more = "" if searched.in_time else f", and the {searched.seconds:.0f} s for it are over"
    if not tried:
        return [f"no change was tried{more}" if more else "there is no other setting to try for this source and format"]
    return [f"nothing that was tried makes the checks pass{more}: {tried}"]
