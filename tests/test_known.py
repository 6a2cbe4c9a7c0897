"""The page of known answers: what theory says of each kind, and verdicts against scores by hand."""

import numpy as np
import pytest

from experiments import known
from mmfuse.data import helpdesk_factors as factors
from mmfuse.errors import InputError
from mmfuse.workdir import open_workdir
from tests.records import make_record

FUSIONS = {"text only": "unimodal", "average": "late_average", "concat": "concat",
           "LSTM": "early_lstm"}  # fmt: skip


def workdir(folder, variant, scores, fusions=FUSIONS):
    card = {
        "name": "helpdesk", "variant": variant, "modalities": list(factors.MODALITIES),
        "splits": {"test": 2000}, "optima": factors.optima(variant),
    }  # fmt: skip
    identity = {"name": f"known/{variant}", "rows": {row: {} for row in scores}}
    with open_workdir(folder, identity, command="make it") as found:
        for row, of_row in scores.items():
            for seed, accuracy in enumerate(of_row):
                reads = ["text"] if row == "text only" else list(factors.MODALITIES)
                config = {"fusion": {"name": fusions[row]}}
                data = {"name": "helpdesk", "fingerprint": "f", "card": card}
                found.write_record(make_record(row, seed, accuracy, reads=reads, data=data,
                                               config=config))  # fmt: skip
    return str(folder)


def test_the_additive_optimum_is_bayes_where_modalities_are_independent_and_chance_for_a_parity():
    for variant in ("redundant", "unique"):
        table = factors.joint(variant)
        wanted = factors.optima(variant)["audio+image+text"]
        assert factors.additive_accuracy(table) == pytest.approx(wanted, abs=1e-6)
    assert factors.additive_accuracy(factors.joint("synergy")) == pytest.approx(0.25)


def test_the_additive_optimum_of_an_or_is_perfect_and_that_of_a_partial_parity_between():
    """OR is a threshold of a sum; a parity of two bits with unequal cells is not chance."""
    table = np.zeros((2, 2, 2, 1))
    for a, b in np.ndindex(2, 2):
        table[a | b, a, b, 0] = 0.25
    assert factors.additive_accuracy(table) == pytest.approx(1)
    table = np.zeros((2, 2, 2, 1))
    for (a, b), p in zip(np.ndindex(2, 2), (0.4, 0.3, 0.2, 0.1), strict=True):
        table[a ^ b, a, b, 0] = p
    assert 0.5 < factors.additive_accuracy(table) < 1


def test_what_theory_says_of_each_kind(tmp_path):
    good = dict.fromkeys(FUSIONS, (0.5, 0.5))
    timed = known.read(workdir(tmp_path / "t", "temporal", good))
    optima = factors.optima("temporal")
    ceilings = {name: row.ceiling for name, row in timed.rows.items()}
    assert ceilings["text only"] == optima["text (pooled)"]
    assert ceilings["concat"] == optima["audio+image+text (pooled)"]
    assert ceilings["average"] == pytest.approx(optima["audio+image+text (pooled)"], abs=1e-6)
    assert ceilings["LSTM"] == optima["audio+image+text"] == pytest.approx(0.96)


def test_verdicts_and_the_page(tmp_path, capsys):
    scores = {
        "text only": (0.26, 0.24, 0.25),
        "average": (0.36, 0.34, 0.35),  # more than an additive method can: something is wrong
        "concat": (1.0, 0.99, 1.0),
        "LSTM": (0.6, 0.5, 0.55),
        "equal": (0.5, 0.5, 0.5),
    }
    folder = workdir(tmp_path / "w", "synergy", scores, FUSIONS | {"equal": "tfn"})
    assert known.main([folder, f"--into={tmp_path / 'known.md'}"]) == 0
    page = (tmp_path / "known.md").read_text()
    assert "| text only | unimodal | 25.00 [22.52, 27.48] | no |" in page
    assert "| concat | pooled | 99.67 [98.23, 100.00] | reaches |" in page
    assert "| equal | pooled | 50.00 | in part |" in page
    assert "An interval is cut at 0 and 100," in page
    assert "A cell has none where all its seeds are equal" in page
    assert "| LSTM | temporal | 55.00 [42.58, 67.42] | in part |" in page
    assert "| text only | unimodal | 25.00 | as theory says |" in page
    assert "| average | additive | 25.00 | above |" in page
    assert "| LSTM | temporal | 100.00 | below |" in page
    assert "2 of 5 cells are where theory says." in page
    assert known.main([folder, folder]) == 0
    assert "synergy | uses it | synergy | uses it" in capsys.readouterr().out


def test_what_theory_has_no_word_on_is_refused(tmp_path):
    one = {"concat": (0.5,)}
    strange = workdir(tmp_path / "s", "synergy", one, {"concat": "mbt"})
    with pytest.raises(InputError, match=r"no word on fusion 'mbt'; it has on: unimodal, "):
        known.read(strange)
    with open_workdir(tmp_path / "e", {"name": "task"}):
        pass
    with pytest.raises(InputError, match="holds no finished run yet"):
        known.read(str(tmp_path / "e"))
    with open_workdir(tmp_path / "o", {"name": "task"}) as other:
        card = {"name": "photos", "modalities": ["text"], "splits": {"test": 3}}
        other.write_record(make_record("a", 0, 0.5, data={"name": "photos", "card": card}))
    with pytest.raises(InputError, match="theory knows helpdesk, not 'photos'"):
        known.read(str(tmp_path / "o"))
