"""The page of examples: what it shows is what the model reads, and nothing of the test split."""

import base64
import html.parser
import io
import re
import sys

import numpy as np
import pytest
import soundfile
from PIL import Image

from experiments import cli, inspect, inspect_views
from mmfuse import markup
from mmfuse.data.preprocess import build_preprocessor
from mmfuse.data.sound_input import Clip
from tests import tiny
from tests.inputs import FIELDS, raw

CONFIG = """
from tests import tiny

def get_config():
    config = tiny.config()
    config.data.preprocess.text.length = 4
    return config
"""


@pytest.fixture
def command(tmp_path, tmp_path_factory, monkeypatch, capsys):
    """Runs the command on the tiny config: (code, stdout, stderr)."""

    def run(*arguments):
        (tmp_path / "mine.py").write_text(CONFIG)
        given = [f"--config={tmp_path / 'mine.py'}", f"--into={tmp_path / 'page'}"]
        given += [f"--data_dir={tiny.data_dir(tmp_path_factory)}", *arguments]
        monkeypatch.setattr(sys, "argv", ["inspect", *given])
        with pytest.raises(SystemExit) as caught:
            cli.run_command(inspect.main)
        return caught.value.code, *capsys.readouterr()

    return run


class Balance(html.parser.HTMLParser):
    """Every element that is opened is closed in order."""

    def __init__(self):
        super().__init__()
        self.open = []

    def handle_starttag(self, tag, attrs):
        if tag not in ("img", "meta"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_the_page_shows_examples_steps_and_counts(command, tmp_path, tmp_path_factory):
    assert command("--split=valid", "--examples=3")[:2] == (0, f"{tmp_path}/page/valid.html\n")
    page = (tmp_path / "page" / "valid.html").read_text(encoding="utf-8")
    parser = Balance()
    parser.feed(page)
    assert parser.open == []
    assert page.count("<section>") == 3
    assert not re.search(r'(src|href)="(?!data:)', page), "the page needs no network"
    assert "http" not in page
    dataset = tiny.dataset(tmp_path_factory)
    labels = dataset.batch("valid", range(40))["label"]
    for label, count in zip(*np.unique(labels, return_counts=True), strict=True):
        row = f"<td>{label}</td><td>{count}</td><td>{100 * count / 40:.1f} %</td>"
        assert row in page
    assert "<td>audio</td><td>4.0</td><td>4.0</td><td>4.0</td><td>0.0 %</td>" in page
    assert page.count("<audio") == 3, "once where it is decoded; no later step changes it"
    assert "stop words" in page
    assert "mask: 4 of 4 steps real" in page


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--split=test"], "the test split is closed; allowed: train, valid"),
        (["--split=vaild"], "no such split.*did you mean 'valid'"),
        (["--examples=0"], "--examples must be at least 1, got 0"),
        (["--example=1"], "unknown flag '--example'; did you mean '--examples'"),
    ],
)
def test_refusals(command, tmp_path, arguments, said):
    code, out, err = command(*arguments)
    assert (code, out) == (2, "")
    assert re.search(said, err)
    assert not (tmp_path / "page").exists()


def test_what_people_write_is_never_markup():
    fitted = build_preprocessor("text", min_count=1, stop_words=False).fit(["script a"])
    message = "<script>alert('&')</script> a"
    shown = inspect._modality(fitted, message)
    assert "<script" not in shown
    assert "&lt;script&gt;alert(" in shown
    assert markup.tag("p", "<", title='"><script>') == (
        '<p title="&quot;&gt;&lt;script&gt;">&lt;</p>'
    )


def test_unknown_words_and_padding_are_marked():
    fitted = build_preprocessor("text", min_count=1, length=4).fit(["lamp broken"])
    shown = inspect._modality(fitted, "lamp zebra")
    assert '<span class="token known">lamp<small>3</small></span>' in shown
    assert '<span class="token unknown">zebra<small>1</small></span>' in shown
    assert shown.count('<span class="token padding"> <small>0</small></span>') == 2
    pairs = build_preprocessor("text", level="bpe", max_size=256, length=9).fit(["x"])
    shown = inspect._modality(pairs, "手b")  # three bytes, none of them a character, and a letter
    assert shown.count('<span class="token known">\ufffd') == 2 * 3
    assert shown.count('<span class="token known">b') == 2


@pytest.mark.parametrize(("kind", "fields"), FIELDS)
def test_every_kind_has_its_steps_and_its_absent_values_shown(kind, fields):
    fitted = build_preprocessor(kind, **fields).fit(raw(kind))
    for value in raw(kind)[:3]:
        shown = inspect._modality(fitted, value)
        assert all(f"<figcaption>{name}: " in shown for name, _, _ in fitted.steps(value))
        assert ("absent" in shown) == (len(value) == 0)


def decoded(view, kind):
    (found,) = re.findall(rf'data:{kind};base64,([^"]*)"', view)
    return io.BytesIO(base64.b64decode(found))


def test_sound_is_the_clip_and_pictures_are_their_pixels():
    clip = Clip(np.linspace(-1, 1, 500, dtype=np.float32), 4000)
    samples, rate = soundfile.read(decoded(inspect_views.sound(clip), "audio/wav"))
    assert rate == 4000
    np.testing.assert_allclose(samples, clip.samples, atol=1e-4)
    pixels = np.random.default_rng(0).integers(0, 256, (5, 7, 3), np.uint8)
    view = inspect_views.view(pixels, picture=True)
    np.testing.assert_array_equal(np.asarray(Image.open(decoded(view, "image/png"))), pixels)
    strip = np.asarray(
        Image.open(decoded(inspect_views.mask(np.array([True, False, False])), "image/png"))
    )
    assert strip.shape == (1, 3, 3)
    assert strip[0, 0].sum() < strip[0, 1].sum() == strip[0, 2].sum()


def test_heat_has_time_to_the_right_and_the_first_band_below():
    values = np.zeros((3, 2))
    values[2, 0] = 1
    colours = inspect_views.heat(values).astype(int).sum(-1)
    assert colours.shape == (2, 3)
    assert np.unravel_index(colours.argmax(), (2, 3)) == (1, 2)
    flat = inspect_views.heat(np.full((4, 1), np.float32(7)))  # no range to divide by
    np.testing.assert_array_equal(flat[0], [inspect_views.COLOURS[0]] * 4)
