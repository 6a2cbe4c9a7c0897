"""The tables of the generated task and its optima, against other derivations of both."""

import itertools
from collections import Counter, defaultdict

import numpy as np
import pytest
from scipy import stats

from mmfuse.data import helpdesk_factors as factors
from mmfuse.data.helpdesk import Helpdesk, HelpdeskConfig

PLACE = {name: 1 + axis for axis, name in enumerate(factors.MODALITIES)}
SUBSETS = [s for n in range(4) for s in itertools.combinations(sorted(PLACE), n)]


def channel(latent, values, hit):
    """[(shown, probability)] of a symmetric channel."""
    return [(v, hit if v == latent else (1 - hit) / (values - 1)) for v in range(values)]


def redundant():
    for queue in range(4):
        for topics in itertools.product(channel(queue, 4, 0.9), repeat=3):
            for flags in itertools.product((0, 1), repeat=3):
                p = np.prod([p for _, p in topics]) / 4 / 8
                yield p, queue, *(2 * t + f for (t, _), f in zip(topics, flags, strict=True))


def unique():
    for audio, image, text in itertools.product((0, 1), repeat=3):
        shown = [channel(bit, 2, 0.98) for bit in (audio, image, text)]
        for flags in itertools.product(*shown):
            for topics in itertools.product(range(4), repeat=3):
                p = np.prod([p for _, p in flags]) / 8 / 64
                y = 4 * text + 2 * image + audio
                yield p, y, *(2 * t + f for t, (f, _) in zip(topics, flags, strict=True))


def synergy():
    for codes in itertools.product(range(8), repeat=3):
        audio, image, text = (code >= 4 for code in codes)
        yield 1 / 512, 2 * (text != image) + (image != audio), *codes


def mixed():
    for queue, angry, cracked, again in itertools.product(range(4), (0, 1), (0, 1), (0, 1)):
        y = 2 * queue + int(bool(angry) or again != cracked)
        prior = (0.3 if angry else 0.7) * (0.4 if cracked else 0.6) * (0.4 if again else 0.6) / 4
        latents = [channel(flag, 2, 0.98) for flag in (angry, cracked, again)]
        for flags in itertools.product(*latents):
            for topics in itertools.product(channel(queue, 4, 0.9), repeat=3):
                shown = [(2 * t + f, p * q) for (t, p), (f, q) in zip(topics, flags, strict=True)]
                yield prior * np.prod([p for _, p in shown]), y, *(code for code, _ in shown)


def temporal():
    """Over the places of the cues; the picture is left out (code 0 stands for all eight)."""
    places = [set(c) for n in (3, 4, 5) for c in itertools.combinations(range(8), n)]
    weight = {3: 1 / 3 / 56, 4: 1 / 3 / 70, 5: 1 / 3 / 56}
    for audio, text in itertools.product(places, repeat=2):
        meet = len(audio & text)
        stated = 0 if meet <= 1 else min(meet, 3) - 1
        codes = sum(2**s for s in audio), 0, sum(2**s for s in text)
        for y, p in channel(stated, 3, 0.96):
            yield p * weight[len(audio)] * weight[len(text)], y, *codes


ENUMERATED = {f.__name__: f for f in (redundant, unique, synergy, mixed, temporal)}


def best(outcomes, seen):
    """Bayes accuracy of an observer who sees ``seen(outcome)``."""
    table = defaultdict(Counter)
    for p, y, *codes in outcomes:
        table[seen(codes)][y] += p
    return sum(max(row.values()) for row in table.values())


@pytest.fixture(scope="module")
def optima():
    return {variant: factors.optima(variant) for variant in factors.VARIANTS}


@pytest.mark.parametrize("variant", factors.VARIANTS)
def test_table_is_the_enumerated_distribution(variant):
    table = factors.joint(variant)
    assert table.sum() == pytest.approx(1, abs=1e-12)
    assert (table >= 0).all()
    if variant == "temporal":
        np.testing.assert_allclose(table[:, :, 0], table[:, :, 5])
        table = table.sum(2, keepdims=True)
    other = np.zeros(table.shape)
    for p, *cell in ENUMERATED[variant]():
        other[tuple(cell)] += p
    np.testing.assert_allclose(table, other, atol=1e-15)


@pytest.mark.parametrize("variant", factors.VARIANTS)
def test_optimum_of_every_subset_by_brute_force(variant, optima):
    outcomes = list(ENUMERATED[variant]())
    for subset in SUBSETS:
        expected = best(outcomes, lambda c, s=subset: tuple(c[PLACE[m] - 1] for m in s))
        assert optima[variant]["+".join(subset) or "chance"] == pytest.approx(expected, abs=1e-9)


def test_pooled_optimum_by_brute_force_and_by_the_hypergeometric_law(optima):
    outcomes = list(temporal())
    for subset in SUBSETS[1:]:
        seen = lambda c, s=subset: tuple(  # noqa: E731
            c[1] if m == "image" else c[PLACE[m] - 1].bit_count() for m in s
        )
        found = optima["temporal"]["+".join(subset) + " (pooled)"]
        assert found == pytest.approx(best(outcomes, seen), abs=1e-9)
    total = 0
    for n, m in itertools.product((3, 4, 5), repeat=2):
        meet = stats.hypergeom(8, n, m).pmf(np.arange(9))
        stated = np.array([meet[:2].sum(), meet[2], meet[3:].sum()])
        total += max(0.96 * stated + 0.02 * (1 - stated)) / 9
    assert optima["temporal"]["audio+text (pooled)"] == pytest.approx(total, abs=1e-9)
    assert optima["temporal"]["audio+image+text (pooled)"] == pytest.approx(total, abs=1e-9)


def test_optima_derived_by_hand(optima):
    def check(variant, **expected):
        for name, value in expected.items():
            assert optima[variant][name.replace("_", "+")] == pytest.approx(value, abs=1e-9), name

    # Two channels that disagree leave the first one's word; three outvote one, and tie in 24 ways.
    majority = 0.9**3 + 3 * 0.9**2 * 0.1 + 24 * 0.9 / 30**2 / 4
    check("redundant", chance=1 / 4, text=0.9, audio_image=0.9, audio_image_text=majority)
    check("unique", chance=1 / 8, image=0.98 / 4, audio_text=0.98**2 / 2)
    check("unique", audio_image_text=0.98**3)
    check("synergy", chance=1 / 4, audio=1 / 4, image=1 / 4, text=1 / 4)
    check("synergy", audio_image=1 / 2, audio_text=1 / 2, image_text=1 / 2, audio_image_text=1)
    check("temporal", audio_text=0.96, audio_image_text=0.96)
    one, zero = (0.4 * 0.02, 0.4 * 0.98), (0.6 * 0.98, 0.6 * 0.02)  # P(latent flag, shown = 0, 1)
    pair = triple = 0
    for s, t in itertools.product((0, 1), repeat=2):
        odd, even = one[s] * zero[t] + zero[s] * one[t], one[s] * one[t] + zero[s] * zero[t]
        pair += max(0.3 * (odd + even) + 0.7 * odd, 0.7 * even)
        for total, calm in ((0.3 * 0.98 + 0.7 * 0.02, 0.7 * 0.02), (0.692, 0.7 * 0.98)):
            triple += max(total * (odd + even) - calm * even, calm * even)
    urgent = 0.3 + 0.7 * 2 * 0.4 * 0.6
    heard = (0.3 * 0.98 + 0.7 * 0.02 * 0.48) + 0.7 * 0.98 * 0.52
    check("mixed", chance=urgent / 4, text=0.9 * urgent, image=0.9 * urgent, audio=0.9 * heard)
    check("mixed", image_text=0.9 * pair, audio_image_text=majority * triple)


def test_temporal_says_nothing_in_one_modality_beyond_its_counts(optima):
    temporal = optima["temporal"]
    assert temporal["image"] == pytest.approx(temporal["chance"])
    for name in ("audio", "text"):
        assert temporal[name] == pytest.approx(temporal[f"{name} (pooled)"])
    assert temporal["audio+text (pooled)"] < temporal["audio+text"] - 0.3


@pytest.mark.parametrize("variant", factors.VARIANTS)
def test_drawn_codes_follow_the_table(variant, tmp_path):
    config = HelpdeskConfig(variant=variant)
    drawn = Helpdesk(config=config, data_dir=str(tmp_path))._draw(100_000, np.random.default_rng(1))
    table = factors.joint(variant)
    if (
        variant == "temporal"
    ):  # too many cells: label, both numbers of cues, and how often they meet
        ones = np.array([p.bit_count() for p in range(256)])
        y, a, i, t = drawn.T
        drawn = np.stack([y, ones[a], ones[t], ones[a & t], i], axis=1)
        cells = np.zeros((3, 9, 9, 9, 8))
        a, t = np.mgrid[:256, :256]
        for y in range(3):
            np.add.at(cells[y], (ones[a], ones[t], ones[a & t]), table[y].transpose(0, 2, 1))
        table = cells
    counts = np.zeros(table.shape)
    np.add.at(counts, tuple(drawn.T), 1)
    assert counts[table == 0].sum() == 0
    likely = table * len(drawn) >= 5
    rest = [c[~likely].sum() for c in (counts, table * len(drawn))]
    observed = np.append(counts[likely], rest[0])
    expected = np.append(table[likely] * len(drawn), rest[1] or 1e-9)
    if rest[1] < 5:
        observed, expected = (
            observed[:-1],
            expected[:-1] * observed[:-1].sum() / expected[:-1].sum(),
        )
    assert stats.chisquare(observed, expected).pvalue > 1e-3
