"""One step, a chunk of steps and an evaluation, against gradients derived by hand."""

import functools

import jax
import numpy as np
import optax
import pytest

from mmfuse import optim
from mmfuse.settings import TrainSettings, learning_rates
from mmfuse.tasks import Classification
from mmfuse.train import make_program
from tests import programs

FAILS = """one training step moved. If that was meant (another loss, key or optimiser), every
published table has to be trained again: say so in CHANGELOG.md, and derive the new step here"""
NOISY = programs.make(optax.adam(0.1), dropout=0.3)
SEEDS = (4, 0, 2**32 - 1)


@functools.cache
def compiled(program):
    return jax.jit(lambda *args: program.train_chunk(*args, axis_name=None))


def chunk(program, state, order, data=None, length=6):
    """Runs the steps of ``order``, filled up to one length so that a program is compiled once."""
    live = np.arange(length) < len(order)
    order = np.pad(order, [(0, length - len(order)), (0, 0), (0, 0)], constant_values=-1)
    return jax.device_get(compiled(program)(state, data or programs.data(), order, live))


def softmax_step(params, data, index, smoothing=0.0):
    """(summed loss, gradient of the mean loss) of softmax regression on the real examples."""
    index = index[index >= 0]
    x, y = data["inputs"]["x"][index].astype(float), data["label"][index]
    z = x @ params["kernel"] + params["bias"]
    p = np.exp(z) / np.exp(z).sum(1, keepdims=True)
    classes = z.shape[1]
    target = np.eye(classes)[y] * (1 - smoothing) + smoothing / classes
    error = (p - target) / len(index)
    return -np.sum(target * np.log(p)), {"kernel": x.T @ error, "bias": error.sum(0)}


def float64(tree, lane):
    return jax.tree.map(lambda x: np.asarray(x[lane], np.float64), tree)["affine"]


def close(found, expected, **tolerance):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, **tolerance), found, expected)


def same_bits(a, b):
    jax.tree.map(np.testing.assert_array_equal, jax.device_get(a), jax.device_get(b))


def lane(tree, number):
    return jax.tree.map(lambda x: x[number], jax.device_get(tree))


def test_golden_step():
    """Adam with decay and clipping on softmax regression, all by hand, two lanes and two steps."""
    fields = {"weight_decay": 0.1, "clip_norm": 0.4, "momentum": 0.0}
    optimizer = optim.make_optimizer("adamw", optax.constant_schedule(0.05), **fields)
    program, data, seeds = programs.make(optimizer, smoothing=0.1), programs.data(), (3, 9)
    state, order = programs.start(program, seeds), programs.orders(seeds, steps=2)
    after, clipped = chunk(program, state, order), 0
    for r in range(len(seeds)):
        w = float64(state.params, r)
        m, v = ({k: np.zeros_like(x) for k, x in w.items()} for _ in range(2))
        for t in (1, 2):
            _, g = softmax_step(w, data, order[t - 1, r], smoothing=0.1)
            norm = np.sqrt(sum(np.sum(leaf**2) for leaf in g.values()))
            clipped += norm > 0.4
            for k in w:
                grad = g[k] * min(1, 0.4 / norm)
                m[k], v[k] = 0.9 * m[k] + 0.1 * grad, 0.999 * v[k] + 0.001 * grad**2
                step = (m[k] / (1 - 0.9**t)) / (np.sqrt(v[k] / (1 - 0.999**t)) + 1e-8)
                w[k] = w[k] - 0.05 * (step + (0.1 * w[k] if k == "kernel" else 0))
        for k in w:
            np.testing.assert_allclose(
                after.params["affine"][k][r], w[k], rtol=1e-4, atol=1e-6, err_msg=FAILS
            )
    assert clipped, "the clipping was not tried"


def test_a_chunk_is_gradient_descent_with_the_last_batch_weighed_by_its_real_examples():
    program, data, seeds = programs.make(), programs.data(), (0, 1, 5)
    state, order = programs.start(program, seeds), programs.orders(seeds)
    after = chunk(program, state, order)
    for r in range(len(seeds)):
        w, loss = float64(state.params, r), 0
        for step in range(len(order)):
            total, g = softmax_step(w, data, order[step, r])
            w, loss = {k: w[k] - 0.5 * g[k] for k in w}, loss + total
        close(lane(after.params, r)["affine"], w, rtol=1e-4, atol=1e-6)
        assert after.sums["loss"][r] == pytest.approx(loss, rel=1e-5)
    assert (order[-1] < 0).any()
    np.testing.assert_array_equal(after.sums["count"], np.sum(order >= 0, axis=(0, 2)))
    np.testing.assert_array_equal(after.sums["confusion"].sum((1, 2)), after.sums["count"])
    np.testing.assert_array_equal(after.step, [len(order)] * 3)
    np.testing.assert_array_equal(after.diverged_at, [-1] * 3)


def test_regression_descends_the_squared_error():
    program, data = programs.make(task="regression"), programs.data("regression")
    state, order = programs.start(program, (2,), data), programs.orders((2,), steps=1)
    after = chunk(program, state, order, data=data)
    w, index = float64(state.params, 0), order[0, 0][order[0, 0] >= 0]
    x, y = data["inputs"]["x"][index], data["label"][index]
    error = (x @ w["kernel"])[:, 0] + w["bias"] - y
    expected = w["kernel"][:, 0] - 0.5 * 2 * x.T @ error / len(index)
    np.testing.assert_allclose(after.params["affine"]["kernel"][0, :, 0], expected, rtol=1e-4)
    assert after.sums["abs"][0] == pytest.approx(np.abs(error).sum(), rel=1e-5)


def test_steps_that_only_fill_up_a_chunk_change_nothing():
    state, order = programs.start(NOISY, SEEDS), programs.orders(SEEDS)
    after = chunk(NOISY, state, order)
    same_bits(chunk(NOISY, state, order, length=len(order)), after)
    same_bits(chunk(NOISY, after, order[:0]), after)


def test_two_chunks_are_one():
    """Keys come from the step, not from the call: stopping in between leaves the same bits."""
    state, order = programs.start(NOISY, SEEDS), programs.orders(SEEDS)
    half = chunk(NOISY, state, order[:2])
    same_bits(chunk(NOISY, half, order[2:]), chunk(NOISY, state, order))


def test_dropout_differs_by_step_and_by_seed():
    state = programs.start(NOISY, (0, 0, 1))
    params = jax.tree.map(lambda x: np.broadcast_to(x[:1], x.shape), jax.device_get(state.params))
    order = np.broadcast_to(programs.orders((0,), steps=1), (1, 3, 8))
    first = chunk(NOISY, state.replace(params=params), order).params["affine"]
    later = state.replace(params=params, step=np.full(3, 7, np.int32))
    later = chunk(NOISY, later, order).params["affine"]
    np.testing.assert_array_equal(first["kernel"][0], first["kernel"][1])  # the same seed
    assert (first["kernel"][0] != first["kernel"][2]).any()
    assert (first["kernel"][0] != later["kernel"][0]).any()


def test_a_seed_among_others_is_the_seed_alone():
    order = programs.orders(SEEDS)
    together = chunk(NOISY, programs.start(NOISY, SEEDS), order)
    for r, seed in enumerate(SEEDS):
        alone = chunk(NOISY, programs.start(NOISY, (seed,)), order[:, r : r + 1])
        close(lane(together, r), lane(alone, 0), atol=1e-5)
    kernels = programs.start(NOISY, SEEDS).params["affine"]["kernel"]
    assert (kernels[0] != kernels[1]).any()


@pytest.mark.parametrize("where", ["params", "opt_state"])
def test_nan_in_one_replica_leaves_the_bits_of_the_others(where):
    state, order = programs.start(NOISY, SEEDS), programs.orders(SEEDS)
    whole = chunk(NOISY, state, order)
    half = chunk(NOISY, state, order[:2])

    def poison(x):
        return np.where(np.arange(3).reshape(3, *[1] * (x.ndim - 1)) == 1, np.nan, x)

    hurt = half.replace(
        **{
            where: jax.tree.map(
                lambda x: poison(x).astype(x.dtype) if x.dtype == np.float32 else x,
                getattr(half, where),
            )
        }
    )
    after = chunk(NOISY, hurt, order[2:])
    for r in (0, 2):
        same_bits(lane(after, r), lane(whole, r))
    # A NaN parameter shows in this very step, a NaN moment in the loss of the next one.
    assert after.diverged_at.tolist() == [-1, 2 if where == "params" else 3, -1]
    assert np.isnan(after.params["affine"]["kernel"][1]).all()


def test_the_first_step_that_is_not_finite_is_remembered():
    program, data = programs.make(optax.sgd(1e9), task="regression"), programs.data("regression")
    state, order = programs.start(program, (0,), data), programs.orders((0,), steps=6)
    diverged = chunk(program, state, order, data).diverged_at[0]
    assert 0 < diverged < 6
    assert chunk(program, state, order[:diverged], data).diverged_at[0] == -1
    assert chunk(program, state, order[: diverged + 1], data).diverged_at[0] == diverged


def test_evaluation_is_without_dropout_and_smoothing():
    program, data = programs.make(dropout=0.9, smoothing=0.5), programs.data()
    params = programs.start(program, (0, 1)).params
    weight = (np.arange(20) < 13).astype(np.float32)
    sums, outputs = jax.jit(lambda p, b: program.evaluate(p, b, axis_name=None))(
        params, data | {"weight": weight}
    )
    for r in range(2):
        w = float64(params, r)
        total, _ = softmax_step(w, data, np.arange(13))
        assert float(sums["loss"][r]) == pytest.approx(total, rel=1e-5)
        logits = data["inputs"]["x"] @ w["kernel"] + w["bias"]
        np.testing.assert_allclose(outputs[r], logits, rtol=1e-4, atol=1e-5)
        predicted = logits[:13].argmax(1)
        hits = np.sum(predicted == data["label"][:13])
        assert np.trace(sums["confusion"][r]) == hits
        assert float(sums["count"][r]) == 13


def test_the_schedule_spans_all_epochs():
    settings = TrainSettings(epochs=3, optimizer="sgd", lr=1.0, momentum=0.0, clip_norm=0)
    program = make_program(
        programs.Linear(), Classification(programs.CLASSES), settings, steps_per_epoch=5
    )
    params = {"w": np.ones((2, 2), np.float32)}
    state, moved = program.optimizer.init(params), []
    for _ in range(16):
        updates, state = program.optimizer.update(params, state, params)
        moved.append(-float(updates["w"][0, 0]))
    expected = 0.5 * (1 + np.cos(np.pi * np.arange(16) / 15))
    np.testing.assert_allclose(moved, expected, atol=1e-6)


def test_auxiliary_losses_are_minimised_and_told_apart():
    """Half of the cross-entropy again, by label, and a fifth of the squares: all by hand."""
    program, data, seeds = programs.make(auxiliary=True), programs.data(), (3,)
    state, order = programs.start(program, seeds), programs.orders(seeds, steps=1)
    after = chunk(program, state, order)
    index = order[0, 0][order[0, 0] >= 0]
    w = float64(state.params, 0)
    loss, g = softmax_step(w, data, index)
    x = data["inputs"]["x"][index].astype(float)
    z = x @ w["kernel"] + w["bias"]
    error = 0.4 * z / len(index)
    total = {
        "kernel": 1.5 * g["kernel"] + x.T @ error,
        "bias": 1.5 * g["bias"] + error.sum(0),
    }
    for k in w:
        found = np.asarray(after.params["affine"][k][0])
        np.testing.assert_allclose(found, w[k] - 0.5 * total[k], rtol=1e-4, atol=1e-6)
    sums = lane(after.sums, 0)
    np.testing.assert_allclose(sums["loss"], loss, rtol=1e-5)
    np.testing.assert_allclose(sums["auxiliary/own"], loss / 2, rtol=1e-5)
    np.testing.assert_allclose(sums["auxiliary/size"], 0.2 * np.sum(z**2), rtol=1e-5)
    told = program.task.finalise(sums)
    assert told["auxiliary/own"] == pytest.approx(told["loss"] / 2, rel=1e-5)


def test_padding_is_absent_for_statistics_of_the_batch():
    program, seeds = programs.make(auxiliary=True), (3,)
    order = programs.orders(seeds, steps=1)
    real = int(np.sum(order >= 0))
    assert real < order.size
    sums = lane(chunk(program, programs.start(program, seeds), order).sums, 0)
    assert sums["auxiliary/present"] == real * real  # each real example has counted the real ones


def test_evaluation_has_no_auxiliary_losses():
    program = programs.make(auxiliary=True)
    state = programs.start(program, (3,))
    batch = programs.data() | {"weight": np.ones(programs.N, np.float32)}
    sums, _ = program.evaluate(state.params, batch, axis_name=None)
    assert "loss" in sums
    assert not [k for k in sums if "aux" in k]


def test_the_learning_rate_of_an_epoch_is_that_of_its_last_step():
    settings = TrainSettings(epochs=3, lr=0.5, schedule="cosine", warmup=4)
    warm, later = 0.5 * 2 / 4, [0.5 * (1 + np.cos(np.pi * (n - 4) / 5)) / 2 for n in (5, 8)]
    np.testing.assert_allclose(learning_rates(settings, 3), [warm, *later], rtol=1e-5)
    constant = TrainSettings(epochs=2, lr=0.5, schedule="constant")
    assert learning_rates(constant, 7) == (0.5, 0.5)
