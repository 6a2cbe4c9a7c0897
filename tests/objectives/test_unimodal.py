"""Unimodal heads and gradient blending against numpy and by hand."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmfuse.decoders import DistMult
from mmfuse.errors import InputError
from mmfuse.objectives.unimodal import GradientBlending, UnimodalHeads, blended
from mmfuse.transforms import TRANSFORMS
from tests.objectives import rig
from tests.reference import B, linear, make_batch, means, softmax


def by_head(p, b):
    """The cross-entropy of each modality that is there, alone."""
    vectors = means(make_batch(), b)
    return {m: -np.log(softmax(linear(p[m]["affine"], x))[rig.LABEL[b]])
            for m, x in vectors.items() if x is not None}  # fmt: skip


def test_unimodal_heads_are_their_equation():
    found, p = rig.told(UnimodalHeads(weight=0.4), rig.seen())
    expected = [0.4 * sum(by_head(p, b).values()) for b in range(B)]
    np.testing.assert_allclose(found.loss, expected, rtol=1e-5)
    assert found.loss[3] == 0


@pytest.mark.parametrize("name", ["unimodal_heads", "gradient_blending"])
def test_a_head_with_a_penalty_has_the_task_s_loss_alone(name):
    kind = {"unimodal_heads": UnimodalHeads, "gradient_blending": GradientBlending}[name]
    given = {"relation": np.array([0, 1, 1, 0], np.int32), "answers": np.full((B, 1), 96, np.uint8)}

    def loss(n3):
        tokens, masks = make_batch()
        tokens = {m: x[..., :1] * np.ones(5, np.float32) for m, x in tokens.items()}
        what = rig.seen(tokens=tokens, masks=masks, state=objective.begin(tuple(tokens)))
        head = DistMult(rig.CLASSES, 2, 5, n3=n3)
        model = what.model.clone(head=head)
        what = dataclasses.replace(what, model=model, batch=what.batch | {"given": given})
        return rig.told(objective, dataclasses.replace(what, measured=lambda: what))[0].loss

    objective = kind()
    np.testing.assert_array_equal(loss(0.3), loss(0.0))
    assert np.abs(loss(0.3)[:3]).min() > 0


def test_blending_weighs_by_generalisation_over_overfitting_squared():
    start = np.array([[2.0, 2.0, 2.0], [2.1, 2.0, 2.0]])  # trained on; held out
    now = np.array([[1.0, 1.5, 0.5], [1.3, 1.6, 2.5]])
    gained = np.array([0.8, 0.4, -0.5])
    overfitted = np.array([0.3 - 0.1, 0.1, 2.0])
    ratio = np.maximum(gained, 0) / (overfitted**2 + 0.05**2)
    found = blended(jnp.array(start), jnp.array(now), jnp.ones(3) / 3, 0.05)
    np.testing.assert_allclose(found, ratio / ratio.sum(), rtol=1e-5)
    worse = blended(jnp.array(start), jnp.array(start + 1), jnp.array([0.2, 0.3, 0.5]), 0.05)
    np.testing.assert_allclose(worse, [0.2, 0.3, 0.5])


def test_weights_change_at_the_end_of_the_second_epoch():
    objective = GradientBlending(smooth=0.05)
    state = objective.begin(("a", "b"))
    losses = [[[2, 2, 2], [2, 2, 2]], [[1.2, 1.2, 1.2], [1.4, 1.3, 1.9]]]
    for epoch, mean in enumerate(losses):
        for step, ends in enumerate((False, True)):
            weight = np.array([[3.0], [1.0]]) * (1 + step)  # a mean by examples, not by steps
            sums = {"loss": jnp.array(np.array(mean) * weight), "count": jnp.ones((2, 3)) * weight}
            state = objective.update(state, sums, epoch_ends=jnp.array(ends))
            if (epoch, ends) != (1, True):
                np.testing.assert_allclose(state["weights"], [1 / 3] * 3)
    ratio = np.array([0.6, 0.7, 0.1]) / (np.array([0.2, 0.1, 0.7]) ** 2 + 0.05**2)
    np.testing.assert_allclose(state["weights"], ratio / ratio.sum(), rtol=1e-4)
    assert not np.any(state["loss"]) and not np.any(state["count"])


def test_the_loss_is_the_blend_and_losses_are_measured_apart():
    weights = jnp.array([0.1, 0.2, 0.3, 0.4])
    objective = GradientBlending(share=0.5)
    held = np.asarray(objective.held_out(jnp.arange(B, dtype=jnp.int32)))
    what = rig.seen(state={"weights": weights})
    what = rig.dataclasses.replace(what, measured=lambda: what)
    found, p = rig.told(objective, what)
    joint = [-np.log(softmax(z.astype(float))[c]) for z, c in zip(what.output, rig.LABEL)]  # noqa: B905
    names = sorted(what.tokens)
    for b in range(B):
        each = by_head(p, b)
        blend = sum(w * each.get(m, 0) for w, m in zip(weights, names, strict=False))
        expected = blend + (0.4 - 1) * joint[b]
        assert found.loss[b] == pytest.approx(float(expected), rel=1e-5)
    for group, marked in enumerate((~held, held)):
        for k, m in enumerate(names):
            values = [by_head(p, b)[m] for b in np.flatnonzero(marked) if m in by_head(p, b)]
            assert found.sums["loss"][group, k] == pytest.approx(sum(values), rel=1e-5)
            assert found.sums["count"][group, k] == len(values)
        assert found.sums["loss"][group, 3] == pytest.approx(np.array(joint)[marked].sum())
        assert found.sums["count"][group, 3] == marked.sum()


def test_a_share_is_held_out_and_never_trained_on():
    objective = GradientBlending(share=0.2)
    held = np.asarray(objective.held_out(jnp.arange(-5, 5000, dtype=jnp.int32)))
    assert not held[:5].any(), "padding is no example"
    assert held[5:].mean() == pytest.approx(0.2, abs=0.02)
    made = rig.program({"gradient_blending": {"share": 0.3}}, steps_per_epoch=3)
    mine = np.asarray(made.objectives.named[0][1].held_out(jnp.arange(rig.N, dtype=jnp.int32)))
    changed = rig.data()
    changed["label"] = np.where(mine, (changed["label"] + 1) % rig.CLASSES, changed["label"])
    changed["inputs"] = {m: np.where(mine[:, None], x + 3, x)
                         for m, x in changed["inputs"].items()}  # fmt: skip
    run, state, live = rig.compiled(made), rig.start(made), np.ones(3, bool)
    one, other = (jax.device_get(run(state, d, rig.order(), live)) for d in (rig.data(), changed))
    jax.tree.map(np.testing.assert_array_equal, one.params, other.params)
    seen = rig.order()[:, 0].ravel()
    assert one.sums["count"][0] == np.sum(~mine[seen[seen >= 0]])
    start = [s.objectives["gradient_blending"]["start"][0] for s in (one, other)]
    np.testing.assert_array_equal(start[0][0], start[1][0])
    assert (start[0][1] != start[1][1]).any(), "what is held out is measured"


def test_held_out_examples_are_not_mixed_into_others():
    with pytest.raises(InputError, match="mixup, swap"):
        GradientBlending().fits(("a", "b"), (TRANSFORMS["mixup"](alpha=0.4),))
