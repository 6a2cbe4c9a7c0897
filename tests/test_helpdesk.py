"""The generated task: what its raw signals show can be read, and its files."""

import hashlib
from collections import Counter

import numpy as np
import pytest
import tensorflow_datasets as tfds

from configs import helpdesk as helpdesk_config
from configs import temporal as temporal_config
from mmfuse.data import helpdesk_factors as factors
from mmfuse.data import helpdesk_render as render
from mmfuse.data.helpdesk import Helpdesk, HelpdeskConfig
from mmfuse.data.preprocess import build_preprocessor
from mmfuse.errors import InputError

tfds.disable_progress_bar()
FIT, CHECK = 2000, 4200  # examples a probe is fitted on, and tried on
PLACE = {name: 1 + axis for axis, name in enumerate(factors.MODALITIES)}


class Probe:
    """Ridge regression on one-hot targets: the plainest linear reader."""

    def __init__(self, x, y, penalty=1.0):
        x = x.reshape(len(x), -1).astype(np.float64)
        self.mean, self.std = x.mean(0), x.std(0) + 1e-6
        x = self._scaled(x)
        target = np.eye(y.max() + 1)[y]
        self.weights = np.linalg.solve(x.T @ x + penalty * np.eye(x.shape[1]), x.T @ target)

    def _scaled(self, x):
        x = (x.reshape(len(x), -1) - self.mean) / self.std
        return np.concatenate([x, np.ones((len(x), 1))], axis=1)

    def __call__(self, x):
        return (self._scaled(x) @ self.weights).argmax(1)


def readable(x, y):
    """Fits a probe on the first examples; more than 99.9 % of the others must be read right."""
    probe = Probe(x[:FIT], y[:FIT])
    wrong = np.sum(probe(x[FIT:]) != y[FIT:])
    assert len(y) - FIT >= 4000
    assert wrong < 0.001 * (len(y) - FIT), f"{wrong} of {len(y) - FIT} misread"
    return probe


def preprocessed(config, name, raw):
    """The shipped preprocessing of a modality, fitted on the first part."""
    fields = config.data.preprocess[name].to_dict()
    return build_preprocessor(fields.pop("name"), **fields).fit(raw[:FIT])


def bags(ids, size):
    counts = np.zeros((len(ids), size))
    np.add.at(counts, (np.arange(len(ids))[:, None], ids), 1)
    return counts


@pytest.fixture(scope="module")
def readers():
    """Rendered requests of random codes, and for each modality the probes of topic and flag."""
    rng = np.random.default_rng(3)
    topic, flag = rng.integers(4, size=FIT + CHECK), rng.integers(2, size=FIT + CHECK)
    draw = {"text": render.message, "image": render.picture, "audio": render.tone}
    config, found = helpdesk_config.get_config(), {}
    for name, function in draw.items():
        raw = [function(t, f, rng) for t, f in zip(topic, flag, strict=True)]
        fitted = preprocessed(config, name, raw)
        x, mask = fitted(raw)
        found[name] = fitted, bags(x, fitted.vocab_size) if name == "text" else x, mask
    return topic, flag, found


@pytest.mark.parametrize("name", ["text", "image", "audio"])
def test_topic_and_flag_can_be_read_from_the_raw_signal(name, readers):
    topic, flag, found = readers
    _, x, mask = found[name]
    assert mask.any(1).all()
    readable(x, topic)
    readable(x, flag)


def test_cues_can_be_read_from_their_own_time_step():
    rng = np.random.default_rng(4)
    codes = rng.integers(2**factors.STEPS, size=FIT + CHECK)
    config = temporal_config.get_config()
    messages = [render.cue_message(code, rng) for code in codes]
    fitted = preprocessed(config, "text", messages)
    words = [dict(step[:2] for step in fitted.steps(message))["stop words"] for message in messages]
    lengths = Counter(map(len, words))
    assert lengths == {factors.STEPS: len(codes)}, "each cue is one word, in both languages"
    assert {word.isascii() for word in fitted.vocabulary.words} == {True, False}
    ids, mask = fitted(messages)
    assert mask.all()
    tones = [render.cue_tone(code, rng) for code in codes]
    frames, _ = preprocessed(config, "audio", tones)(tones)
    group = config.encoders.audio.group
    assert frames.shape[1] == factors.STEPS * group, "a token is one step"
    for step in range(factors.STEPS):
        cue = codes >> step & 1
        readable(np.eye(fitted.vocab_size)[ids[:, step]], cue)
        readable(frames[:, step * group : (step + 1) * group], cue)


def prepare(data_dir, **fields) -> Helpdesk:
    sizes = {"n_train": 150, "n_valid": 40, "n_test": 30}
    builder = Helpdesk(
        config=HelpdeskConfig(**sizes | fields), data_dir=str(data_dir), file_format="array_record"
    )
    builder.download_and_prepare()
    return builder


def files(builder):
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in builder.data_path.iterdir()
    }


def test_prepared_signals_show_their_codes(readers, tmp_path):
    """Each column holds the signal of its own code; guards against swapped modalities."""
    topic, flag, found = readers
    builder = prepare(tmp_path)
    rows = list(builder.as_data_source("train"))
    codes = np.stack([row["codes"] for row in rows])
    assert len(rows) == 150
    assert len({row["id"] for row in rows}) == 150
    for name, (fitted, x, _) in found.items():
        seen, _ = fitted([row[name] for row in rows])
        seen = bags(seen, fitted.vocab_size) if name == "text" else seen
        code = codes[:, PLACE[name] - 1]
        np.testing.assert_array_equal(Probe(x[:FIT], topic[:FIT])(seen), code // 2)
        np.testing.assert_array_equal(Probe(x[:FIT], flag[:FIT])(seen), code % 2)
    table = factors.joint("mixed")
    assert all(table[row["label"], *row["codes"]] > 0 for row in rows)
    card = builder.info.metadata
    assert card["optima"] == pytest.approx(factors.optima("mixed"))
    assert card["splits"] == {"train": 150, "valid": 40, "test": 30}
    assert (card["classes"], card["modalities"]) == (8, ["audio", "image", "text"])


def test_same_seed_same_bytes_and_another_seed_other_ones(tmp_path):
    once, again = prepare(tmp_path / "a"), prepare(tmp_path / "b")
    assert files(once) == files(again)
    other = prepare(tmp_path / "a", seed=1)
    assert other.data_path != once.data_path
    records = [
        {h for name, h in files(builder).items() if "array_record" in name}
        for builder in (once, other)
    ]
    assert not records[0] & records[1]
    splits = []
    for name in ("train", "valid", "test"):
        rows = sorted(once.as_data_source(name), key=lambda row: row["id"])
        splits.append([(row["label"], *row["codes"]) for row in rows[:30]])
    assert len({tuple(codes) for codes in splits}) == 3, "splits are drawn apart"


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [("variant", "mixd", "did you mean 'mixed'"), ("n_test", 0, "n_test must be at least 1")],
)
def test_bad_fields_are_named(field, value, said):
    with pytest.raises(InputError, match=said):
        HelpdeskConfig(**{field: value})
