"""Every transform against a reference by hand: what changes, how often, and nothing else."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmfuse.transforms import TRANSFORMS
from mmfuse.transforms.base import kind

FAST = {"xla_backend_optimization_level": 0}  # compiling is most of the time here
N = 400  # draws
T, BANDS, SIDE = 12, 6, 8
LENGTHS = {"frames": [2, 3, 4, 5, 6, 7, 8, 9], "text": [0, 1, 2, 3, 4]}  # where data is, not 0..n


def example(seed=0):
    """One example with input of every kind; some steps are padding, before and after."""
    rng = np.random.default_rng(seed)
    mask = lambda n, real: np.isin(np.arange(n), real)  # noqa: E731
    masks = {
        "frames": mask(T, LENGTHS["frames"]),
        "text": mask(7, LENGTHS["text"]),
        "picture": np.ones(1, bool),
        "vector": np.ones(1, bool),
    }
    inputs = {
        "frames": rng.normal(2, 3, (T, BANDS)) * masks["frames"][:, None],
        "picture": rng.normal(0.5, 1, (SIDE, SIDE, 3)),
        "vector": rng.normal(0, 5, 9),
    }
    inputs = {name: x.astype(np.float32) for name, x in inputs.items()}
    inputs["text"] = (rng.integers(2, 30, 7) * masks["text"]).astype(np.int32)
    return {"inputs": inputs, "masks": masks, "label": np.int32(seed % 3)}


@functools.cache
def compiled(transform):
    axes = (0, None, None) if transform.paired else (0, None)
    return jax.jit(jax.vmap(transform, axes), compiler_options=FAST)


def _drawn(transform, seed):
    keys = jax.random.split(jax.random.key(seed), N)
    args = (example(), example(1)) if transform.paired else (example(),)
    return jax.tree.map(np.asarray, compiled(transform)(keys, *args))


def drawn(name, seed=0, **fields):
    """(the transformed example [N, ...], the transform); all else is checked to be untouched."""
    transform = TRANSFORMS[name](**fields)
    after, before = _drawn(transform, seed), example()
    for part in ("inputs", "masks"):
        for modality, x in before[part].items():
            if fields.get("modality", modality) != modality:
                assert (after[part][modality] == x[None]).all(), "the others are untouched"
            assert after[part][modality].dtype == x.dtype
    for modality, mask in after["masks"].items():
        x = after["inputs"][modality]
        steps = mask.reshape(*mask.shape, *[1] * (x.ndim - 2))
        assert not (x * ~steps).any(), "what is masked is zero"
    return after


def rate(hits, p, n):
    """Within five standard deviations of a binomial share: one in two million by chance."""
    assert abs(np.sum(hits) - n * p) <= 5 * np.sqrt(n * p * (1 - p)), (np.sum(hits), n * p)


def test_kinds_of_input():
    given = example()
    found = {m: kind(x, given["masks"][m]) for m, x in given["inputs"].items()}
    assert found == {"frames": "frames", "text": "tokens", "picture": "picture", "vector": "vector"}
    assert kind(np.zeros((T, BANDS, 1)), np.ones(T)) == "frames"


@pytest.mark.parametrize("modality", ["text", "frames", "picture", "vector"])
@pytest.mark.parametrize("p", [0, 0.3, 1])
def test_drop_modality(modality, p):
    after, before = drawn("drop_modality", modality=modality, p=p), example()
    dropped = ~after["masks"][modality].any(1)
    rate(dropped, p, N)
    assert not after["inputs"][modality][dropped].any()
    for part in ("inputs", "masks"):
        kept = after[part][modality][~dropped]
        np.testing.assert_array_equal(kept, np.broadcast_to(before[part][modality], kept.shape))


def test_keep_one_never_drops_the_last_modality():
    def drops(key, given):
        for number, name in enumerate(given["inputs"]):
            drop = TRANSFORMS["drop_modality"](modality=name, p=0.8, keep_one=True)
            given = drop(jax.random.fold_in(key, number), given)
        return jnp.array([jnp.any(mask) for mask in given["masks"].values()])

    there = np.asarray(
        jax.jit(jax.vmap(drops, (0, None)))(jax.random.split(jax.random.key(0), N), example())
    )
    assert there.any(1).all()
    rate(~there[:, 0], 0.8, N)
    alone = {part: {"text": example()[part]["text"]} for part in ("inputs", "masks")}
    drop = TRANSFORMS["drop_modality"](modality="text", p=1.0, keep_one=True)
    assert drop(jax.random.key(0), alone)["masks"]["text"].any()


@pytest.mark.parametrize("modality", ["text", "frames"])
def test_drop_frames(modality):
    after, before = drawn("drop_frames", modality=modality, p=0.25), example()
    real, mask = before["masks"][modality], after["masks"][modality]
    assert not mask[:, ~real].any()
    rate(~mask[:, real], 0.25, N * real.sum())
    each = (~mask[:, real]).mean(0)
    assert np.ptp(each) < 0.2, "every step alike"
    x = before["inputs"][modality]
    kept = np.where(mask.reshape(*mask.shape, *[1] * (x.ndim - 1)), x, 0)
    np.testing.assert_array_equal(after["inputs"][modality], kept)


@pytest.mark.parametrize("modality", ["frames", "picture", "vector"])
@pytest.mark.parametrize("snr_db", [-6.0, 10.0])
def test_noise_has_the_stated_ratio(modality, snr_db):
    after, before = drawn("noise", modality=modality, snr_db=snr_db), example()
    x, mask = before["inputs"][modality].astype(float), before["masks"][modality]
    x, y = (v[..., mask, :] if modality == "frames" else v for v in (x, after["inputs"][modality]))
    noise = y - x
    power = np.mean(x**2) / 10 ** (snr_db / 10)
    assert np.mean(noise**2) == pytest.approx(power, rel=5 * np.sqrt(2 / noise.size))
    measured = 10 * np.log10(np.mean(x**2) / np.mean(noise**2))
    assert measured == pytest.approx(snr_db, abs=0.5)
    assert abs(noise.mean()) < 5 * np.sqrt(power / noise.size)
    assert np.mean(noise**4) / np.mean(noise**2) ** 2 == pytest.approx(3, abs=0.5)  # Gaussian
    np.testing.assert_array_equal(after["masks"][modality], np.broadcast_to(mask, (N, len(mask))))


def test_noise_of_nothing_is_nothing():
    noise = TRANSFORMS["noise"](modality="frames", snr_db=-20.0)
    given = example()
    given["masks"]["frames"] = np.zeros(T, bool)
    assert not np.asarray(noise(jax.random.key(0), given)["inputs"]["frames"]).any()


def squares(x):
    """(sides [N, 2], corners [N, 2]) of the hidden square of each picture [N, H, W, C]."""
    hidden = (x == 0).all(-1)
    sides = np.stack([hidden.any(2).sum(1), hidden.any(1).sum(1)], 1)
    corners = np.stack([hidden.any(2).argmax(1), hidden.any(1).argmax(1)], 1)
    np.testing.assert_array_equal(hidden.sum((1, 2)), sides.prod(1), err_msg="a full rectangle")
    return sides, corners


@pytest.mark.parametrize(("name", "inside"), [("occlude", True), ("cutout", False)])
def test_a_square_of_a_picture_is_hidden(name, inside):
    after, before = drawn(name, modality="picture", size=3), example()["inputs"]["picture"]
    x = after["inputs"]["picture"]
    sides, corners = squares(x)
    np.testing.assert_array_equal(x[x != 0], np.broadcast_to(before, x.shape)[x != 0])
    if inside:
        assert (sides == 3).all()
        assert {tuple(c) for c in corners} == {(i, j) for i in range(6) for j in range(6)}
    else:
        assert set(sides.ravel()) == {2, 3}  # a centre on the border leaves two thirds
        centres = corners + np.where(corners == 0, sides - 2, 1)
        assert {tuple(c) for c in centres} == {(i, j) for i in range(SIDE) for j in range(SIDE)}
    assert after["masks"]["picture"].all()


def runs(hidden):
    """(width, first) of the one run in every row of hidden [N, L]; width 0 where there is none."""
    width, first = hidden.sum(1), hidden.argmax(1)
    last = hidden.shape[1] - 1 - hidden[:, ::-1].argmax(1)
    assert ((last - first + 1 == width) | (width == 0)).all(), "one piece"
    return width, first


def test_a_span_of_frames_is_hidden():
    after = drawn("occlude", modality="frames", size=3)
    width, first = runs((after["inputs"]["frames"][:, LENGTHS["frames"]] == 0).all(-1))
    assert (width == 3).all()
    assert set(first) == set(range(6))
    rate(first == 0, 1 / 6, N)
    np.testing.assert_array_equal(after["masks"]["frames"][0], example()["masks"]["frames"])
    assert (after["masks"]["frames"] == after["masks"]["frames"][:1]).all()


def test_spec_augment_stays_in_its_limits():
    after = drawn("spec_augment", modality="frames", time=4, frequency=2)
    x = after["inputs"]["frames"][:, LENGTHS["frames"]] == 0
    steps, bands = x.all(2), x.all(1)
    (wide, first), (high, low) = runs(steps), runs(bands)
    assert (set(wide), set(high)) == ({0, 1, 2, 3, 4}, {0, 1, 2})
    rate(wide == 4, 1 / 5, N)
    rate(high == 2, 1 / 3, N)
    assert set(first[wide == 4]) == set(range(5))
    assert set(low[high == 2]) == set(range(5))
    np.testing.assert_array_equal(x, steps[:, :, None] | bands[:, None])
    assert (after["masks"]["frames"] == example()["masks"]["frames"][None]).all()


def test_spec_augment_with_several_masks_and_a_last_axis():
    spec = TRANSFORMS["spec_augment"](
        modality="frames", time=1, frequency=1, time_masks=3, frequency_masks=2
    )
    given = example()
    given["inputs"]["frames"] = np.ones((T, BANDS, 1), np.float32)
    run = compiled(spec)(jax.random.split(jax.random.key(0), N), given)
    x = np.asarray(run["inputs"]["frames"])[..., 0][:, LENGTHS["frames"]] == 0
    assert {int(n) for n in x.all(2).sum(1)} == {0, 1, 2, 3}
    assert {int(n) for n in x.all(1).sum(1)} == {0, 1, 2}


def test_flip():
    after, before = drawn("flip", modality="picture", p=0.3), example()["inputs"]["picture"]
    flipped = (after["inputs"]["picture"] == before[:, ::-1][None]).all((1, 2, 3))
    rate(flipped, 0.3, N)
    assert (after["inputs"]["picture"][~flipped] == before[None]).all()


def test_crop_moves_the_picture():
    after, before = drawn("crop", modality="picture", pad=2), example()["inputs"]["picture"]
    padded = np.pad(before, ((2, 2), (2, 2), (0, 0)))
    shifts = {(i, j): padded[i : i + SIDE, j : j + SIDE] for i in range(5) for j in range(5)}
    seen = set()
    for x in after["inputs"]["picture"]:
        found = [shift for shift, y in shifts.items() if np.array_equal(x, y)]
        assert len(found) == 1
        seen.update(found)
    assert seen == set(shifts)


@pytest.mark.parametrize("part", ["brightness", "contrast", "saturation"])
def test_colour(part):
    after = drawn("colour", modality="picture", **{part: 0.5})["inputs"]["picture"].astype(float)
    x = example()["inputs"]["picture"].astype(float)
    if part == "brightness":
        centre, away, amounts = np.zeros_like(x), np.ones_like(x), after - x[None]
    else:
        axes = (0, 1) if part == "contrast" else 2
        centre = x.mean(axes, keepdims=True)
        away, amounts = x - centre, None
    if amounts is None:
        amounts = (after - centre[None]) / away[None] - 1
    drawn_ = np.median(amounts, axis=(1, 2, 3))
    base = x if part == "brightness" else centre
    factor = drawn_ if part == "brightness" else 1 + drawn_
    np.testing.assert_allclose(
        after, base[None] + factor[:, None, None, None] * away[None], atol=1e-5
    )
    assert -0.5 <= drawn_.min() < -0.4
    assert 0.4 < drawn_.max() <= 0.5


def test_an_absent_picture_stays_absent():
    given = example()
    given["masks"]["picture"] = np.zeros(1, bool)
    given["inputs"]["picture"] = np.zeros((SIDE, SIDE, 3), np.float32)
    bright = TRANSFORMS["colour"](modality="picture", brightness=1.0)
    assert not np.asarray(bright(jax.random.key(0), given)["inputs"]["picture"]).any()


def test_swap_takes_the_whole_modality_of_the_other():
    after, mine, other = drawn("swap", modality="frames", p=0.4), example(), example(1)
    swapped = (after["inputs"]["frames"] == other["inputs"]["frames"][None]).all((1, 2))
    rate(swapped, 0.4, N)
    assert (after["inputs"]["frames"][~swapped] == mine["inputs"]["frames"][None]).all()
    assert (after["label"] == mine["label"]).all()


def test_mixup():
    mine, other = example(), example(1)
    for each in (mine, other):
        for part in ("inputs", "masks"):
            each[part].pop("text")
    other["masks"]["frames"][:4] = True
    keys = jax.random.split(jax.random.key(0), N)
    after = jax.tree.map(np.asarray, compiled(TRANSFORMS["mixup"](alpha=1.0))(keys, mine, other))
    share = after["mixed"]["share"]
    assert (after["masks"]["frames"] == (np.arange(T) < 10)[None]).all()
    for name in ("frames", "picture", "vector"):
        x, y = (each["inputs"][name].astype(float) for each in (mine, other))
        s = share.reshape(-1, *[1] * x.ndim)
        found = after["inputs"][name]
        np.testing.assert_allclose(found, s * x[None] + (1 - s) * y[None], atol=1e-5)
    assert (after["mixed"]["label"] == other["label"]).all()
    assert (after["label"] == mine["label"]).all()
    assert ((share >= 0) & (share <= 1)).all()
    assert np.mean(share) == pytest.approx(0.5, abs=5 * np.sqrt(0.0833 / N))
    assert np.var(share) == pytest.approx(1 / 12, rel=0.25)  # Beta(1, 1) is uniform


ALL = [
    ("drop_modality", {"modality": "text", "p": 0.5}),
    ("drop_frames", {"modality": "frames", "p": 0.5}),
    ("noise", {"modality": "vector", "snr_db": 0.0}),
    ("occlude", {"modality": "frames", "size": 3}),
    ("flip", {"modality": "picture"}),
    ("crop", {"modality": "picture", "pad": 2}),
    ("colour", {"modality": "picture", "brightness": 0.5}),
    ("cutout", {"modality": "picture", "size": 3}),
    ("spec_augment", {"modality": "frames", "time": 4, "frequency": 2}),
    ("swap", {"modality": "frames", "p": 0.5}),
]


@pytest.mark.parametrize(("name", "fields"), ALL)
def test_the_same_key_gives_the_same_bits_and_another_one_others(name, fields):
    first, transform = drawn(name, **fields), TRANSFORMS[name](**fields)
    jax.tree.map(np.testing.assert_array_equal, first, _drawn(transform, 0))
    other = _drawn(transform, 1)["inputs"][fields["modality"]]
    assert (first["inputs"][fields["modality"]] != other).any()
    x = first["inputs"][fields["modality"]].reshape(N, -1)
    assert len(np.unique(x, axis=0)) > 1, "draws differ"


def test_every_transform_is_tried_here():
    assert {name for name, _ in ALL} | {"mixup"} == set(TRANSFORMS)
