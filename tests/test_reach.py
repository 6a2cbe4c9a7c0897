"""Who reaches the optimum: verdicts against scores by hand, and the page's counts."""

import pytest

from experiments import reach
from mmfuse.errors import InputError
from mmfuse.workdir import open_workdir
from tests.records import make_record

CARD = {
    "name": "made up", "modalities": ["text", "image"],
    "splits": {"test": 2500},  # a standard error of 0.01 at the floor
    "optima": {"text": 0.5, "image": 0.4, "chance": 0.3, "image+text": 0.95},
}  # fmt: skip
SCORES = {  # fusion: accuracy by seed
    "unimodal": (0.96, 0.96, 0.96),  # reads one modality: no method of the page
    "late_average": (0.51, 0.50, 0.56),  # its mean is not above 0.53, though one seed is
    "concat": (0.94, 0.95, 0.96),
    "gmu": (0.94, 0.50, 0.92),
    "mbt": (0.60, 0.50, 0.51),
}
ONE = {"concat": "reaches", "gmu": "on some seeds", "mbt": "in part", "late_average": "no"}


def workdir(folder, card=CARD):
    identity = {"name": "task", "seeds": [0, 1, 2], "rows": {row: {} for row in SCORES}}
    with open_workdir(folder, identity, baseline="concat", command="make it") as found:
        for row, scores in SCORES.items():
            for seed, accuracy in enumerate(scores):
                reads = ["text"] if row == "unimodal" else ["text", "image"]
                data = {"name": card["name"], "fingerprint": "f", "card": card}
                found.write_record(make_record(row, seed, accuracy, reads=reads, data=data))
    return str(folder)


def test_verdicts(tmp_path):
    task = reach.read(workdir(tmp_path / "w"))
    assert (task.floor, task.optimum, task.error) == (0.5, 0.95, 0.01)
    assert {name: reach.verdict(task, scores) for name, scores in task.scores.items()} == ONE


def test_where_timing_counts_the_floor_is_the_pooled_optimum():
    optima = CARD["optima"] | {"image+text (pooled)": 0.7}
    assert reach.bounds(CARD | {"optima": optima}, "w") == (0.7, 0.95)


def test_the_page(tmp_path, capsys):
    page = tmp_path / "reach.md"
    folder = workdir(tmp_path / "w")
    assert reach.main([folder, folder, f"--into={page}"]) == 0
    text = page.read_text()
    assert "| spatial | 2 | 1 | 1 | 0 | 0 | 1 | 1 | 0 | 0 |" in text
    assert "| late | 1 | 0 | 0 | 0 | 1 | 0 | 0 | 0 | 1 |" in text
    assert "| [gmu](fusions.md#gmu) | spatial | 78.67 ± 24.85 | on some seeds (1/3) |" in text
    assert "`make it` at commit 0123456789ab" in text
    assert "unimodal" not in text
    assert reach.main([folder]) == 0
    assert capsys.readouterr().out.count("task (%)") == 1


def test_data_without_an_optimum_is_refused(tmp_path):
    with pytest.raises(InputError, match="the optimum of 'photos' is not known"):
        reach.read(workdir(tmp_path / "w", CARD | {"name": "photos", "optima": {}}))


def test_a_workdir_without_runs_is_refused(tmp_path):
    with open_workdir(tmp_path / "w", {"name": "task"}):
        pass
    with pytest.raises(InputError, match="holds no finished run yet"):
        reach.read(str(tmp_path / "w"))
