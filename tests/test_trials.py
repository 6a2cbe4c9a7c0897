"""The store of trials, and what is said where optuna is missing."""

import sys

import pytest

from mmfuse.errors import InputError
from mmfuse.search import Search
from mmfuse.trials import Trial, check_optuna, open_trials

SPACE = {"train.lr": ["log", 0.1, 1.0], "train.batch": ["choice", 8, 9]}
SEARCH = Search(3, 7, "accuracy", SPACE, 0)


def trial(number, score=0.1 + 0.2, **changes):
    facts = {"loss": 1 / 3, "epoch": 2, "epochs": 5, "diverged": False} | changes
    return Trial(number, SEARCH.draw(number), score, **facts)


@pytest.mark.parametrize("name", ["plain", "a b?c#d%20&é"])
def test_trials_come_back_with_their_bits(tmp_path, name):
    folder = tmp_path / name
    folder.mkdir()
    lost = trial(0, None, loss=None, diverged=True)
    with open_trials(folder, True, SEARCH.distributions()) as trials:
        assert trials.finished("a") == {}
        for each in (trial(2), lost):
            trials.add("a", each)
        trials.add("b, 'c'", trial(1, 0.25))
    assert [path.name for path in folder.iterdir()] == ["trials.db"]
    with open_trials(folder, True, SEARCH.distributions()) as trials:
        found = trials.finished("a")
        assert found == {0: lost, 2: trial(2)}
        assert list(found) == [0, 2]
        assert trials.finished("b, 'c'") == {1: trial(1, 0.25)}


def test_optuna_reads_it(tmp_path):
    import optuna

    with open_trials(tmp_path, False, SEARCH.distributions()) as trials:
        trials.add("a", trial(0, 0.5))
        trials.add("a", trial(1, 0.25))
    storage = optuna.storages.RDBStorage(f"sqlite:///{tmp_path / 'trials.db'}")
    study = optuna.load_study(study_name="a", storage=storage)
    assert (study.best_value, study.best_params) == (0.25, SEARCH.draw(1))
    storage.remove_session()
    storage.engine.dispose()


def test_without_optuna(monkeypatch):
    check_optuna()
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(InputError, match=r"pip install 'mmfuse\[tune\]'") as error:
        check_optuna()
    assert "\n" not in str(error.value)
