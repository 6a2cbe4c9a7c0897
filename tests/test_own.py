"""A config on one's own files: columns by name, by kind, and the rows that stand for columns."""

import re

import pytest
from ml_collections import ConfigDict

from configs import manifest, quickstart
from mmfuse.ablation import add_defaults, resolve
from mmfuse.config import apply_override
from mmfuse.data.preprocess import PREPROCESSORS
from mmfuse.errors import InputError, ReportError
from mmfuse.own import READS
from tests import own_manifest


@pytest.fixture
def path(tmp_path):
    """Rows of text only, in the columns that the generated task has, and without its files."""
    return write(tmp_path, "note", "text")


def write(folder, *columns, name="my.csv"):
    cells = {"image": "{}.png", "audio": "{}.wav"}
    rows = [
        {"id": f"{n}", "split": split, "label": label}
        | {c: cells.get(c, c + " {}").format(n) for c in columns}
        for n, (split, label) in enumerate(
            (split, label) for split in ("train", "valid", "test") for label in ("a", "b")
        )
    ]
    return own_manifest.write_csv(folder / name, rows)


def on(config, path, **data):
    add_defaults(config)
    config.data.update(manifest=str(path), **data)
    return config


def test_what_kinds_settle(path):
    ablation = resolve(on(manifest.get_config(), path, allow="rare"))
    assert ablation.data == {
        "name": "manifest",
        "builder": {"path": str(path), "allow": "rare"},
        "preprocess": {name: manifest.kinds()["text"]["preprocess"] for name in ("note", "text")},
        "resident_bytes": 2**31,
        "train_transforms": [],
        "eval_transforms": [],
    }
    assert [row.name for row in ablation.rows[:3]] == ["note only", "text only", "late average"]
    assert ablation.rows[1].fusion == {"name": "unimodal", "modality": "text", "features": 32}
    assert all(set(row.encoders) == {"note", "text"} for row in ablation.rows)
    assert ablation.rows[0].encoders["note"]["name"] == "text_lstm"


def test_every_kind_has_its_own_encoder(tmp_path):
    (tmp_path / "my.csv").write_text(
        "id,split,label,a,b,c,d,e\n0,train,x,words,b.txt,c.png,d.wav,e.npy\n"
    )
    ablation = resolve(on(manifest.get_config(), tmp_path / "my.csv"))
    found = [fields["name"] for fields in ablation.rows[0].encoders.values()]
    assert found == ["text_lstm", "text_lstm", "image_cnn", "audio_lstm", "mlp"]
    found = [fields["name"] for fields in ablation.data["preprocess"].values()]
    assert found == ["text", "text", "picture", "log_mel", "features"]


def test_an_entry_of_a_columns_name_comes_before_its_kind(path):
    config = manifest.get_config()
    config.encoders = ConfigDict({"note": {"name": "text_local", "features": 8}})
    encoders = resolve(on(config, path)).rows[0].encoders
    assert [encoders[name]["name"] for name in ("note", "text")] == ["text_local", "text_lstm"]


def test_a_config_of_another_dataset_that_fits(tmp_path):
    path = write(tmp_path, "text", "image", "audio")
    ablation = resolve(on(quickstart.get_config(), path))
    assert (ablation.data["name"], set(ablation.data["builder"])) == ("manifest", {"path", "allow"})
    assert [row.name for row in ablation.rows[:2]] == ["text only", "image only"]
    assert ablation.data["preprocess"]["image"] == {"name": "picture", "size": 16}


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        (
            ("text", "image", "adio"),
            r"config.data.preprocess.audio: manifest .* has no such column; did you mean 'adio'\?; "
            "there are: adio, image, text",
        ),
        (
            ("text", "image", "audio", "mood"),
            r"the config says nothing of column 'mood' \(text\).*configs/manifest.py takes any",
        ),
        (
            ("text", "audio"),
            r"config.data.preprocess.image: manifest .* has no such column; there are: audio, text",
        ),
    ],
)
def test_a_config_that_does_not_fit(columns, said, tmp_path):
    with pytest.raises(InputError, match=said):
        resolve(on(quickstart.get_config(), write(tmp_path, *columns)))


def test_a_preprocessor_of_another_kind(path):
    config = manifest.get_config()
    config.data.preprocess = ConfigDict({"note": {"name": "picture", "size": 8}})
    with pytest.raises(InputError, match=r"'note' of .* holds text, but .* 'picture' reads pict"):
        resolve(on(config, path))
    assert set(READS) >= set(PREPROCESSORS)


def test_a_kind_takes_new_fields_from_the_command_line(path):
    config = on(manifest.get_config(), path)
    apply_override(config, "kinds.text.preprocess.stop_words", "False")
    apply_override(config, "kinds.text.encoder.embed", "8")
    ablation = resolve(config)
    assert ablation.data["preprocess"]["note"]["stop_words"] is False
    assert ablation.rows[0].encoders["note"]["embed"] == 8


def test_refused(path, tmp_path):
    with pytest.raises(InputError, match=r"config.data.manifest is missing"):
        resolve(manifest.get_config())
    with pytest.raises(InputError, match=r"no manifest '.*mi.csv'; did you mean '.*my.csv'"):
        resolve(on(manifest.get_config(), tmp_path / "mi.csv"))
    config = on(manifest.get_config(), path)
    config.kinds.txet = config.kinds.text
    with pytest.raises(InputError, match=r"unknown kind 'txet' in config.kinds.*'text'"):
        resolve(config)
    config = on(manifest.get_config(), path)
    del config.kinds.text.encoder
    with pytest.raises(InputError, match=r"config.kinds.text must have the keys preprocess and en"):
        resolve(config)
    config = quickstart.get_config()
    add_defaults(config)
    config.data.allow = "outside"
    with pytest.raises(InputError, match=r"config.data.allow is about a manifest"):
        resolve(config)


def test_a_manifest_without_modalities_is_reported_whole(tmp_path):
    (tmp_path / "my.csv").write_text("id,split,label\na,trian,x\n")
    with pytest.raises(ReportError) as caught:
        resolve(on(manifest.get_config(), tmp_path / "my.csv"))
    assert any(re.search("no column holds a modality", line) for line in caught.value.lines)
    assert any(re.search("unknown split 'trian'", line) for line in caught.value.lines)


def test_nothing_of_a_manifest_is_in_the_identity_of_other_ablations():
    config = quickstart.get_config()
    before = resolve(config).identity()
    add_defaults(config)
    assert resolve(config).identity() == before
    assert not {"manifest", "allow"} & set(before["data"])


def test_smoke_and_regression():
    assert manifest.get_config("smoke").train.epochs == 1
    config = manifest.get_config("regression")
    assert (config.metric, config.train.select) == ("mae", "mae")
