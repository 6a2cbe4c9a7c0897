"""The noise of the test split against scipy, statsmodels, simulation and hand computation."""

import math

import numpy as np
import pytest
import scipy.stats
from statsmodels.regression.linear_model import OLS
from statsmodels.stats.contingency_tables import mcnemar as reference

from mmfuse.stats.items import (
    SCORES,
    bootstrap,
    compare_items,
    corrected_items,
    crossed,
    mcnemar,
    noise,
)
from mmfuse.stats.scores import scores_of
from mmfuse.tasks.classification import Classification, confusion_scores
from mmfuse.tasks.regression import Sentiment
from mmfuse.tasks.vector import Vector


def _logits(right, label, classes=3):
    """Outputs [N, C] that answer as ``right`` [N] says."""
    answer = np.where(right, label, (label + 1) % classes)
    return np.eye(classes, dtype=np.float32)[answer]


def _runs(right, label):
    return {s: {"output": _logits(r, label), "label": label} for s, r in enumerate(right)}


@pytest.mark.parametrize("seed", range(5))
def test_mcnemar_against_statsmodels(seed):
    a, b = np.random.default_rng(seed).integers(0, 2, (2, 30))
    table = [[((a == i) & (b == j)).sum() for j in (1, 0)] for i in (1, 0)]
    assert mcnemar(a, b) == pytest.approx(min(1.0, reference(table, exact=True).pvalue))


def test_mcnemar_by_hand():
    # b = 5, c = 0: 2 / 2^5. Nothing differs: no evidence.
    assert mcnemar(np.ones(5), np.zeros(5)) == 2 / 32
    assert mcnemar(np.ones(5), np.ones(5)) == 1.0
    assert mcnemar(np.array([1, 0]), np.array([0, 1])) == 1.0


def test_noise_by_hand():
    label = np.array([0, 1, 2, 0])
    runs = _runs(np.array([[1, 1, 1, 0], [1, 0, 1, 0]], bool), label)
    # Means over seeds 1 .5 1 0: mean .625, squares .140625 .015625 .140625 .390625, sum .6875.
    found = noise("accuracy", runs)
    assert found.n == 4 and found.error == pytest.approx(math.sqrt(0.6875 / 3 / 4))
    assert noise("f1_macro", runs) is None and noise("accuracy", {}) is None


def _metrics(task, output, label):
    sums = task.sums(output, label, np.ones(len(label), np.float32))
    return task.scores({k: np.asarray(v) for k, v in sums.items()} | {"count": len(label)})


def test_scores_that_were_kept_by_metric_are_taken_as_they_are():
    def run(mrr, entity=(1, 2, 3)):
        return {"output": {"mrr": np.array(mrr), "rank": np.ones(3)},
                "label": {"entity": np.array(entity)}}  # fmt: skip

    a, b = {0: run([1.0, 0.5, 0.2])}, {0: run([0.5, 0.5, 0.1])}
    assert noise("mrr", a).error == pytest.approx(np.std([1, 0.5, 0.2], ddof=1) / math.sqrt(3))
    assert noise("accuracy", a) is None and noise("hits1", a) is None
    found = compare_items("mrr", a, b)
    assert found.mean == pytest.approx(0.2) and found.mcnemar == {}
    with pytest.raises(ValueError, match="other labels"):
        compare_items("mrr", a, {0: run([0.5, 0.5, 0.1], (1, 2, 4))})


def test_scores_average_to_the_metrics():
    rng = np.random.default_rng(0)
    label = rng.integers(0, 3, 50)
    output = rng.normal(size=(50, 3)).astype(np.float32)
    metrics = _metrics(Classification(3), output, label)
    assert SCORES["accuracy"](output, label).mean() == pytest.approx(metrics["accuracy"])
    label = rng.integers(-3, 4, 50).astype(np.float32)
    output = rng.normal(0, 2, (50, 1)).astype(np.float32)
    metrics = _metrics(Sentiment(), output, label)
    for name in ("mae", "acc2_has0", "acc2_non0", "acc7"):
        assert SCORES[name](output, label).mean() == pytest.approx(metrics[name], rel=1e-5)


def test_comparison_over_items_against_scipy():
    rng = np.random.default_rng(3)
    label = rng.integers(0, 3, 200)
    a, b = rng.random((3, 200)) < 0.7, rng.random((3, 200)) < 0.6
    found = compare_items("accuracy", _runs(a, label), _runs(b, label))
    test = scipy.stats.ttest_rel(a.mean(0), b.mean(0))
    assert found.p == pytest.approx(test.pvalue) and found.mean == pytest.approx(
        a.mean() - b.mean()
    )
    assert found.error == pytest.approx(scipy.stats.sem(a.mean(0) - b.mean(0)))
    assert found.mcnemar == {s: mcnemar(a[s], b[s]) for s in range(3)}
    # One-hot outputs of three seeds: the mean answers as most seeds do, right or wrong.
    assert found.mcnemar_mean == pytest.approx(mcnemar(a.sum(0) > 1, b.sum(0) > 1))
    only = compare_items("accuracy", {0: _runs(a, label)[0]}, _runs(b, label))
    assert only.seeds == 1 and only.both_error is None


def test_comparison_of_real_valued_scores():
    rng = np.random.default_rng(4)
    label = rng.normal(size=60).astype(np.float32)
    a, b = ({0: {"output": rng.normal(size=(60, 1)), "label": label}} for _ in "ab")
    found = compare_items("mae", a, b)
    errors = [np.abs(r[0]["output"][:, 0] - label) for r in (a, b)]
    assert found.p == pytest.approx(scipy.stats.ttest_rel(*errors).pvalue)
    assert found.mcnemar == {} and found.mcnemar_mean is None


def test_scores_that_never_vary():
    label = np.arange(6) % 3
    right, wrong = _runs(np.ones((2, 6), bool), label), _runs(np.zeros((2, 6), bool), label)
    assert compare_items("accuracy", right, right).p == 1.0
    assert compare_items("accuracy", right, wrong).p == 2 / 2**6


def test_other_labels_are_refused():
    label = np.arange(6) % 3
    one, other = _runs(np.ones((1, 6), bool), label), _runs(np.ones((1, 6), bool), 2 - label)
    with pytest.raises(ValueError, match="other labels"):
        compare_items("accuracy", one, other)


def test_bootstrap_against_scipy():
    x = np.random.default_rng(5).integers(-2, 3, 150) / 2
    low, high = bootstrap(x, draws=20000)
    wanted = scipy.stats.bootstrap((x,), np.mean, method="percentile", n_resamples=20000,
                                   rng=np.random.default_rng(1)).confidence_interval  # fmt: skip
    assert (low, high) == pytest.approx(tuple(wanted), abs=0.01)
    assert bootstrap(x) == bootstrap(x)


def test_crossed_by_hand():
    # Seed means 1 3, example means 1 3: A = 2/2, B = 2/2; additive, so the residual is nothing.
    d = np.array([[0.0, 2.0], [2.0, 4.0]])
    error, low, high = crossed(d)
    assert error == pytest.approx(math.sqrt(2))
    half = scipy.stats.t.ppf(0.975, 2) * math.sqrt(2)  # (1 + 1)^2 / (1 + 1) = 2 degrees of freedom
    assert (low, high) == pytest.approx((2 - half, 2 + half))
    assert crossed(d[:1]) == (None, None, None)
    assert crossed(np.ones((3, 4))) == (0.0, 1.0, 1.0)


@pytest.mark.parametrize(
    ("seed", "item", "rest", "shape"),
    [(0.5, 2.0, 1.0, (5, 80)), (0.05, 0.05, 0.3, (3, 100)), (0.05, 0.05, 0.3, (5, 100))],
)
def test_crossed_interval_covers_new_seeds_and_examples(seed, item, rest, shape):
    """The residual, which counts in both variances, must count in the degrees of freedom too."""
    rng, hits, draws = np.random.default_rng(6), 0, 2000
    for _ in range(draws):
        d = rng.normal(0, seed, (shape[0], 1)) + rng.normal(0, item, (1, shape[1]))
        _, low, high = crossed(d + rng.normal(0, rest, shape))
        hits += low < 0 < high
    assert 0.932 < hits / draws < 0.985


def test_correction_over_the_table():
    label = np.arange(30) % 3
    rng = np.random.default_rng(7)
    base, *rows = (_runs(rng.random((2, 30)) < p, label) for p in (0.5, 0.6, 0.9))
    tests = [compare_items("accuracy", row, base) for row in rows]
    made = corrected_items([*tests, None])
    assert made[2] is None and made[1].holm == pytest.approx(min(1.0, 3 * tests[1].p))


def _recalls(rng):
    """Outputs and labels of 60 examples of three classes, unequal in number, and their folds."""
    label = rng.choice(3, 60, p=[0.6, 0.3, 0.1])
    right = rng.random(60) < 0.7
    return _logits(right, label), label, np.sort(rng.integers(0, 6, 60))


def test_macro_recall_is_a_mean_over_examples():
    rng = np.random.default_rng(3)
    for _ in range(5):
        output, label, _ = _recalls(rng)
        confusion = np.zeros((3, 3))
        np.add.at(confusion, (label, output.argmax(1)), 1)
        wanted = confusion_scores(confusion)["recall_macro"]
        assert SCORES["recall_macro"](output, label).mean() == pytest.approx(wanted)
    label = np.zeros(4, int)  # a class that is answered and never true counts, with recall 0
    output = np.eye(3)[[0, 0, 0, 2]]
    assert SCORES["recall_macro"](output, label).mean() == pytest.approx(0.375)


def test_folds_are_the_sample_where_folds_were_pooled():
    """Cluster-robust standard errors by statsmodels, and a t with as many folds as there are."""
    rng = np.random.default_rng(4)
    runs, other, scores = {}, {}, []
    _, label, fold = _recalls(rng)
    for seed in range(3):
        outputs = [_logits(rng.random(60) < p, label) for p in (0.8, 0.6)]
        runs[seed], other[seed] = ({"output": o, "label": label, "fold": fold} for o in outputs)
        scores.append(np.subtract(*(SCORES["recall_macro"](o, label) for o in outputs)))
    d = np.mean(scores, axis=0)
    fit = OLS(d, np.ones(60)).fit(
        cov_type="cluster", cov_kwds={"groups": fold, "df_correction": True}, use_t=True
    )
    folds = len(np.unique(fold))
    # statsmodels multiplies by (n - 1) / (n - k) too, which is 1 for a mean.
    found = compare_items("recall_macro", runs, other)
    assert (found.n, found.of, found.seeds) == (folds, "folds", 3)
    assert found.mean == pytest.approx(d.mean())
    assert found.error == pytest.approx(fit.bse[0])
    half = scipy.stats.t.ppf(0.975, folds - 1) * found.error
    assert (found.t_low, found.t_high) == pytest.approx((d.mean() - half, d.mean() + half))
    assert found.p == pytest.approx(2 * scipy.stats.t.sf(abs(d.mean()) / found.error, folds - 1))
    assert found.mcnemar == {} and found.mcnemar_mean is None
    assert noise("accuracy", runs).of == "folds" and noise("accuracy", runs).n == folds
    # One example a fold: nothing changes.
    alone = [
        {s: run | {"fold": np.arange(60)} for s, run in each.items()} for each in (runs, other)
    ]
    plain = [{s: {k: run[k] for k in ("output", "label")} for s, run in each.items()}
             for each in (runs, other)]  # fmt: skip
    one, wanted = (compare_items("accuracy", *pair) for pair in (alone, plain))
    assert (one.error, one.p, one.both_error) == pytest.approx(
        (wanted.error, wanted.p, wanted.both_error)
    )
    assert wanted.mcnemar and wanted.of == "test examples"


def test_groups_of_examples_are_drawn_whole():
    rng = np.random.default_rng(5)
    group = np.repeat(np.arange(20), 2)  # two sides of a dialogue: both right, or both wrong
    right = np.repeat(rng.random((2, 20)) < 0.5, 2, axis=1).astype(float)
    alone = {s: {"output": {"recall1": right[s]}, "label": group} for s in (0, 1)}
    together = {s: run | {"group": group} for s, run in alone.items()}
    found = noise("recall1", together)
    assert (found.n, found.of) == (20, "groups of test examples")
    one_each = {s: {"output": {"recall1": right[s, ::2]}} for s in (0, 1)}
    assert found.error == pytest.approx(noise("recall1", one_each).error)
    assert found.error == pytest.approx(2**0.5 * noise("recall1", alone).error, rel=0.03)
    against = compare_items("recall1", together, {s: together[1 - s] for s in (0, 1)})
    assert against.of == "groups of test examples" and against.n == 20


def vectors(calls=80, features=4):
    """Labels and a prediction of calls of unlike length; two values are undefined, one feature is
    constant.
    """
    rng = np.random.default_rng(3)
    group = np.repeat(np.arange(calls), rng.integers(5, 60, calls))
    value = rng.normal(size=(group.size, features)) + rng.normal(size=(calls, features))[group]
    prediction = (
        0.6 * value + rng.normal(0, 0.5, value.shape) + rng.normal(0, 0.2, calls)[group, None]
    )
    value[:, 1] = 2.0
    mask = np.ones_like(value, bool)
    mask[:2, 0] = False
    value[:2, 0] = np.nan
    label = {"value": value.astype(np.float32), "mask": mask}
    return {"prediction": prediction.astype(np.float32)}, label, group


def r2_of(output, label, chosen=slice(None)):
    task = Vector(label["value"].shape[1])
    output, label = ({k: v[chosen] for k, v in tree.items()} for tree in (output, label))
    sums = task.sums(output["prediction"], label, np.ones(len(label["mask"]), np.float32))
    return task.scores({k: np.asarray(v) for k, v in sums.items()})["r2"]


def test_r2_is_a_mean_over_examples():
    output, label, group = vectors()
    run = {"output": output, "label": label}
    assert scores_of("r2", {0: run}, [0]).mean() == pytest.approx(r2_of(output, label), rel=1e-4)
    calls = scores_of("r2", {0: run | {"group": group}}, [0])
    assert calls.shape == (1, 80)
    assert calls.mean() == pytest.approx(r2_of(output, label), rel=1e-4)


def test_the_noise_of_r2_is_that_of_drawing_whole_groups():
    """The bootstrap draws calls and takes the metric itself, with the spread of what was drawn."""
    output, label, group = vectors()
    rows = [np.flatnonzero(group == call) for call in range(80)]
    rng, drawn = np.random.default_rng(0), []
    for _ in range(400):
        chosen = np.concatenate([rows[call] for call in rng.integers(80, size=80)])
        drawn.append(r2_of(output, label, chosen))
    found = noise("r2", {0: {"output": output, "label": label, "group": group}})
    assert (found.n, found.of) == (80, "groups of test examples")
    assert found.error == pytest.approx(np.std(drawn), rel=0.25)
    alone = noise("r2", {0: {"output": output, "label": label}})
    assert alone.error < 0.8 * found.error
