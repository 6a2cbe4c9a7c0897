"""Alignment layers against their equations, and where they agree with each other."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmfuse.errors import InputError
from mmfuse.fusion import build_fusion
from mmfuse.fusion.temporal.alignment import align
from mmfuse.fusion.temporal.resampling import monotone_loss, taps, windows
from tests.reference import (
    ORDER,
    SHAPES,
    B,
    F,
    again,
    counted,
    expect,
    linear,
    lstm_states,
    make_batch,
    own_steps,
    run,
    softmax,
)

METHODS = {"align_pool": {}, "align_conv": {}, "align_ctc": {"hidden": 3}}
batch = pytest.fixture(scope="module")(make_batch)


def early(p, aligned):
    """One LSTM over the joint steps, each modality with its presence bit."""
    joint = []
    for t, counts in enumerate(counted(aligned)):
        parts = []
        for m in ORDER:
            x = aligned[m][t]
            parts += [np.zeros(SHAPES[m][2] + 1)] if x is None else [np.append(x, 1.0)]
        joint.append(np.concatenate(parts) if counts else None)
    return lstm_states(p["lstm"], joint)[-1][1]


def expect_aligned(fused, p, batch, length, resample):
    """``resample(m, b, own)`` is asked only for another length than T = 1 and ``length``."""
    rows = []
    for b in range(3):
        aligned = {}
        for m in ORDER:
            own = own_steps(batch, m, b)
            if len(own) in (1, length):
                aligned[m] = [own[t * len(own) // length] for t in range(length)]
            else:
                aligned[m] = resample(m, b, own)
        rows.append(early(p, aligned))
    expect(fused, [*rows, None])


def pooled_windows(own, length):
    result = []
    for t in range(length):
        inside = own[t * len(own) // length : int(np.ceil((t + 1) * len(own) / length))]
        inside = [x for x in inside if x is not None]
        result.append(np.mean(inside, axis=0) if inside else None)
    return result


@pytest.mark.parametrize(("target", "length"), [("", 5), ("audio", 3), ("image", 1)])
def test_align_pool_is_its_equation(batch, target, length):
    fused, p = run(build_fusion("align_pool", features=F, target=target), batch)
    expect_aligned(fused, p, batch, length, lambda m, b, own: pooled_windows(own, length))


@pytest.mark.parametrize(("target", "length"), [("", 5), ("audio", 3)])
def test_align_conv_is_its_equation(batch, target, length):
    fused, p = run(build_fusion("align_conv", features=F, target=target, kernel=4), batch)

    def resample(m, b, own):
        there = [x is not None for x in pooled_windows(own, length)]
        x = [np.zeros(SHAPES[m][2]) if v is None else v for v in own]
        outputs = min(len(own), length)
        # Stride 1 for the slower audio, at most 2 for the faster text, and 3 neighbours.
        kernel, stride = p[f"kernel_{m}"], int(np.ceil(len(own) / outputs))
        assert kernel.shape[0] == stride + 3
        y = []
        for t in range(outputs):
            first = t * len(own) // outputs - 1
            reads = [(k, first + k) for k in range(len(kernel)) if 0 <= first + k < len(own)]
            y.append(sum(x[s] @ kernel[k] for k, s in reads))
        held = [y[t * outputs // length] for t in range(length)]
        return [v if ok else None for v, ok in zip(held, there, strict=True)]

    expect_aligned(fused, p, batch, length, resample)


@pytest.mark.parametrize(("target", "length"), [("", 5), ("audio", 3)])
def test_align_ctc_is_its_equation(batch, target, length):
    fused, p = run(build_fusion("align_ctc", features=F, target=target, hidden=3), batch)
    name = target or "text"

    def resample(m, b, own):
        has = [x is not None for x in own_steps(batch, name, b)]
        slots = np.array(has) if any(has) else np.ones(length, bool)
        y = np.zeros((length, SHAPES[m][2]))
        shown = fused.weights[f"{name}<-{m}"][b].reshape(length, *SHAPES[m][:2])
        for s, (_, h) in enumerate(lstm_states(p[f"aligner_{m}"], own)):
            chosen, allowed = np.zeros(length + 1), np.append(True, slots)
            if own[s] is not None:
                chosen[allowed] = softmax(linear(p[f"position_{m}"], h)[allowed])
                y += np.outer(chosen[1:], own[s])
            np.testing.assert_allclose(shown[:, s].sum(axis=1), chosen[1:], atol=1e-6)
            assert np.all(shown[:, s, ~batch[1][m][b, s]] == 0)
        there = slots & any(x is not None for x in own)
        return [v if ok else None for v, ok in zip(y, there, strict=True)]

    expect_aligned(fused, p, batch, length, resample)
    if name == "text":
        assert np.all(fused.weights["text<-audio"][2] == 0)


@pytest.mark.parametrize("name", METHODS)
def test_data_that_are_aligned_give_early_lstm(name):
    rng = np.random.default_rng(1)
    tokens = {m: rng.standard_normal((B, t, 2, 5), np.float32)
              for m, t in (("a", 4), ("b", 4), ("c", 1))}  # fmt: skip
    masks = {m: rng.random(x.shape[:3]) < 0.7 for m, x in tokens.items()}
    fused, p = run(build_fusion(name, features=F, **METHODS[name]), (tokens, masks))
    assert set(p) == {"lstm"}
    reference = again(build_fusion("early_lstm", features=F), p, (tokens, masks))
    np.testing.assert_allclose(fused.tokens, reference, atol=1e-6)


def test_align_conv_with_a_kernel_that_copies_gives_early_lstm(batch):
    tokens = batch[0]
    whole = tokens, {m: np.ones(x.shape[:3], bool) for m, x in tokens.items()}
    fusion = build_fusion("align_conv", features=F)
    fused, p = run(fusion, whole)
    p["kernel_audio"] = np.stack([np.zeros((5, 5)), np.eye(5), np.zeros((5, 5))])
    reference = again(build_fusion("early_lstm", features=F), {"lstm": p["lstm"]}, whole)
    np.testing.assert_allclose(again(fusion, p, whole), reference, atol=1e-6)
    assert np.abs(fused.tokens - reference).max() > 1e-3


def test_align_ctc_of_blanks_reads_nothing_but_that_something_is_there(batch):
    tokens, masks = batch
    fusion = build_fusion("align_ctc", features=F, hidden=3)
    fused, p = run(fusion, batch)
    p["position_audio"]["bias"] = np.eye(1, 6)[0] * 1e4
    silent = tokens | {"audio": np.zeros_like(tokens["audio"])}
    results = [again(fusion, p, (x, masks)) for x in (tokens, silent)]
    np.testing.assert_array_equal(*results)
    assert np.abs(fused.tokens - results[0]).max() > 1e-3


@pytest.mark.parametrize("length", [1, 3, 4, 5, 9, 10])
@pytest.mark.parametrize("source", [1, 4, 5, 10])
def test_windows_and_taps_leave_out_no_step(source, length):
    inside = windows(source, length)
    assert inside.shape == (length, source)
    assert inside.any(axis=0).all() and inside.any(axis=1).all()
    assert np.all(np.diff(inside.argmax(axis=1)) >= 0)
    assert np.array_equal(inside, np.eye(source)) or source != length
    # ``align`` reads one of the window's steps.
    held = align(np.arange(source)[None], length)[0]
    assert inside[np.arange(length), held].all()
    for kernel in (1, 2, 3):
        at, used = taps(source, min(length, source), kernel)
        assert used.any(axis=0).all()
        assert set(at[used]) == set(range(source))


def brute_force(logits, there, slots):
    """The sum over all assignments that give the allowed positions in order, by trying them all."""
    labels, rows = [i + 1 for i in np.flatnonzero(slots)], softmax(logits)[there]
    total = 0.0
    for path in itertools.product([0, *labels], repeat=len(rows)):
        if [k for k, _ in itertools.groupby(path) if k] == labels:
            total += np.prod([row[k] for row, k in zip(rows, path, strict=True)])
    return -np.log(total) / len(rows)


def test_monotone_loss_is_the_sum_over_all_monotone_assignments():
    rng = np.random.default_rng(0)
    logits = rng.standard_normal((4, 5, 4), np.float32)
    there = np.array([[1, 1, 1, 1, 1], [1, 0, 1, 1, 0], [1, 1, 0, 0, 0], [0, 0, 0, 0, 0]], bool)
    slots = np.array([[1, 1, 1], [1, 0, 1], [1, 1, 1], [1, 1, 1]], bool)
    allowed = np.pad(slots, ((0, 0), (1, 0)), constant_values=True)
    logits = np.where(allowed[:, None], logits, -1e5)

    @jax.jit
    def loss_and_gradient(x):
        loss, pull = jax.vjp(lambda x: monotone_loss(x, jnp.array(there), jnp.array(slots)), x)
        return loss, pull(jnp.ones(4))[0]

    loss, grad = jax.device_get(loss_and_gradient(logits))
    for b in range(2):
        np.testing.assert_allclose(loss[b], brute_force(logits[b], there[b], slots[b]), rtol=1e-4)
    # Fewer steps than positions: no monotone assignment exists, and there is nothing to learn.
    np.testing.assert_array_equal(loss[2:], 0)
    assert np.isfinite(grad).all() and np.all(grad[2:] == 0) and np.all(grad[~there] == 0)
    assert np.abs(grad[0]).max() > 1e-3


def test_align_ctc_has_its_loss_where_the_source_is_long_enough(batch):
    def losses(target, train):
        fusion = build_fusion("align_ctc", features=4, hidden=3, target=target, ctc=0.5)

        def outputs(key):
            variables = fusion.init(key, *batch, train=False)
            return fusion.apply(variables, *batch, train=train).losses

        return jax.eval_shape(outputs, jax.random.key(0))

    assert losses("", True) == {} and losses("audio", False) == {}
    assert {name: x.shape for name, x in losses("audio", True).items()} == {"ctc_text": (B,)}


@pytest.mark.parametrize("name", METHODS)
def test_an_unknown_target_is_one_clear_line(batch, name):
    with pytest.raises(InputError, match=r"target='txt'.*allowed: audio, image, text.*'text'"):
        run(build_fusion(name, features=F, target="txt", **METHODS[name]), batch)
