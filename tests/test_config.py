"""Config files and overrides: every mistake is one line that helps."""

import pytest
from ml_collections import ConfigDict

from mmfuse.config import apply_override, load_config
from mmfuse.errors import InputError
from tests import tiny


def write(folder, text, name="mine.py"):
    path = folder / name
    path.write_text(text)
    return str(path)


def refused(match, spec):
    with pytest.raises(InputError, match=match) as caught:
        load_config(spec)
    assert "\n" not in str(caught.value)


def test_a_file_and_its_argument(tmp_path):
    text = """
from ml_collections import ConfigDict
def get_config(size="small"):
    return ConfigDict({"size": size})
"""
    path = write(tmp_path, text)
    assert load_config(path).size == "small"
    assert load_config(f"{path}:large").size == "large"


def test_a_missing_file_names_the_closest_and_lists_the_folder(tmp_path):
    write(tmp_path, "", "quickstart.py")
    write(tmp_path, "", "avmnist.py")
    write(tmp_path, "", "__init__.py")
    refused(
        "no config file '.*quikstart.py'; did you mean '.*quickstart.py'",
        f"{tmp_path}/quikstart.py",
    )
    refused("there are: .*avmnist.py, .*quickstart.py$", f"{tmp_path}/zzzz.py")
    refused("no config file '/nowhere/x.py'.*configs/quickstart.py", "/nowhere/x.py")
    refused("no config file ''", "")
    refused("no config file", str(tmp_path))  # a folder
    refused("must be Python and end in .py", write(tmp_path, "", "notes.txt"))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("x = 1", "has no get_config"),
        ("def get_config():\n    return {}", "must return a ConfigDict"),
        ("def get_config():\n    y = 1\n    return 1 / 0", "mine.py:3: ZeroDivisionError"),
        ("import nothing_like_this", "mine.py:1: ModuleNotFoundError: No module named"),
        ("def get_config(:\n    pass", "mine.py:1: SyntaxError"),
        ("x = (\n", "mine.py:1: SyntaxError"),
        ("def get_config():\n    raise KeyError('two\\nlines')", "mine.py:2: KeyError"),
        ("import sys\nsys.exit(0)", "mine.py:2: SystemExit"),
    ],
)
def test_a_faulty_file_is_named_with_its_line(text, said, tmp_path):
    refused(said, write(tmp_path, text))


def test_an_argument_that_is_not_taken(tmp_path):
    text = "from ml_collections import ConfigDict\ndef get_config():\n    return ConfigDict()"
    refused("takes no argument, but got ':full'", write(tmp_path, text) + ":full")


def test_an_error_deeper_than_the_file_is_traced_to_the_file(tmp_path):
    text = "import json\ndef get_config():\n    return json.loads('{')"
    refused("mine.py:3: JSONDecodeError", write(tmp_path, text))


@pytest.fixture
def config():
    base = tiny.config()
    base.train.patience = 0
    base.train.schedule = "cosine"
    base.flag = False
    base.objectives = {"contrastive": {}}
    return base


@pytest.mark.parametrize(
    ("path", "text", "value"),
    [
        ("train.epochs", "7", 7),
        ("train.lr", "1e-3", 1e-3),
        ("train.lr", "1", 1.0),
        ("train.schedule", "constant", "constant"),
        ("train.schedule", "5", "5"),  # text stays text
        ("seeds", "(3,4)", (3, 4)),
        ("seeds", "3,4", (3, 4)),
        ("seeds", "5", (5,)),
        ("flag", "true", True),
        ("flag", "False", False),
        ("name", "my table", "my table"),
        ("encoders.text.embed", "32", 32),
        ("encoders.audio.group", "5", 5),  # a field that the config leaves at its default
        ("rows.concat.fusion.hidden", "9", 9),
        ("objectives.contrastive.temperature", "0.3", 0.3),
        ("rows.text only.fusion.dropout", "0.5", 0.5),
        ("data.builder.seed", "1", 1),
        ("data.preprocess.text.stop_words", "False", False),
    ],
)
def test_an_override_keeps_the_type(config, path, text, value):
    apply_override(config, path, text)
    found = config
    for key in path.split("."):
        found = found[key]
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("path", "text", "said"),
    [
        ("lrr", "1e-3", "unknown key 'lrr' in config; did you mean 'train.lr'"),
        ("train.lrr", "1", "unknown key 'lrr' in config.train; did you mean 'lr'"),
        ("trian.lr", "1", "unknown key 'trian' in config; did you mean 'train'"),
        ("zzzzzz", "1", "unknown key 'zzzzzz' in config; there are: .*, train"),
        ("train", "3", "config.train is a section; set one of its keys: .*batch"),
        ("train.lr.x", "3", "'config.train.lr' is a value, not a section; it has no key 'x'"),
        ("train.lr.x.y", "3", "'config.train.lr' is a value, not a section"),
        ("train.epochs", "1.5", "config.train.epochs: expected int, got '1.5'"),
        ("train.epochs", "abc", "config.train.epochs: expected int, got 'abc'"),
        ("train.epochs", "", "config.train.epochs: expected int, got ''"),
        ("train.epochs", "True", "expected int, got 'True'"),
        ("train.lr", "fast", "config.train.lr: expected float, got 'fast'"),
        ("train.lr", "(1,)", "config.train.lr: expected float"),
        ("seeds", "abc", "config.seeds: expected a list such as"),
        ("seeds", "", "config.seeds: expected a list"),
        ("flag", "2", "config.flag: expected bool, got '2'"),
        ("rows.concta.fusion.hidden", "2", "unknown key 'concta' in config.rows; did you mean"),
        ("", "1", "unknown key '' in config"),
        ("train.", "1", "unknown key '' in config.train"),
    ],
)
def test_a_faulty_override_is_one_line(config, path, text, said):
    before = config.to_json()
    with pytest.raises(InputError, match=said) as caught:
        apply_override(config, path, text)
    assert "\n" not in str(caught.value)
    assert config.to_json() == before


@pytest.mark.parametrize("text", ["nan", "inf", "-1", "1e400"])
def test_numbers_without_sense_are_left_to_the_range_check(config, text):
    apply_override(config, "train.lr", text)
    assert isinstance(config.train.lr, float)


def test_a_list_stays_a_list():
    config = ConfigDict({"channels": [1, 2]})
    apply_override(config, "channels", "(3,4)")
    assert list(config.channels) == [3, 4]
