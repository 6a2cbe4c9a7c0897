"""Late fusion against its equations, and its limits."""

import jax
import numpy as np
import pytest
from scipy.special import digamma, gammaln

from mmfuse import optim
from mmfuse.errors import InputError
from mmfuse.fusion import build_fusion
from mmfuse.fusion.late.decisions import product_rule, vote
from mmfuse.fusion.late.evidential import combine, evidential_loss
from mmfuse.tasks.classification import cross_entropy
from tests.reference import (
    ORDER,
    B,
    F,
    block,
    expect,
    linear,
    make_batch,
    means,
    mlp,
    norm,
    run,
    softmax,
)

C = 3
batch = pytest.fixture(scope="module")(make_batch)
DECIDING = ("probability_product", "stacking", "majority_vote", "tmc")


def logits(p, batch, b):
    """{modality: logits of its own classifier}, of those present in example b."""
    return {
        m: linear(p[m]["affine"], mlp(p[m]["mlp"], x))
        for m, x in means(batch, b).items()
        if x is not None
    }


def posteriors(p, batch, b):
    return {m: softmax(z) for m, z in logits(p, batch, b).items()}


def decides(fused, rows):
    """The scores of the classes are these."""
    assert fused.decided
    assert fused.losses == {}
    np.testing.assert_array_equal(fused.mask[:, 0, 0], [True, True, True, False])
    np.testing.assert_allclose(fused.tokens[:, 0, 0], rows, atol=1e-5)


def training(fusion, p, batch):
    """The output in training, with the parameters that ``run`` returned."""
    params = jax.tree.map(np.float32, p)
    return jax.jit(lambda p: fusion.apply({"params": p}, *batch, train=True))(params)


def own_losses_are_cross_entropies(fused, p, batch, own):
    for b in range(B):
        there = posteriors(p, batch, b)
        for m in ORDER:
            row = -own * np.log(there[m]) if m in there else np.zeros(C)
            np.testing.assert_allclose(fused.losses[m][b], row, atol=1e-5)


@pytest.mark.parametrize("prior", [None, (0.5, 0.3, 0.4)])
def test_probability_product_is_its_equation(batch, prior):
    fusion = build_fusion("probability_product", features=F, outputs=C, prior=prior)
    fused, p = run(fusion, batch)
    base, rows = np.array(prior or [1.0] * C), []
    for b in range(B):
        there = posteriors(p, batch, b)
        q = base ** (1.0 - len(there)) * np.prod(list(there.values()), axis=0)
        rows.append(np.log(q / q.sum()))
    decides(fused, rows)


def test_the_product_rule_is_bayes_rule_under_independence():
    """Modalities that are independent given the class: posteriors multiplied are the posterior."""
    rng = np.random.default_rng(0)
    prior = rng.dirichlet(np.ones(C))
    likelihood = rng.random((5, 2, C))  # p(x_m | c) of five observations of two modalities
    single, joint = likelihood * prior, likelihood.prod(axis=1) * prior
    log_p = np.log(single / single.sum(axis=-1, keepdims=True))
    got = product_rule(np.float32(log_p), np.ones((5, 2), bool), np.log(prior))
    np.testing.assert_allclose(np.exp(got), joint / joint.sum(-1, keepdims=True), atol=1e-6)


def test_stacking_is_its_equation(batch):
    fusion = build_fusion("stacking", features=F, outputs=C, own=0.5)
    fused, p = run(fusion, batch)
    rows = []
    for b in range(B):
        there = posteriors(p, batch, b)
        given = [np.log(there[m]) if m in there else np.zeros(C) for m in ORDER]
        rows.append(linear(p["stacker"], np.concatenate(given)))
    decides(fused, rows)
    own_losses_are_cross_entropies(training(fusion, p, batch), p, batch, 0.5)


def test_stacking_starts_as_the_product_and_leaves_the_classifiers_alone(batch):
    stacking = build_fusion("stacking", features=F, outputs=C)
    product = build_fusion("probability_product", features=F, outputs=C)

    @jax.jit
    def everything(key):
        p = stacking.init(key, *batch, train=False)["params"]

        def scores(p):
            return stacking.apply({"params": p}, *batch, train=True).tokens[:, 0, 0]

        start = jax.nn.log_softmax(scores(p))
        classifiers = {m: p[m] for m in ORDER}
        log_p = product.apply({"params": classifiers}, *batch, train=False).tokens[:, 0, 0]
        return start, log_p, jax.grad(lambda p: scores(p)[:, 0].sum())(p)

    start, log_p, gradient = everything(jax.random.key(0, impl="unsafe_rbg"))
    np.testing.assert_allclose(start, log_p, atol=1e-5)
    assert np.any(gradient.pop("stacker")["kernel"])
    assert not any(np.any(g) for g in jax.tree.leaves(gradient))


def test_majority_vote_is_its_equation(batch):
    fusion = build_fusion("majority_vote", features=F, outputs=C, own=2.0)
    fused, p = run(fusion, batch)
    rows = []
    for b in range(B):
        q, there = np.zeros(C), posteriors(p, batch, b)
        for x in there.values():
            q[np.argmax(x)] += 1
        mean = np.mean(list(there.values()), axis=0) if there else np.full(C, 1 / C)
        rows.append(np.log((q + mean) / (len(there) + 1)))
    decides(fused, rows)
    train = training(fusion, p, batch)
    np.testing.assert_allclose(train.tokens, fused.tokens, atol=1e-6)
    own_losses_are_cross_entropies(train, p, batch, 2.0)


def test_a_majority_wins_and_ties_go_to_the_surer():
    sure, unsure = [0.01, 0.98, 0.01], [0.4, 0.3, 0.3]
    p = np.array([[unsure, unsure, sure], [unsure, sure, [0.3, 0.3, 0.4]], [sure, unsure, sure]])
    present = np.array([[1, 1, 1], [1, 1, 1], [1, 1, 0]], bool)
    q = np.asarray(vote(np.float32(np.log(p)), present))
    # Two unsure votes beat a sure one, although their mean probability is smaller.
    np.testing.assert_array_equal(q.argmax(axis=-1), [0, 1, 1])
    np.testing.assert_allclose(np.exp(q).sum(axis=-1), 1, rtol=1e-6)
    # Probabilities that underflow in float32 leave the cross-entropy finite.
    extreme = vote(np.float32([[[0, -200, -300], [0, -200, -300]]]), np.ones((1, 2), bool))
    np.testing.assert_allclose(extreme, [[0, -200 - np.log(3), -300 - np.log(3)]], atol=1e-5)


def dempster(opinions):
    """The reduced combination of the paper, opinion by opinion: evidence of the result."""
    b, u = np.zeros(C), 1.0
    for other, doubt in opinions:
        conflict = np.outer(b, other).sum() - b @ other
        b = (b * other + b * doubt + other * u) / (1 - conflict)
        u = u * doubt / (1 - conflict)
    np.testing.assert_allclose(b.sum() + u, 1, rtol=1e-9)
    return b * C / u


def paper_loss(evidence, label, annealing):
    """Equations (10) to (12) for one view and one label."""
    alpha, y = evidence + 1, np.eye(C)[label]
    away = y + (1 - y) * alpha
    total = away.sum()
    divergence = gammaln(total) - gammaln(C) - gammaln(away).sum()
    divergence += ((away - 1) * (digamma(away) - digamma(total))).sum()
    return digamma(alpha.sum()) - digamma(alpha[label]) + annealing * divergence


def test_tmc_is_its_equation(batch):
    fusion = build_fusion("tmc", features=F, outputs=C, annealing=0.7)
    fused, p = run(fusion, batch)
    rows, losses = [], np.zeros((B, C))
    for b in range(B):
        views = {m: np.logaddexp(0, z) for m, z in logits(p, batch, b).items()}
        sums = {m: e.sum() + C for m, e in views.items()}
        evidence = dempster([(e / sums[m], C / sums[m]) for m, e in views.items()])
        rows.append(np.log((evidence + 1) / (evidence + 1).sum()))
        for label in range(C):
            for e in (evidence, *views.values()):
                losses[b, label] += paper_loss(e, label, 0.7)
        for m in ORDER:
            belief = 1 - C / sums[m] if m in views else 0
            np.testing.assert_allclose(fused.weights[m][b], belief, atol=1e-6)
    decides(fused, rows)
    # What the trainer adds up is the paper's loss, whatever the label.
    train = training(fusion, p, batch)
    for label in range(C):
        labels = np.full(B, label)
        total = cross_entropy(train.tokens[:, 0, 0], labels)
        total += optim.auxiliary(train.losses["tmc"], labels)
        np.testing.assert_allclose(total, losses[:, label], atol=2e-5)


def test_evidence_combines_in_any_order_and_ignorance_changes_nothing():
    evidence = np.random.default_rng(0).gamma(1.0, 4.0, (4, 3, C)).astype(np.float32)
    np.testing.assert_allclose(combine(evidence), combine(evidence[:, ::-1]), rtol=1e-5)
    ignorant = np.concatenate([evidence, np.zeros((4, 1, C), np.float32)], axis=1)
    np.testing.assert_allclose(combine(ignorant), combine(evidence), rtol=1e-6)
    np.testing.assert_allclose(combine(evidence[:, :1]), evidence[:, 0], rtol=1e-5)


def test_the_evidential_loss_survives_much_evidence():
    """Only the label has evidence: nothing misleads, however large the sums are."""
    evidence = np.float32([[1e6, 0.5, 0.1]])
    got = evidential_loss(evidence, 1.0)[0, 0]
    np.testing.assert_allclose(got, paper_loss(evidence[0].astype(float), 0, 1.0), atol=1e-5)


def test_late_transformer_tuned_is_its_equation(batch):
    fields = {"hidden": 5, "heads": 2, "layers": 2}
    fused, p = run(build_fusion("late_transformer_tuned", features=F, **fields), batch)
    rows = []
    for b in range(3):
        there = {m: x for m, x in means(batch, b).items() if x is not None}
        x = np.stack([p["cls"], *(linear(p[f"project_{m}"], v) for m, v in there.items())])
        for layer in range(2):
            x = block(p[f"block_{layer}"], x, None, 2)
        rows.append(norm(p["norm"], x[0]))
    expect(fused, [*rows, None])
    assert np.all(fused.weights["audio"][2] == 0)
    assert all(np.all(w[:2] > 0) and np.all(w[:2] < 1) for w in fused.weights.values())
    assert np.all(sum(fused.weights.values())[:2] < 1)  # The rest is what cls gives to itself.


def test_without_queries_the_late_transformer_attends_to_all_alike(batch):
    fusion = build_fusion("late_transformer_tuned", features=F, heads=2, layers=1)

    @jax.jit
    def weights(key):
        p = fusion.init(key, *batch, train=False)["params"]
        query = p["block_0"]["attention"]["query"]
        query["kernel"] = 0 * query["kernel"]
        return fusion.apply({"params": p}, *batch, train=False).weights

    for m, got in weights(jax.random.key(0, impl="unsafe_rbg")).items():
        there = [masks.any(axis=(1, 2)) for masks in batch[1].values()]
        alike = batch[1][m].any(axis=(1, 2)) / (1 + np.sum(there, axis=0))
        np.testing.assert_allclose(got, np.stack([alike] * 2, axis=1), atol=1e-6)


@pytest.mark.parametrize("name", DECIDING)
def test_a_regression_has_no_classes(batch, name):
    fusion = build_fusion(name, features=F, outputs=1)
    with pytest.raises(InputError, match=r"decides between classes.*outputs=1 has none"):
        jax.eval_shape(lambda: fusion.init(jax.random.key(0), *batch, train=False))


@pytest.mark.parametrize("prior", [(0.5, 0.5), (0.5, 0.5, 0.0)])
def test_a_prior_is_a_positive_number_for_every_class(batch, prior):
    fusion = build_fusion("probability_product", features=F, outputs=C, prior=prior)
    with pytest.raises(InputError, match="must hold 3 positive numbers"):
        jax.eval_shape(lambda: fusion.init(jax.random.key(0), *batch, train=False))
