"""The helpdesk task as probability tables: what each modality shows, and the best reachable score.

Every request is drawn from an exact joint table ``P[y, text, image, audio]`` over the label and the
*code* each modality shows. The generator (``helpdesk.py``) samples codes from this very table and
renders them as a message, a picture and a waveform, so the Bayes accuracy computed here by
enumeration is the optimum of the generated data (rendering is readable without error).

Codes. In all variants but ``temporal`` a modality shows a *topic* (4 values) and a *flag* (2
values), code = 2 * topic + flag:

=========  =======================================  ================================
modality   topic                                    flag
=========  =======================================  ================================
text       queue named: billing, delivery,          first contact / repeated contact
           repair, account
image      product: phone, parcel, lamp, key        intact / cracked
audio      pitch: low, high, rising, falling        calm / angry (harsh timbre)
=========  =======================================  ================================

In ``temporal`` text and audio show 8 time steps with or without a cue (code = bit pattern).
"""

from __future__ import annotations

from itertools import combinations

import numpy as np
from scipy.optimize import minimize
from scipy.special import logsumexp

MODALITIES = ("audio", "image", "text")  # the axes of every table after the label, in this order
STEPS = 8
TOPIC_HIT = 0.9  # a modality names the true queue with this probability, else another at random
FLAG_HIT = 0.98  # a flag shows its latent value with this probability
ANGRY, REPEATED, CRACKED = 0.3, 0.4, 0.4  # P of the latent flags of `mixed`
LABEL_HIT = 0.96  # `temporal`: the label is the stated one with this probability

_TOPIC = np.arange(8) // 2
_FLAG = np.arange(8) % 2


def _flip(latent: np.ndarray, shown: np.ndarray, hit: float, values: int) -> np.ndarray:
    """P(shown | latent) of a symmetric channel over ``values`` symbols."""
    return np.where(latent == shown, hit, (1 - hit) / (values - 1))


def _redundant() -> np.ndarray:
    """Y = the queue (4); each modality's topic shows it through its own channel, flags do not."""
    channel = _flip(np.arange(4)[:, None], _TOPIC[None], TOPIC_HIT, 4) / 2
    return np.einsum("ya,yi,yt->yait", channel, channel, channel) / 4


def _unique() -> np.ndarray:
    """y = 4 * text flag + 2 * image flag + audio flag; each is shown by one modality only."""
    bits = np.arange(2)[:, None]
    channel = _flip(bits, _FLAG[None], FLAG_HIT, 2) / 4
    table = np.einsum("Aa,Ii,Tt->TIAait", channel, channel, channel) / 8
    return table.reshape(8, 8, 8, 8)


def _synergy() -> np.ndarray:
    """y = 2 * (b_text xor b_image) + (b_image xor b_audio); b_m says whether m's topic is 2 or 3.

    Any one modality leaves y uniform; two leave one bit uniform.
    """
    table = np.zeros((4, 8, 8, 8))
    half = _TOPIC // 2
    for a, i, t in np.ndindex(8, 8, 8):
        table[2 * (half[t] ^ half[i]) + (half[i] ^ half[a]), a, i, t] = 1 / 8**3
    return table


def _mixed() -> np.ndarray:
    """y = 2 * queue + priority; priority = angry or (repeated contact xor cracked product).

    The queue is redundant (all three topics show it), anger is unique to the audio, and the rest of
    the priority is a synergy of text and image.
    """
    topic = _flip(np.arange(4)[:, None], _TOPIC[None], TOPIC_HIT, 4)
    flag = _flip(np.arange(2)[:, None], _FLAG[None], FLAG_HIT, 2)
    channel = topic[:, None] * flag[None]  # [queue, latent flag, code]
    table = np.zeros((8, 8, 8, 8))
    for queue, angry, cracked, again in np.ndindex(4, 2, 2, 2):
        priority = angry | (again ^ cracked)
        shown = np.einsum(
            "a,i,t->ait", channel[queue, angry], channel[queue, cracked], channel[queue, again]
        )
        prior = (ANGRY, REPEATED, CRACKED)
        chance = [
            p if flag else 1 - p for p, flag in zip(prior, (angry, again, cracked), strict=True)
        ]
        table[2 * queue + priority] += shown / 4 * np.prod(chance)
    return table


def _temporal() -> np.ndarray:
    """y = 0, 1, 2 as cues of text and audio fall on the same step at most once, twice, more often.

    The numbers of cues are drawn uniformly from 3, 4, 5, then their positions; with probability
    1 - LABEL_HIT the label is one of the other two. The picture says nothing.
    """
    patterns = np.arange(2**STEPS)
    ones = np.array([int(p).bit_count() for p in patterns])
    prior = np.zeros(2**STEPS)
    for count in (3, 4, 5):
        prior[ones == count] = 1 / 3 / np.sum(ones == count)
    shared = ones[patterns[:, None] & patterns[None]]
    stated = np.clip(shared - 1, 0, 2)
    label = _flip(stated[None], np.arange(3)[:, None, None], LABEL_HIT, 3)
    table = label * (prior[:, None] * prior[None])[None]
    return np.broadcast_to(table[:, :, None] / 8, (3, 2**STEPS, 8, 2**STEPS))


VARIANTS = {
    "redundant": _redundant,
    "unique": _unique,
    "synergy": _synergy,
    "temporal": _temporal,
    "mixed": _mixed,
}


def joint(variant: str) -> np.ndarray:
    """The exact table P[y, audio code, image code, text code] of a variant, float64, sum 1."""
    return VARIANTS[variant]()


def bayes_accuracy(table: np.ndarray, subset: tuple[str, ...]) -> float:
    """Best reachable accuracy from ``subset``: sum over its codes of max_y P(y, codes)."""
    hidden = tuple(1 + axis for axis, name in enumerate(MODALITIES) if name not in subset)
    return float(table.sum(axis=hidden).max(axis=0).sum())


def pooled(table: np.ndarray) -> np.ndarray:
    """The table of `temporal` when text and audio are known only by their number of cues."""
    counts = np.array(
        [[int(p).bit_count() == n for p in range(2**STEPS)] for n in range(STEPS + 1)]
    )
    return np.einsum("yait,na,mt->ynim", table, counts, counts, optimize=True)


def additive_accuracy(table: np.ndarray) -> float:
    """Accuracy of the additive model ``softmax(g_audio + g_image + g_text)`` at its optimum.

    The g are free tables over the codes, and the optimum is that of the cross-entropy, a convex
    problem: it is where a method lands that averages decisions or features and is trained with that
    loss. It is the Bayes accuracy where the modalities are independent given the label, and chance
    for a parity. Ties of the scores count by their share.
    """
    classes, *codes = table.shape
    ends = np.cumsum([classes * size for size in codes])

    def scores(flat: np.ndarray) -> np.ndarray:
        parts = np.split(flat, ends[:-1])
        audio, image, text = (g.reshape(classes, -1) for g in parts)
        return audio[:, :, None, None] + image[:, None, :, None] + text[:, None, None, :]

    def loss(flat: np.ndarray) -> tuple[float, np.ndarray]:
        log = scores(flat)
        log = log - logsumexp(log, axis=0)
        slope = np.exp(log) * table.sum(axis=0) - table
        slopes = [slope.sum(axis=axes).ravel() for axes in ((2, 3), (1, 3), (1, 2))]
        return -float((table * log).sum()), np.concatenate(slopes)

    best = minimize(loss, np.zeros(ends[-1]), jac=True, method="L-BFGS-B",
                    options={"maxiter": 5000, "ftol": 1e-14, "gtol": 1e-9})  # fmt: skip
    found = scores(best.x)
    top = found >= found.max(axis=0) - 1e-3
    return float((table * top / top.sum(axis=0)).sum())


def optima(variant: str) -> dict[str, float]:
    """Bayes accuracy of every subset of modalities, and of pooled methods for ``temporal``.

    Keys are names joined by ``+`` in alphabetical order, ``chance`` for none, and the suffix
    `` (pooled)`` where only counts over time are kept.
    """
    table = joint(variant)
    scores = bayes_accuracies(table)
    if variant == "temporal":
        scores |= {f"{k} (pooled)": v for k, v in bayes_accuracies(pooled(table)).items()}
        del scores["chance (pooled)"]
    return scores


def bayes_accuracies(table: np.ndarray) -> dict[str, float]:
    """Bayes accuracy of every subset of modalities, and of none as ``chance``."""
    subsets = [s for n in range(1, len(MODALITIES) + 1) for s in combinations(MODALITIES, n)]
    scores = {"chance": bayes_accuracy(table, ())}
    return scores | {"+".join(s): bayes_accuracy(table, s) for s in subsets}
