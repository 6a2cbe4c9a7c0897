"""The A/A study: what it counts on made-up scores, and that it runs on trained ones."""

import numpy as np
import pytest

from experiments import calibrate
from experiments.calibrate import ROWS, SEEDS, Count, study

SIZE = ROWS * SEEDS


def _study(scores):
    return {c.name.split(" ")[-1]: c for c in study([{"accuracy": float(x)} for x in scores])}


def test_counts_by_hand():
    scores = np.random.default_rng(0).normal(0.5, 0.01, SIZE)
    calm = _study(scores)
    assert calm["baseline"].n == calm["kind"].n == 1 and calm["mean"].n == ROWS
    assert calm["0"].n == ROWS - 1
    scores[SEEDS : 2 * SEEDS] += 0.3  # the second row is another row after all
    wild = _study(scores)
    assert wild["baseline"].hits == wild["(letters)"].hits == wild["kind"].hits == 1
    assert wild["0"].hits == calm["0"].hits - 1 and wild["mean"].hits < ROWS


def test_runs_are_dealt_to_rows_and_seeds():
    # Scores that depend on the seed alone: paired, no row differs from any other.
    paired = np.tile(np.linspace(0.1, 0.9, SEEDS), ROWS)
    assert _study(paired)["baseline"].hits == _study(paired)["(letters)"].hits == 0
    # Scores that depend on the row alone have no spread, so nothing is tested.
    flat = _study(np.repeat(np.linspace(0.1, 0.9, ROWS), SEEDS))
    assert flat["baseline"].hits == 0 and flat["mean"].n == 0


def test_normal_scores_are_as_promised():
    counts = study([{"accuracy": x} for x in np.random.default_rng(1).normal(size=200 * SIZE)])
    assert all(count.good for count in counts)
    assert counts[0].n == 200 and counts[4].n == 200 * ROWS


@pytest.mark.parametrize(
    ("hits", "n", "wanted", "inside", "good"),
    [
        (10, 200, (0.0, 0.05), False, True),
        (16, 200, (0.0, 0.05), False, True),  # 8 %, interval from 4.6 %
        (20, 200, (0.0, 0.05), False, False),  # 10 %, interval from 6.2 %
        (93, 100, (0.93, 0.97), True, True),
        (92, 100, (0.93, 0.97), True, False),
        (98, 100, (0.93, 0.97), True, False),
        (99, 100, None, False, True),
    ],
)
def test_what_is_as_promised(hits, n, wanted, inside, good):
    assert Count("x", wanted, inside, hits, n).good == good


def test_trained_runs(tmp_path, capsys, tmp_path_factory, monkeypatch):
    monkeypatch.setattr(calibrate, "COVERED", (0.0, 1.0))  # eight intervals prove nothing
    page = tmp_path / "page.md"
    folder = str(tmp_path_factory.getbasetemp() / "calibrate-data")
    assert calibrate.main([f"--into={page}", "--tables=1", f"--data_dir={folder}"]) == 0
    text = page.read_text()
    assert "1 table(s) of 8 rows x 5 seeds" in text and "40 trained runs" in text
    assert "on 400 test examples" in text and "trained 40 of 40" in capsys.readouterr().err


def test_bad_number_of_tables():
    with pytest.raises(ValueError, match="--tables must be at least 1"):
        calibrate.main(["--tables=0"])
