"""Points and their scores: a product of two modalities, and one that nobody reads."""

import numpy as np
import pytest

from mmfuse.parallel import Devices
from mmfuse.probing.points import (
    CLEAN,
    SHARES,
    SNRS,
    Point,
    missing_points,
    modality_points,
    noise_points,
)
from mmfuse.probing.scores import Changes, scores
from mmfuse.transforms.missing import DropModality
from mmfuse.transforms.noise import Noise
from tests import probed


@pytest.fixture(scope="module")
def devices():
    return Devices("jit", 1)


@pytest.fixture(scope="module")
def found(devices):
    """{point: accuracy of each seed}, and how many programs that took."""
    row = probed.finished(probed.Product(), {"scale": 1.0}, ("a", "b"))
    points = [CLEAN, *modality_points("abc"), Point("noise", ("a",), 60.0)]
    points += [Point("modality", ("a",), p) for p in SHARES[1:]]
    before = devices.compilations
    changes = Changes(devices, ())
    lanes = scores(row, points, probed.product_data(), changes, devices)
    accuracy = {p: [m["accuracy"] for m in of] for p, of in zip(points, lanes, strict=True)}
    return accuracy, devices.compilations - before


def label():
    return np.concatenate([b["label"][b["weight"] > 0] for b in probed.product_data()])


def test_a_synergy_without_one_of_its_modalities_is_chance(found):
    accuracy, _ = found
    chance = np.mean(label() == 0)  # the logits are equal, and the first class wins
    assert accuracy[CLEAN] == [1, 1]
    for change in ("removed", "zeroed"):
        for some in (("a",), ("b",), ("a", "b"), ("a", "c")):
            assert accuracy[Point(change, some)] == pytest.approx([chance] * 2)
    assert 0.2 < accuracy[Point("shuffled", ("a",))][0] < 0.8


def test_a_modality_that_is_ignored_makes_no_difference_at_all(found):
    accuracy, _ = found
    for change in ("removed", "zeroed", "shuffled"):
        assert accuracy[Point(change, ("c",))] == accuracy[CLEAN]


def test_strengths_share_a_program_and_a_curve_ends_where_the_modality_is_removed(found):
    accuracy, programs = found
    curve = [accuracy[Point("modality", ("a",), p)][0] for p in SHARES[1:]]
    assert curve[-1] == accuracy[Point("removed", ("a",))][0]
    assert 1 > curve[0] > curve[-1]
    assert accuracy[Point("noise", ("a",), 60.0)] == [1, 1]
    # removed, zeroed, shuffled of three and of three pairs, noise of one, and the row itself
    assert programs == 3 * 6 + 1 + 1


def test_each_pair_only_where_there_are_three_modalities():
    assert [p.modalities for p in modality_points("ba") if p.change == "zeroed"] == [("a",), ("b",)]
    pairs = [p.modalities for p in modality_points("abc") if p.change == "shuffled"]
    assert pairs == [("a",), ("b",), ("c",), ("a", "b"), ("a", "c"), ("b", "c")]


def test_noise_is_for_numbers_and_steps_for_what_has_some():
    example = {
        "inputs": {"text": np.zeros(4, np.int32), "voice": np.zeros((5, 3)), "look": np.zeros(7)},
        "masks": {m: np.ones(n, bool) for m, n in (("text", 4), ("voice", 5), ("look", 1))},
    }
    noise = noise_points(example)
    assert [p.strength for p in noise if p.modalities == ("voice",)] == list(SNRS)
    assert {p.modalities[0] for p in noise} == {"voice", "look"}
    missing = missing_points(example)
    assert {p.modalities[0] for p in missing if p.change == "steps"} == {"text", "voice"}
    assert {p.modalities[0] for p in missing if p.change == "modality"} == {"text", "voice", "look"}
    assert 0.0 not in {p.strength for p in missing}


def test_a_change_is_what_the_config_would_do_to_an_evaluation(devices):
    """The draws are those of ``eval_transforms``, and the noise up to the rounding of its level."""
    batch = probed.product_data()[1]
    plain = Changes(devices, ())
    for point, transform in (
        (Point("modality", ("a",), 0.5), DropModality("a", 0.5)),
        (Point("noise", ("a",), 3.0), Noise("a", 3.0)),
    ):
        wanted = Changes(devices, (transform,))(CLEAN, batch)
        found = plain(point, batch)
        np.testing.assert_allclose(found["inputs"]["a"], wanted["inputs"]["a"], rtol=1e-6)
        np.testing.assert_array_equal(found["masks"]["a"], wanted["masks"]["a"])
        assert (np.asarray(found["inputs"]["a"]) != batch["inputs"]["a"]).any()
    assert plain(CLEAN, batch) is batch
