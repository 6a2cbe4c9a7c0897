"""The trials of a tuning, in an SQLite file that optuna and its dashboard read: a study per row.

A trial is written once, when it has finished, in one transaction. So a kill leaves whole trials and
none that is half done; which are missing, and what their settings are, follows from their numbers.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import sqlite3
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mmfuse.errors import InputError

FILE = "trials.db"


@dataclasses.dataclass(frozen=True)
class Trial:
    """One finished trial.

    Attributes:
      number: from 0; it settles ``values``.
      values: the settings, ``{"train.lr": 0.001}``.
      score: validation value of the metric at the chosen epoch, or None: it diverged, or the metric
        was not defined there.
      loss: validation loss at that epoch, None if it diverged or was not finite.
      epoch: the chosen one, from 0.
      epochs: how many were trained.
      diverged: whether a loss was not finite.
    """

    number: int
    values: dict[str, Any]
    score: float | None
    loss: float | None
    epoch: int
    epochs: int
    diverged: bool


def check_optuna() -> None:
    """Raises InputError, with what to install, where optuna is missing."""
    try:
        import optuna  # noqa: F401
    except ImportError as error:
        raise InputError(
            f"experiments.tune needs optuna ({error}): pip install 'mmfuse[tune]'"
        ) from error


class Trials:
    """All trials of a tuning; made by ``open_trials``."""

    def __init__(self, storage: Any, higher: bool, distributions: Mapping[str, Any]):
        self._storage, self._higher = storage, higher
        self._distributions = dict(distributions)

    def _study(self, row: str) -> Any:
        import optuna

        return optuna.create_study(
            storage=self._storage,
            study_name=row,
            direction="maximize" if self._higher else "minimize",
            load_if_exists=True,
        )

    def finished(self, row: str) -> dict[int, Trial]:
        """The finished trials of a row, by number."""
        found = {}
        for trial in self._study(row).get_trials(deepcopy=False):
            facts = trial.user_attrs
            found[facts["number"]] = Trial(values=dict(trial.params), score=trial.value, **facts)
        return dict(sorted(found.items()))

    def add(self, row: str, trial: Trial) -> None:
        """Writes a finished trial; one without a score counts as failed in optuna's eyes."""
        import optuna

        state = optuna.trial.TrialState
        facts = dataclasses.asdict(trial)
        values, score = facts.pop("values"), facts.pop("score")
        self._study(row).add_trial(
            optuna.trial.create_trial(
                state=state.FAIL if score is None else state.COMPLETE,
                value=score,
                params=values,
                distributions=self._distributions,
                user_attrs=facts,
            )
        )


@contextlib.contextmanager
def open_trials(
    folder: str | os.PathLike, higher: bool, distributions: Mapping[str, Any]
) -> Iterator[Trials]:
    """The trials kept in a folder, which the caller has locked.

    Args:
      folder: where ``trials.db`` lies, or is made.
      higher: whether a higher score is better.
      distributions: of ``Search.distributions``.
    """
    import optuna
    from sqlalchemy.pool import NullPool

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    path = Path(folder).absolute() / FILE
    how = {"creator": lambda: sqlite3.connect(path), "poolclass": NullPool}
    # The URL only names the kind: a path may hold what means something else in a URL.
    storage = optuna.storages.RDBStorage(f"sqlite:///{FILE}", engine_kwargs=how)
    try:
        yield Trials(storage, higher, distributions)
    finally:
        storage.remove_session()
        storage.engine.dispose()
