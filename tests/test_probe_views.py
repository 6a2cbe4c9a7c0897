"""Weights of tokens, drawn on what they stand for."""

import base64
import io

import numpy as np
from PIL import Image

from experiments.probe_views import AGAINST, FOR, SIDE, View, _grid
from mmfuse.data.preprocess import Picture, Text


def opened(piece):
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(piece["png"]))).convert("RGB"), int)


def test_words_keep_their_weights_and_padding_has_none():
    text = Text(length=5, min_count=1, stop_words=False).fit(["my parcel is late", "late again"])
    x, mask = text(["late parcel again"])
    found = View(text, "late parcel again", x[0], mask[0]).draw(np.array([[0.1], [0.7], [0.2], [0], [0]]))  # noqa: E501  # fmt: skip
    assert found == {
        "kind": "words", "words": ["late", "parcel", "again"], "weights": [0.1, 0.7, 0.2],
    }  # fmt: skip


def test_patches_lie_where_they_are_in_the_picture():
    """Four patches, row by row: the one above right is red, the one below left blue."""
    x = np.zeros((16, 16, 1), np.float32)
    found = View(None, None, x, np.ones(1, bool)).draw(np.array([[0, 1.0, -1.0, 0]]))
    pixels = opened(found)
    assert (found["kind"], found["width"], found["height"]) == ("picture", SIDE, SIDE)
    near, far = SIDE // 4, 3 * SIDE // 4
    red, blue = pixels[near, far], pixels[far, near]
    assert red[0] > red[2] + 50 and blue[2] > blue[0] + 50
    assert (pixels[near, near] == pixels[far, far]).all()
    assert found["weights"] == [[0, 1, -1, 0]]
    assert FOR != AGAINST


def test_a_picture_is_drawn_as_it_was_cut_and_before_it_was_made_small():
    raw = np.zeros((40, 80, 3), np.uint8)
    raw[:, 20:40], raw[:, 60:] = 255, 255  # the central square is white on its left half
    picture = Picture(size=4, crop="centre").fit([raw])
    x, mask = picture([raw])
    found = View(picture, raw, x[0], mask[0]).draw(np.zeros((1, 4)))
    pixels = opened(found)
    assert (found["width"], found["height"]) == (SIDE, SIDE)
    assert pixels[:, : SIDE // 2 - 2].min() == 255 and pixels[:, SIDE // 2 + 2 :].max() == 0


def test_a_grid_has_the_proportion_of_the_picture():
    assert _grid(np.arange(8)[None], (10, 20)).shape == (2, 4)
    assert _grid(np.arange(8)[None], (40, 20)).shape == (4, 2)
    assert _grid(np.arange(9)[None], (7, 7)).tolist() == [[0, 1, 2], [3, 4, 5], [6, 7, 8]]


def test_time_runs_to_the_right_and_low_bands_are_below():
    x = np.zeros((20, 8), np.float32)
    weights = np.zeros((5, 2))
    weights[4, 0] = 1  # the last step, the lower half of the bands
    found = View(None, None, x, np.ones(20, bool)).draw(weights)
    pixels = opened(found)
    assert found["kind"] == "spectrogram"
    height, width = pixels.shape[:2]
    assert (width, height) == (SIDE, round(SIDE * 8 / 20))
    tint = pixels[..., 0] - pixels[..., 2]
    assert tint[-3, -3] > 50 and tint[2, -3] < 20 and tint[-3, 2] < 20
    assert found["alt"].startswith("5 steps of 2 places; largest step 5 place 1: 1")


def test_nothing_to_see_is_no_division_by_zero():
    found = View(None, None, np.ones((4, 4, 3), np.float32), np.ones(1, bool)).draw(np.zeros((1, 4)))  # noqa: E501  # fmt: skip
    assert opened(found).std() == 0
    vector = View(None, None, np.ones(7, np.float32), np.ones(1, bool)).draw(np.array([[0.5]]))
    assert vector == {"kind": "vector", "weights": [[0.5]],
                      "alt": "1 steps of 1 places; largest step 1 place 1: 0.5"}  # fmt: skip
