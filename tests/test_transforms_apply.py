"""Lists of transforms in training and evaluation: keys, partners, devices, and a config's words."""

import functools

import jax
import numpy as np
import pytest

from mmfuse.ablation import resolve
from mmfuse.errors import InputError
from mmfuse.parallel import Devices
from mmfuse.transforms import TRANSFORMS, build_transforms, check_shapes
from mmfuse.transforms.apply import EVALUATION, apply
from tests import programs, tiny

FAST = {"xla_backend_optimization_level": 0}  # compiling is most of the time here
B, REAL = 12, 10
NOISE = TRANSFORMS["noise"](modality="x", snr_db=3.0)
SWAP = TRANSFORMS["swap"](modality="x", p=1.0)
DROP = TRANSFORMS["drop_modality"](modality="x", p=0.5)
MIXUP = TRANSFORMS["mixup"](alpha=0.7)
SEEDS = (4, 9)


def batch(real=REAL, size=B):
    """Example n holds the number n; the last ones are padding."""
    there = np.arange(size) < real
    return {
        "inputs": {"x": np.repeat(np.arange(1.0, size + 1, dtype=np.float32)[:, None], 5, 1)},
        "masks": {"x": there[:, None]},
        "label": (np.arange(size) % 3).astype(np.int32),
        "weight": there.astype(np.float32),
    }


@functools.cache
def compiled(transforms):
    return jax.jit(
        lambda key, batch, who: apply(transforms, key, batch, who), compiler_options=FAST
    )


def applied(*transforms, seed=0, given=None, who=None):
    given = given or batch()
    who = np.arange(len(given["label"]), dtype=np.int32) if who is None else who
    return jax.device_get(compiled(transforms)(jax.random.key(seed), given, who))


def test_a_swap_is_a_turn_of_the_real_examples():
    shifts = set()
    for seed in range(40):
        x = applied(SWAP, seed=seed)["inputs"]["x"][:, 0]
        assert (x[:REAL] != np.arange(1, REAL + 1)).all(), "nobody meets itself"
        assert sorted(x[:REAL]) == list(range(1, REAL + 1))
        shifts.add(int(x[0] - 1))
        np.testing.assert_array_equal(x[:REAL], 1 + (np.arange(REAL) + x[0] - 1) % REAL)
    assert shifts == set(range(1, REAL))
    for alone in (1, 0):
        x = applied(SWAP, given=batch(alone))["inputs"]["x"][:, 0]
        np.testing.assert_array_equal(x, [1] * alone + [0] * (B - alone))


def test_draws_depend_on_the_example_not_on_its_neighbours():
    who = np.arange(B, dtype=np.int32)
    whole, order = applied(NOISE), np.random.default_rng(0).permutation(B)
    shuffled = jax.tree.map(lambda x: x[order], batch())
    found = applied(NOISE, given=shuffled, who=who[order])
    np.testing.assert_array_equal(found["inputs"]["x"], whole["inputs"]["x"][order])
    other = applied(NOISE, who=who + 1)["inputs"]["x"]
    assert (other[:REAL] != whole["inputs"]["x"][:REAL]).all()


def test_each_place_of_a_list_draws_for_itself():
    once, twice = (applied(*[NOISE] * n)["inputs"]["x"] for n in (1, 2))
    first, second = once - batch()["inputs"]["x"], twice - once
    assert abs(np.corrcoef(first[:REAL].ravel(), second[:REAL].ravel())[0, 1]) < 0.6
    assert (applied(NOISE, seed=1)["inputs"]["x"][:REAL] != once[:REAL]).all()


@pytest.mark.parametrize("mode", ["pmap", "jit"])
def test_devices_share_a_batch_as_one_would_have_it(mode):
    transforms, who = (DROP, NOISE, SWAP, MIXUP), np.arange(B, dtype=np.int32)
    devices, key = Devices(mode, 4), jax.random.key_data(jax.random.key(0))

    def summed(key, given, who, *, axis_name):
        out = apply(transforms, jax.random.wrap_key_data(key), given, who, axis_name=axis_name)
        parts = {"x": out["inputs"]["x"][:, 0], "label": out["mixed"]["label"]}
        parts |= {"share": out["mixed"]["share"], "mask": out["masks"]["x"][:, 0]}
        spread = jax.tree.map(
            lambda v: (jax.nn.one_hot(who, B) * v[:, None].astype("float32")).sum(0), parts
        )
        return spread if axis_name is None else jax.lax.psum(spread, axis_name)

    found = devices.compile(summed, (key, batch(), who), (None, 0, 0))(key, batch(), who)
    expected = applied(*transforms)
    np.testing.assert_allclose(found["x"], expected["inputs"]["x"][:, 0], rtol=1e-6)
    np.testing.assert_array_equal(found["label"], expected["mixed"]["label"])
    np.testing.assert_allclose(found["share"], expected["mixed"]["share"], rtol=1e-6)
    np.testing.assert_array_equal(found["mask"] > 0, expected["masks"]["x"][:, 0])


@functools.cache
def chunk(program):
    return jax.jit(lambda *args: program.train_chunk(*args, axis_name=None), compiler_options=FAST)


def test_a_mixed_step_is_that_of_the_mixed_label():
    """The gradient and the loss of softmax regression on x and label mixed by hand."""
    program, data = programs.make(train_transforms=(MIXUP,)), programs.data()
    state, order = programs.start(program, SEEDS), programs.orders(SEEDS, steps=1)
    after = jax.device_get(chunk(program)(state, data, order, np.ones(1, bool)))
    for lane, seed in enumerate(SEEDS):
        index = order[0, lane]
        given = jax.tree.map(lambda x, i=index: x[np.maximum(i, 0)], data)
        given["weight"] = (index >= 0).astype(np.float32)
        key = jax.random.fold_in(jax.random.key(seed), 0)
        mixed = compiled((MIXUP,))(key, given, np.arange(8, dtype=np.int32))
        real = index >= 0
        share = np.asarray(mixed["mixed"]["share"], float)[real, None]
        target = share * np.eye(3)[given["label"][real]]
        target += (1 - share) * np.eye(3)[np.asarray(mixed["mixed"]["label"])[real]]
        np.testing.assert_allclose(target.sum(1), 1)
        assert ((target > 0).sum(1) == 2).any(), "some labels are really mixed"
        x = np.asarray(mixed["inputs"]["x"], float)[real]
        w = jax.tree.map(lambda p, r=lane: np.asarray(p[r], float), state.params["affine"])
        z = x @ w["kernel"] + w["bias"]
        p = np.exp(z) / np.exp(z).sum(1, keepdims=True)
        kernel = w["kernel"] - 0.5 * x.T @ (p - target) / real.sum()
        np.testing.assert_allclose(after.params["affine"]["kernel"][lane], kernel, atol=1e-5)
        assert after.sums["loss"][lane] == pytest.approx(-np.sum(target * np.log(p)), rel=1e-4)
        assert after.sums["count"][lane] == pytest.approx(real.sum())


def test_training_is_keyed_by_seed_step_and_place():
    """Two dispatches are one, a lane is its run alone, another step draws otherwise."""
    program, data = programs.make(train_transforms=(NOISE, SWAP)), programs.data()
    run, live = chunk(program), np.ones(4, bool)
    order = programs.orders(SEEDS)
    state = programs.start(program, SEEDS)
    whole = jax.device_get(run(state, data, order, live))
    half = run(state, data, order, live & (np.arange(4) < 2))
    rest = np.roll(order, -2, axis=0)
    again = jax.device_get(run(half, data, rest, live & (np.arange(4) < 2)))
    jax.tree.map(np.testing.assert_array_equal, again, whole)
    for lane, seed in enumerate(SEEDS):
        alone = jax.device_get(
            run(programs.start(program, (seed,)), data, order[:, lane : lane + 1], live)
        )
        jax.tree.map(
            lambda a, b, r=lane: np.testing.assert_allclose(a[0], b[r], atol=1e-6), alone, whole
        )
    later = jax.device_get(run(state.replace(step=state.step + 1), data, order, live))
    assert (later.params["affine"]["kernel"] != whole.params["affine"]["kernel"]).any()


def test_evaluation_is_the_same_for_every_seed_and_batch_size():
    plain = programs.make()
    program = programs.make(eval_transforms=(DROP, NOISE))
    params = programs.start(program, SEEDS).params
    data = programs.data(n=24) | {"index": np.arange(24, dtype=np.int32)}
    data["weight"] = (np.arange(24) < 19).astype(np.float32)
    run = jax.jit(lambda p, b: program.evaluate(p, b, axis_name=None)[0])
    whole = run(params, data)
    hurt = applied(DROP, NOISE, seed=EVALUATION, given=data, who=data["index"])
    expected = plain.evaluate(params, hurt, axis_name=None)[0]
    clean = plain.evaluate(params, data, axis_name=None)[0]
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), whole, expected)
    assert (np.asarray(clean["loss"]) != np.asarray(whole["loss"])).all()
    halves = [run(params, jax.tree.map(lambda x, s=s: x[s : s + 12], data)) for s in (0, 12)]
    jax.tree.map(lambda a, b, c: np.testing.assert_allclose(a + b, c, rtol=1e-5), *halves, whole)
    swapped = (params, jax.tree.map(lambda x: x[::-1], params))
    flipped = run(swapped[1], data)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a[::-1], b, rtol=1e-5), flipped, whole)


def test_without_transforms_nothing_is_drawn_in_evaluation():
    program = programs.make()
    data = batch() | {"index": np.arange(B, dtype=np.int32)}
    params = programs.start(program, SEEDS).params
    text = str(jax.make_jaxpr(lambda p, b: program.evaluate(p, b, axis_name=None))(params, data))
    assert "random" not in text
    assert "threefry" not in text


DATA = {"preprocess": {"text": {}, "audio": {}}}
DROPS = {"name": "drop_modality", "modality": "text", "p": 0.5}
WRONG = [
    ({"name": "drop_modalty"}, r"transform 'drop_modalty' in config.data.eval_transforms\[0\]; did "
                               r"you mean 'drop_modality'\?; there are: drop_modality, drop"),
    (DROPS | {"q": 1}, r"eval_transforms\[0\] 'drop_modality': no field 'q'.*there are: modality"),
    (DROPS | {"modality": "txt"}, r"no modality 'txt' in .*did you mean 'text'"),
    (DROPS | {"p": 1.5}, r"'drop_modality': p must be a number in 0..1, got 1.5"),
    (DROPS | {"p": "x"}, r"p must be a number in 0..1, got 'x'"),
    (DROPS | {"p": True}, "p must be a number"),
    (DROPS | {"keep_one": 1}, "keep_one must be True or False, got 1"),
    ({"name": "noise", "modality": "audio"}, "'noise': the field 'snr_db' is missing"),
    ({"name": "noise", "modality": "audio", "snr_db": float("nan")}, "snr_db must be a number that "
                                                                      "is finite, got nan"),
    ({"name": "occlude", "modality": "audio", "size": 0}, "size must be an integer >= 1, got 0"),
    ({"name": "occlude", "modality": "audio", "size": 2.0}, "size must be an integer >= 1"),
    ({"name": "mixup", "alpha": 0.2}, "'mixup': only for training"),
    ({"modality": "text"}, r"eval_transforms\[0\] must be a section with a name"),
    ("noise", "must be a section with a name, got 'noise'"),
]  # fmt: skip


@pytest.mark.parametrize(("entry", "said"), WRONG)
def test_what_a_config_may_not_say(entry, said):
    with pytest.raises(InputError, match=said) as caught:
        build_transforms(DATA | {"eval_transforms": (entry,)}, "eval_transforms")
    assert "\n" not in str(caught.value)


def test_lists_that_are_none_or_mix_twice():
    with pytest.raises(InputError, match="eval_transforms must be a list of entries"):
        build_transforms(DATA | {"eval_transforms": "noise"}, "eval_transforms")
    with pytest.raises(InputError, match="has 'mixup' twice"):
        mix = {"name": "mixup", "alpha": 1.0}
        build_transforms(DATA | {"train_transforms": (mix, mix)}, "train_transforms")


SHAPES = [
    ("flip", {"modality": "audio"}, "'audio' is of kind 'frames'; allowed: picture"),
    ("noise", {"modality": "text", "snr_db": 0}, "'text' is of kind 'tokens'; allowed: picture,"),
    ("occlude", {"modality": "audio", "size": 5}, "size is 5, but 'audio' is 4"),
    ("spec_augment", {"modality": "audio", "time": 5}, "time is 5, but the number .* is 4"),
    ("spec_augment", {"modality": "audio", "frequency": 9}, "frequency is 9, but .* is 8"),
    ("crop", {"modality": "image", "pad": 6}, "pad is 6, but the smaller side of 'image' .* is 5"),
    ("cutout", {"modality": "image", "size": 7}, "size is 7, but the smaller side of 'image' is 6"),
    ("colour", {"modality": "image", "saturation": 0.1}, "saturation needs 3 channels, but"),
    ("mixup", {"alpha": 1.0}, "modality 'text' is of kind 'tokens'"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "fields", "said"), SHAPES)
def test_what_the_data_does_not_allow(name, fields, said):
    data = {
        "inputs": {
            "text": np.zeros((1, 8), np.int32),
            "audio": np.zeros((1, 4, 8), np.float32),
            "image": np.zeros((1, 6, 7, 1), np.float32),
        },
        "masks": {m: np.ones((1, n), bool) for m, n in (("text", 8), ("audio", 4), ("image", 1))},
        "label": np.zeros(1, np.int32),
    }
    transforms = (TRANSFORMS["swap"](modality="text", p=0.5), TRANSFORMS[name](**fields))
    with pytest.raises(InputError, match=rf"config.data.train_transforms\[1\] '{name}': .*{said}"):
        check_shapes(transforms, data, "train_transforms")


def test_transforms_are_part_of_what_an_ablation_is():
    config = tiny.config()
    before = resolve(config).identity()
    config.data.eval_transforms = (DROPS,)
    after = resolve(config).identity()
    assert after["data"] == before["data"] | {"eval_transforms": [DROPS]}
    config.data.train_transforms = (DROPS | {"modality": "image"},)
    with pytest.raises(InputError, match=r"train_transforms\[0\].*no modality 'image'"):
        resolve(config)
