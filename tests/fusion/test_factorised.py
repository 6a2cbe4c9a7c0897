"""Low-rank, compact and attended bilinear pooling against their equations, and their limits."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmfuse.errors import InputError
from mmfuse.fusion import build_fusion
from mmfuse.fusion.spatial.factorised import (
    compact_product,
    hashes,
    power_normalised,
    signed_sqrt,
)
from tests.reference import (
    ORDER,
    F,
    average,
    expect,
    linear,
    make_batch,
    means,
    positioned,
    relu,
    run,
    softmax,
)

batch = pytest.fixture(scope="module")(make_batch)


@pytest.fixture(scope="module")
def two(batch):
    """Text and image, which are present in all examples but the last."""
    return tuple({m: part[m] for m in ("text", "image")} for part in batch)


@pytest.fixture(scope="module")
def mfb(batch):
    return run(build_fusion("mfb", features=F, width=5, rank=3), batch)


def power(z):
    y = z / np.sqrt(np.abs(z) + 1e-6)
    return y / np.sqrt(np.sum(y * y) + 1e-6)


def projected(p, batch, b, suffix=""):
    """``W_m h_m + c_m`` of the modalities that are present in example b."""
    return {m: linear(p[f"factor_{m}{suffix}"], h)
            for m, h in means(batch, b).items() if h is not None}  # fmt: skip


def apply(name, params, batch, **fields):
    """The vectors that a method gives with these parameters."""
    fusion = build_fusion(name, features=F, **fields)
    fused = jax.jit(lambda p: fusion.apply({"params": p}, *batch, train=False))(params)
    return np.asarray(fused.tokens[:, 0, 0])


def expanded(u, i):
    """``prod over the present m of u_m[i]``, number by number."""
    result = 1.0
    for x in u.values():
        result *= x[i]
    return result


def test_mlb_is_its_equation(batch):
    fused, p = run(build_fusion("mlb", features=F, width=5), batch)
    rows = []
    for b in range(3):
        u = {m: np.tanh(x) for m, x in projected(p, batch, b).items()}
        rows.append(linear(p["out"], np.array([expanded(u, i) for i in range(5)])))
    expect(fused, [*rows, None])


def test_mfb_is_its_equation(batch, mfb):
    fused, p = mfb
    rows = []
    for b in range(3):
        u = projected(p, batch, b)
        z = [sum(expanded(u, 3 * i + d) for d in range(3)) for i in range(5)]
        rows.append(linear(p["out"], power(np.array(z))))
    expect(fused, [*rows, None])


def test_mfh_is_its_equation(batch):
    fused, p = run(build_fusion("mfh", features=F, width=3, rank=2, blocks=3), batch)
    rows = []
    for b in range(3):
        e, parts = np.ones(6), []
        for block in range(3):
            u = projected(p, batch, b, f"_{block}")
            e = e * [expanded(u, i) for i in range(6)]
            parts.append(power(e[0::2] + e[1::2]))
        rows.append(linear(p["out"], np.concatenate(parts)))
    expect(fused, [*rows, None])


def test_mfb_of_rank_one_without_norm_is_mlb_without_tanh(batch, mfb):
    # The parameters of rank 3 and width 5 are those of rank 1 and width 15, but for the last layer.
    out = {"kernel": jax.random.normal(jax.random.key(1), (15, F)), "bias": jnp.arange(float(F))}
    params = {**mfb[1], "out": out}
    a = apply("mfb", params, batch, width=15, rank=1, normalise=False)
    b = apply("mlb", params, batch, width=15, tanh=False)
    np.testing.assert_allclose(a, b, atol=1e-5)
    assert np.abs(a).max() > 1


def test_mfh_of_one_block_is_mfb(batch, mfb):
    fused, p = mfb
    renamed = {name if name == "out" else f"{name}_0": x for name, x in p.items()}
    got = apply("mfh", renamed, batch, width=5, rank=3, blocks=1)
    np.testing.assert_allclose(got[:3], fused.tokens[:3, 0, 0], atol=1e-5)


def test_dropout_acts_in_training_only(batch, mfb):
    fields = {"features": F, "width": 5, "rank": 3, "dropout": 0.5}
    fusion, variables = build_fusion("mfb", **fields), {"params": mfb[1]}
    np.testing.assert_allclose(apply("mfb", mfb[1], batch, width=5, rank=3, dropout=0.5)[:3],
                               mfb[0].tokens[:3, 0, 0], atol=1e-5)  # fmt: skip

    @jax.jit
    def draw(key):
        return fusion.apply(variables, *batch, train=True, rngs={"dropout": key}).tokens

    keys = jax.random.split(jax.random.key(0, impl="unsafe_rbg"))
    assert np.abs(draw(keys[0]) - draw(keys[1])).max() > 1e-3


def test_the_signed_root_has_a_slope_at_zero():
    z = jnp.asarray([-4.0, -1e-3, 0.0, 0.25, 9.0])
    np.testing.assert_allclose(signed_sqrt(z), [-2, -np.sqrt(1e-3), 0, 0.5, 3], atol=2e-5)
    start = jnp.asarray([[0.0, 0.0, 0.0], [0.0, 1e-30, -4.0]])
    y, slopes = jax.jit(lambda x: (power_normalised(x), jax.jacobian(power_normalised)(x)))(start)
    assert np.isfinite(y).all()
    assert np.isfinite(slopes).all()
    np.testing.assert_array_equal(y[0], 0)
    np.testing.assert_allclose(y[1], [0, 0, -1], atol=1e-5)


def sketch(x, bins, signs, width):
    y = np.zeros(width)
    for value, j, sign in zip(x, bins, signs, strict=True):
        y[j] += sign * value
    return y


def convolved(a, b):
    return np.array([sum(a[i] * b[(j - i) % len(a)] for i in range(len(a))) for j in range(len(a))])


def test_mcb_is_its_equation(batch):
    """The convolution of sketches, in time and not in frequency; 7 numbers in 5 bins collide."""
    fused, p = run(build_fusion("mcb", features=F, width=5, hash_seed=3), batch)
    assert set(p) == {"out"}  # Nothing about the hashes is trained.
    rows = []
    for b in range(3):
        z = None
        for place, h in enumerate(means(batch, b).values()):
            if h is not None:
                y = sketch(h, *hashes(len(h), 5, 3, place), 5)
                z = y if z is None else convolved(z, y)
        rows.append(linear(p["out"], power(z)))
    expect(fused, [*rows, None])


def test_mcb_sketches_the_outer_product():
    """Bin and sign of an entry of the outer product are the sum and the product of its factors'."""
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((2, 6))
    (bx, sx), (by, sy) = (hashes(6, 8, 0, place) for place in (0, 1))
    outer = sketch(np.outer(x, y).ravel(), (bx[:, None] + by[None]).ravel() % 8,
                   np.outer(sx, sy).ravel(), 8)  # fmt: skip
    vectors = {"a": jnp.asarray(x[None], jnp.float32), "b": jnp.asarray(y[None], jnp.float32)}
    got = compact_product(vectors, dict.fromkeys(vectors, jnp.ones(1, bool)), 8, 0)
    np.testing.assert_allclose(got[0], outer, atol=1e-5)


def test_mcb_approaches_the_bilinear_kernel():
    """With 16 times the width the inner products have a quarter of the error."""
    rng = np.random.default_rng(0)
    pairs = {"a": rng.standard_normal((2, 500, 40)), "b": rng.standard_normal((2, 500, 30))}
    pairs = {m: x / np.linalg.norm(x, axis=-1, keepdims=True) for m, x in pairs.items()}
    for x in pairs.values():
        x[1] = 0.6 * x[1] + 0.8 * x[0]  # So that the kernel is not near zero.
    kernel = np.prod([np.sum(x[0] * x[1], axis=-1) for x in pairs.values()], axis=0)
    stacked = {m: x.reshape(1000, -1).astype(np.float32) for m, x in pairs.items()}
    there, error = dict.fromkeys(pairs, np.ones(1000, bool)), {}
    for width in (16, 256, 4096):
        z = jax.jit(lambda x, width=width: compact_product(x, there, width, 0))(stacked)
        z = np.asarray(z).reshape(2, 500, width)
        error[width] = np.sqrt(np.mean((np.sum(z[0] * z[1], axis=-1) - kernel) ** 2))
    assert kernel.mean() > 0.5
    assert error[4096] < 0.05
    assert 3 < error[16] / error[256] < 6
    assert 3 < error[256] / error[4096] < 6


@pytest.mark.parametrize("order", [2, 3])
def test_tucker_is_its_equation(batch, order):
    fused, p = run(build_fusion("tucker", features=F, width=4, order=order), batch)
    rows = []
    for b in range(3):
        u = {m: np.ones(4) for m in ORDER}
        u |= {m: np.tanh(x) for m, x in projected(p, batch, b).items()}
        z = np.zeros(4)
        for chosen in itertools.combinations(ORDER, order):
            for index in itertools.product(range(4), repeat=order):
                weight = np.prod([u[m][i] for m, i in zip(chosen, index, strict=True)])
                z += p["core_" + "_".join(chosen)][index] * weight
        rows.append(linear(p["out"], z))
    expect(fused, [*rows, None])


def low_rank(p, u, rank, suffix=""):
    width = len(next(iter(u.values())))
    z = np.zeros(width)
    for r, k in itertools.product(range(rank), range(width)):
        column = r * width + k
        z[k] += np.prod([x @ p[f"slices_{m}{suffix}"]["kernel"][:, column] for m, x in u.items()])
    return z


def test_mutan_is_its_equation(batch):
    fused, p = run(build_fusion("mutan", features=F, width=4, rank=3), batch)
    rows = []
    for b in range(3):
        u = {m: np.tanh(x) for m, x in projected(p, batch, b).items()}
        rows.append(linear(p["out"], low_rank(p, u, 3)))
    expect(fused, [*rows, None])


@pytest.mark.parametrize("normalise", [False, True])
def test_block_is_its_equation(batch, normalise):
    """Five entries in two blocks: three and two."""
    fields = {"width": 5, "blocks": 2, "rank": 2, "normalise": normalise}
    fused, p = run(build_fusion("block", features=F, **fields), batch)
    rows = []
    for b in range(3):
        parts = []
        for c, piece in enumerate((slice(0, 3), slice(3, 5))):
            u = {m: x[piece] for m, x in projected(p, batch, b).items()}
            z = low_rank(p, u, 2, f"_{c}")
            parts.append(power(z) if normalise else z)
        rows.append(linear(p["out"], np.concatenate(parts)))
    expect(fused, [*rows, None])


def test_block_refuses_more_blocks_than_entries(batch):
    with pytest.raises(InputError, match="width=3 cannot be cut into blocks=4"):
        run(build_fusion("block", features=F, width=3), batch)


def test_mutan_and_one_block_of_full_rank_are_tucker(two):
    """By a singular value decomposition of each slice of the core."""
    tucker, p = run(build_fusion("tucker", features=F, width=4, tanh=False), two)
    core = p.pop("core_image_text")
    left, values, right = np.linalg.svd(core.transpose(2, 0, 1))  # Slice k is core[:, :, k].
    image = np.einsum("kir,kr->irk", left, values)
    text = np.einsum("krj->jrk", right)
    for suffix, name, fields in (("", "mutan", {"tanh": False}), ("_0", "block", {"blocks": 1})):
        slices = {f"slices_{m}{suffix}": {"kernel": x.reshape(4, -1)}
                  for m, x in (("image", image), ("text", text))}  # fmt: skip
        got = apply(name, p | slices, two, width=4, rank=4, **fields)
        np.testing.assert_allclose(got[:3], tucker.tokens[:3, 0, 0], atol=1e-5)
    short = {m: {"kernel": x["kernel"][:, :12]} for m, x in slices.items()}  # Without one term
    got = apply("block", p | short, two, width=4, rank=3, blocks=1)
    assert np.abs(got[:3] - tucker.tokens[:3, 0, 0]).max() > 1e-3


@pytest.fixture(scope="module")
def ban(batch):
    return run(build_fusion("ban", features=F, width=5, glimpses=2), batch)


def test_ban_is_its_equation(batch, ban):
    fused, p = ban
    rows = []
    for b in range(3):
        xs = positioned(p, batch, b)
        start = {m: relu(linear(p[f"map_{m}"], x)) for m, x in xs.items()}
        pairs = list(itertools.combinations(xs, 2))
        for g in range(2):
            u = {m: relu(linear(p[f"pool_{g}_{m}"], x)) for m, x in xs.items()}
            joint = {m: np.zeros(5) for m in xs}
            for m, n in pairs:
                logits = [[np.sum(p[f"map_{m}_{n}"][g] * x * y) for y in start[n]]
                          for x in start[m]]  # fmt: skip
                a = softmax(np.ravel(logits)).reshape(np.shape(logits))
                keep_m, keep_n = (batch[1][k][b].ravel() for k in (m, n))
                shown = fused.weights[f"{m}<-{n}"][b, g]
                np.testing.assert_allclose(shown[keep_m][:, keep_n], a, atol=1e-5)
                for i, j in itertools.product(range(len(a)), range(len(a[0]))):
                    joint[m] += a[i, j] * u[m][i] * u[n][j]
                    joint[n] += a[i, j] * u[m][i] * u[n][j]
            xs = {m: x + joint[m] @ p[f"add_{m}_{g}"]["kernel"] for m, x in xs.items()}
        rows.append(average([x.mean(axis=0) for x in xs.values()]))
    expect(fused, [*rows, None])


def test_ban_attends_to_no_masked_token(batch, ban):
    weights = ban[0].weights
    assert set(weights) == {"audio<-image", "audio<-text", "image<-text"}
    for name, a in weights.items():
        m, n = name.split("<-")
        keep = (batch[1][m].reshape(4, -1)[:, None, :, None]
                & batch[1][n].reshape(4, -1)[:, None, None])  # fmt: skip
        assert np.all(a[~np.broadcast_to(keep, a.shape)] == 0)
        np.testing.assert_allclose(a.sum(axis=(2, 3)), keep.any(axis=(2, 3)) * np.ones((4, 2)),
                                   atol=1e-5)  # fmt: skip


def test_ban_with_flat_maps_multiplies_means(batch, ban):
    """With p = 0 every pair weighs the same, and one glimpse pools the product of two means."""
    pair = tuple({m: part[m] for m in ("text", "image")} for part in batch)
    p = ban[1] | {"map_image_text": np.zeros((1, 5))}
    got = apply("ban", p, pair, width=5, glimpses=1)
    for b in range(3):
        xs = {m: x for m, x in positioned(p, batch, b).items() if m != "audio"}
        means = {m: relu(linear(p[f"pool_0_{m}"], x)).mean(axis=0) for m, x in xs.items()}
        joint = means["image"] * means["text"]
        row = average([x.mean(axis=0) + joint @ p[f"add_{m}_0"]["kernel"] for m, x in xs.items()])
        np.testing.assert_allclose(got[b], row, atol=1e-5)
