"""The study: every trial of a search in a file of Optuna's, from which a search that was killed goes on."""

from __future__ import annotations

import json
import random
import secrets
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from builder.errors import ConfigurationError, UnfitEnvironmentError
from builder.search.settings import Search
from builder.search.space import Point, arguments_of, identity, points, suggest
from builder.search.trials import Trial
from builder.util.install import extra

FILE = "study.db"
NAME = "search"
_FACTS, _IDENTITY, _IDENTIFIER = "builder", "builder", "sweep_id"
"""The user attributes of a trial and of the study that hold what Optuna has no place for."""
_TRIES_BY_SAMPLER, _TRIES_AT_RANDOM = 20, 200
"""How often new settings are asked for before those that were not tried yet are counted out, or given up."""


@dataclass(frozen=True, kw_only=True)
class PendingTrial:
    """Settings that are to be built, as a trial of the study."""

    number: int
    """From 1."""
    point: Point
    handle: Any
    """Optuna's trial."""


class Study:
    """A study on disk, used by one process at a time."""

    def __init__(self, file: Path, search: Search, what: Mapping[str, object]) -> None:
        """Open the study in `file`, or begin one; `what` tells what is searched, and must be what it was.

        Raises UnfitEnvironmentError where Optuna is missing, and ConfigurationError for a study of something else.
        """
        self._optuna = _optuna()
        self._search = search
        self._file = file
        with self._storage():
            self._study = self._optuna.create_study(
                storage=f"sqlite:///{file.absolute()}",
                study_name=NAME,
                directions=[objective.goal for objective in search.objectives.values()],
                load_if_exists=True,
            )
            before = self._study.user_attrs.get(_IDENTITY)
            if before is None:
                self._study.set_user_attr(_IDENTITY, dict(what))
            elif (changed := _changed(before, what)) is not None:
                raise ConfigurationError(
                    f"the study in {file.parent} was begun with {changed}",
                    code="B0233",
                    hint="`search.name=…` begins another one, and without its folder this one begins anew",
                )
            self._left = [t.number for t in self._trials() if t.state.name == "RUNNING"]
        self.resumed = before is not None

    def ask(self) -> PendingTrial | None:
        """Return settings that no trial had before; None where there are enough trials, or no more settings."""
        with self._storage():
            return self._ask()

    def _ask(self) -> PendingTrial | None:
        if self._left:  # of a search that was killed while they ran
            return self._asked(self._handle(self._left.pop(0)))
        trials = self._trials()
        self._study.sampler = self._sampler(len(trials), 0)
        if any(trial.state.name == "WAITING" for trial in trials):  # killed just before it could ask
            return self._asked(self._study.ask())
        if len(trials) >= self._search.trials:
            return None
        point = self._new_point(trials)
        if point is None:
            return None
        self._study.enqueue_trial(dict(point))
        return self._asked(self._study.ask())

    def _asked(self, handle: Any) -> PendingTrial:
        point = suggest(self._search.space, handle)
        return PendingTrial(number=handle.number + 1, point=point, handle=handle)

    def _handle(self, number: int) -> Any:
        trial = next(t for t in self._trials() if t.number == number)
        return self._optuna.trial.Trial(self._study, trial._trial_id)

    def tell(self, asked: PendingTrial, trial: Trial) -> None:
        """Keep what became of a trial."""
        states = self._optuna.trial.TrialState
        with self._storage():
            asked.handle.set_user_attr(_FACTS, json.dumps(trial.facts()))
            known = asked.handle.constraints
            for name, excess in trial.excesses.items():
                if name not in known:  # told already by a search that was killed just then
                    asked.handle.set_constraint(name, excess)
            match trial.state:
                case "complete" | "infeasible":
                    self._study.tell(asked.handle, [trial.values[name] for name in self._search.objectives])
                case "pruned":
                    self._study.tell(asked.handle, state=states.PRUNED)
                case _:
                    self._study.tell(asked.handle, state=states.FAIL)

    def trials(self) -> list[Trial]:
        """All trials so far, those that are not finished too."""
        with self._storage():
            return [self._read(trial) for trial in self._trials()]

    def is_exhausted(self) -> bool:
        """Whether every point of the space has its trial."""
        everything = points(self._search.space)
        return everything is not None and {identity(p) for p in everything} <= {t[0] for t in self._tried()}

    def identifier(self, new: str) -> str:
        """The study's identifier; `new` where it has none yet."""
        with self._storage():
            if _IDENTIFIER not in self._study.user_attrs:
                self._study.set_user_attr(_IDENTIFIER, new)
            return str(self._study.user_attrs[_IDENTIFIER])

    @contextmanager
    def _storage(self) -> Iterator[None]:
        """Quietly, and with what the database refuses as an error of the environment, or of a damaged file."""
        from sqlalchemy.exc import DBAPIError, OperationalError

        refused = self._optuna.exceptions.StorageInternalError
        try:
            with _quiet(self._optuna):
                yield
        except (DBAPIError, refused) as error:
            first = error if isinstance(error, DBAPIError) else error.__cause__
            if isinstance(first, OperationalError):  # of a full disk, a folder that cannot be written, a lock
                raise UnfitEnvironmentError(
                    f"the study {self._file} cannot be written: {first.orig}",
                    code="B0706",
                    hint="free some space or make it writable: the search goes on where it was",
                ) from error
            raise ConfigurationError(
                f"the study {self._file} is damaged: {getattr(first, 'orig', first)}",
                code="B0233",
                hint="`search.name=…` begins another one, and without its folder this one begins anew",
            ) from error

    def _trials(self) -> list[Any]:
        found: list[object] = self._study.get_trials(deepcopy=False)
        return found

    def _read(self, trial: Any) -> Trial:
        point = {name: trial.params[name] for name in self._search.space if name in trial.params}
        facts = trial.user_attrs.get(_FACTS)
        if facts is None or not trial.state.is_finished():
            arguments = arguments_of(self._search.space, point)
            return Trial(number=trial.number + 1, point=point, arguments=arguments, state="running")
        kept = json.loads(facts)
        return Trial(number=trial.number + 1, point=point, **{**kept, "arguments": tuple(kept["arguments"])})

    def _tried(self) -> Iterator[tuple[str, Any]]:
        for trial in self._trials():
            params = trial.params or trial.system_attrs.get("fixed_params", {})
            yield identity({name: params[name] for name in self._search.space if name in params}), trial

    def _new_point(self, trials: Sequence[object]) -> Point | None:
        """A point that was not tried: the sampler's, else one of those that are left."""
        tried = {text for text, _ in self._tried()}
        number = len(trials)
        everything = points(self._search.space)
        left = None if everything is None else [p for p in everything if identity(p) not in tried]
        if left == []:
            return None
        if self._search.sampler == "grid":
            assert left is not None  # a grid over a continuous range is refused
            return left[0]
        for attempt in range(_TRIES_BY_SAMPLER + _TRIES_AT_RANDOM):
            if attempt == _TRIES_BY_SAMPLER and left is not None:
                return random.Random(f"{self._search.seed}/{number}").choice(left)
            point = self._drawn(trials, number, attempt)
            if identity(point) not in tried:
                return point
        return None

    def _drawn(self, trials: Sequence[object], number: int, attempt: int) -> Point:
        """What the sampler proposes; in a copy of the study, so that repeated settings leave no trial behind."""
        copy = self._optuna.create_study(directions=self._study.directions, sampler=self._sampler(number, attempt + 1))
        copy.add_trials(trials)
        return suggest(self._search.space, copy.ask())

    def _sampler(self, number: int, attempt: int) -> Any:
        """A sampler whose draws depend on the seed and the trial's number only, not on where a search was resumed."""
        seed = random.Random(f"{self._search.seed}/{number}/{attempt}").getrandbits(32)
        samplers = self._optuna.samplers
        some = max(4, self._search.trials // 4)
        if self._search.sampler == "tpe" and attempt <= _TRIES_BY_SAMPLER:
            return samplers.TPESampler(seed=seed, n_startup_trials=min(10, some))
        if self._search.sampler == "nsga2" and attempt <= _TRIES_BY_SAMPLER:
            return samplers.NSGAIISampler(seed=seed, population_size=min(50, some))
        return samplers.RandomSampler(seed=seed)


def identifier_of(study: Study, now: float) -> str:
    """The tag that all runs of a study have in MLflow, made when the study began at `now` (seconds since 1970)."""
    return study.identifier(f"{time.strftime('%Y%m%dT%H%M%S', time.gmtime(now))}-{secrets.token_hex(2)}")


def _optuna() -> Any:
    try:
        import optuna
    except ImportError as error:
        raise UnfitEnvironmentError(
            "a search needs Optuna, which is not installed",
            code="B0701",
            hint=extra("search"),
        ) from error
    return optuna


@contextmanager
def _quiet(optuna: Any) -> Iterator[None]:
    """Keep Optuna from telling on stderr what we tell ourselves, and restore its verbosity."""
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        yield
    finally:
        optuna.logging.set_verbosity(before)


def _changed(before: Mapping[str, object], now: Mapping[str, object]) -> str | None:
    """Say in which parts two descriptions differ, None where they do not."""
    different = [name for name in now if before.get(name) != now[name]]
    return f"other {' and '.join(different)}" if different else None
