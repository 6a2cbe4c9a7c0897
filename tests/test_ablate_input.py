"""Bad input to ``ablate``: one line, exit code 2, nothing written."""

import sys

import pytest

from experiments import ablate, cli
from mmfuse.data.loader import Dataset
from tests import avmnist_files

pytest_plugins = ["tests.commands"]


@pytest.mark.parametrize(
    ("argument", "said"),
    [
        ("--config.lrr=1e-3", r"unknown key 'lrr' in config; did you mean 'train.lr'\?"),
        ("--config.train.epoch=1", r"unknown key 'epoch' in config.train; did you mean 'epochs'\?"),
        ("config.lr=3", r"unexpected argument 'config.lr=3'; did you mean --config.lr=3\?"),
        ("stray", "unexpected argument 'stray'$"),
        ("--config.rows.concat.fusion.name=tnf", r"unknown fusion 'tnf'; allowed: .*'tfn'\?"),
        ("--config.rows.concat.fusion.hiden=3", r"no field 'hiden'.*did you mean 'hidden'\?"),
        ("--config.rows.concat.fusion.hidden=0", "hidden=0 must be at least 1"),
        ("--config.train.lr=nan", r"lr must be finite and >= 0, got nan"),
        ("--config.train.lr=inf", r"lr must be finite and >= 0, got inf"),
        ("--config.train.lr=-1", r"lr must be finite and >= 0, got -1.0"),
        ("--config.train.lr=0", r"lr must be > 0, got 0.0"),
        ("--config.train.epochs=1.5", "config.train.epochs: expected int, got '1.5'"),
        ("--config.train.epochs=abc", "config.train.epochs: expected int, got 'abc'"),
        ("--config.train.epochs=", "config.train.epochs: expected int, got ''"),
        ("--config.train.epochs", "needs a value"),
        ("--config.seeds=1,1", "config.seeds: seed 1 is given 2 times"),
        ("--config.seeds=()", "config.seeds is empty"),
        ("--config.seeds=4294967296", "4294967296 is not an integer in 0..4294967295"),
        ("--config.parallel.mode=pamp", r"mode 'pamp'; allowed: pmap, jit; did you mean 'pmap'\?"),
        ("--config.parallel.devices=99", "parallel.devices is 99, but this host has 8"),
        ("--config.data.name=helpdsk", r"unknown dataset 'helpdsk'.*did you mean 'helpdesk'\?"),
        ("--config.data.builder.variant=mixd", r"variant 'mixd'.*did you mean 'mixed'\?"),
        ("--config.data.builder.n_trian=9", r"no field 'n_trian'.*did you mean 'n_train'\?"),
        ("--rows=[", "'--rows=|--rows='\\[' is not a regular expression"),
        ("--rows=zzz", "--rows='zzz' matches no row; there are: concat, text only"),
        ("--workdri=x", r"unknown flag '--workdri'; did you mean '--workdir'\?"),
        ("--rows", "expected one argument"),
    ],
)
def test_a_bad_argument_is_one_line(refused, argument, said):
    refused(said, argument)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("config.trian = 3", r"unknown key 'trian' in config; did you mean 'train'\?"),
        ("config.lock().trian = 3", r"mine.py:6: AttributeError: .*trian"),
        ("1 / 0", r"mine.py:6: ZeroDivisionError: division by zero"),
        ("config.rows = {}", r"mine.py:6: TypeError|config.rows is empty"),
        ("config.seeds = (0, 1, 1)", "seed 1 is given 2 times"),
        (
            "config.train.batch = 12; config.parallel.devices = 8",
            "batch 12 .*divisible by 8 devices",
        ),
        ("config.baseline = 'cnocat'", r"baseline 'cnocat' is no row; did you mean 'concat'\?"),
        ("config.rows.concat.fusion = {'name': 'crossmodal', 'features': 8, 'heads': 3}", "8.*3"),
        ("config.rows.concat.fusion = {'name': 'mbt', 'features': 8, 'heads': 5}", "8.*5"),
        ("config.rows.concat.fusion = {'name': 'mbt', 'features': -3, 'heads': 1}", "features=-3"),
        (
            "config.rows.concat.fusion = {'name': 'nowhere.mod:Class'}",
            "cannot import 'nowhere.mod'",
        ),
        ("config.rows.concat.fusion = {'name': 'plugged_in:Smu'}", r"did you mean 'Sum'\?"),
    ],
)
def test_a_bad_config_file_is_one_line(refused, body, said):
    refused(said, body=f"config.unlock(); {body}")


def test_a_missing_config_or_workdir(refused, monkeypatch, capsys):
    refused(r"no config file 'configs/qickstart.py'; did you mean 'configs/quickstart.py'\?",
            config="configs/qickstart.py")  # fmt: skip
    refused("--workdir is missing", workdir=None)
    monkeypatch.setattr(sys, "argv", ["ablate", "--workdir=w"])
    with pytest.raises(SystemExit, match="2"):
        cli.run_command(ablate.main)
    assert "required: --config" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "check"), [("WrongShape", "shape|axes|rank"), ("NotTraceable", "Tracer|jit|trac"),
                        ("Unused", "forgotten")],
)  # fmt: skip
def test_a_plug_in_that_breaks_the_contract(refused, name, check):
    fusion = f"{{'name': 'plugged_in:{name}', 'features': 8}}"
    refused(
        rf"fusion 'plugged_in:{name}' of row 'concat' breaks the contract: .*({check})",
        body=f"config.rows.concat.fusion = {fusion}",
    )


def test_a_batch_larger_than_the_data(refused):
    refused("batch 112 .*larger than the 100 training examples", "--config.train.batch=112",
            data_dir=None)  # fmt: skip


@pytest.mark.parametrize("wrong", [8, -1])
def test_a_label_out_of_range(refused, monkeypatch, wrong):
    original = Dataset._columns

    def columns(self, split, indices):
        found = original(self, split, indices)
        return found | {"label": [wrong, *found["label"][1:]]}

    monkeypatch.setattr(Dataset, "_columns", columns)
    refused(
        rf"'label' of example 'train-0+\d+' of split 'train': {wrong} is outside 0..7",
        data_dir=None,
    )


AVMNIST = """config.unlock(); config.data = {
        "name": "avmnist",
        "builder": {"n_train": 40, "n_valid": 10, "n_test": 20, "spec_size": 28},
        "preprocess": {"image": {"name": "picture"}, "audio": {"name": "array"}},
    }"""


def test_faulty_raw_files(refused, tmp_path, monkeypatch):
    root = avmnist_files.fabricate(tmp_path / "raw")
    avmnist_files.trust(root, monkeypatch)
    refused("/nowhere.*", "--raw_data=/nowhere", body=AVMNIST)
    images = root / "mnist/train-images-idx3-ubyte.gz"
    whole = images.read_bytes()
    sound = next(root.glob("fsdd/recordings/*.wav"))
    for path, content, said in (
        (images, None, "missing"),
        (images, whole[:-20], "truncated"),
        (sound, sound.read_bytes()[:-2] + b"!!", "altered|sha256"),
    ):
        before = path.read_bytes()
        path.unlink() if content is None else path.write_bytes(content)
        refused(said, f"--raw_data={root}", body=AVMNIST)
        path.write_bytes(before)
