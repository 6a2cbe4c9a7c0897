"""The registry of fusions, plug-ins, and what all share."""

import re
import shutil
import subprocess
import sys
from importlib.metadata import EntryPoint
from pathlib import Path

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import list as listing
from mmfuse.contract import check_fusion
from mmfuse.errors import InputError
from mmfuse.fusion import FUSIONS, build_fusion, find_fusion, plugins
from mmfuse.fusion.about import about
from mmfuse.fusion.base import masked_mean, pooled
from mmfuse.workdir import Workdir
from tests.reference import ORDER, F, make_batch, means

pytest_plugins = ["tests.commands"]
batch = pytest.fixture(scope="module")(make_batch)


def test_masked_mean_over_nothing_is_zero_with_zero_gradient():
    x = np.full((2, 3, 2), np.nan, np.float32)
    x[0, :2] = [[1, 2], [3, 6]]
    mask = np.array([[1, 1, 0], [0, 0, 0]], bool)
    np.testing.assert_array_equal(masked_mean(x, mask), [[2, 4], [0, 0]])
    grad = jax.grad(lambda x: masked_mean(x, mask).sum())(x)
    np.testing.assert_array_equal(grad[..., 0], [[0.5, 0.5, 0], [0, 0, 0]])
    # Their sum overflows float16, their mean does not.
    many = jnp.full((1, 65_536, 1), 2, jnp.float16)
    np.testing.assert_array_equal(masked_mean(many, np.ones((1, 65_536), bool)), [[2]])


def test_pooled_says_what_is_present(batch):
    vectors, present = pooled(*batch)
    assert list(vectors) == ORDER
    np.testing.assert_array_equal(present["audio"], [True, True, False, False])
    np.testing.assert_allclose(vectors["text"][1], means(batch, 1)["text"], atol=1e-6)


def test_every_name_is_found_and_built():
    for name, fusion in FUSIONS.items():
        assert find_fusion(name) is fusion
    assert find_fusion("mmfuse.fusion.late:LateAverage") is FUSIONS["late_average"]
    assert build_fusion("mbt", features=F, layers=3).layers == 3
    assert build_fusion("mbt", features=F, hidden=0).hidden == 0  # As by default.


@pytest.fixture
def installed(monkeypatch):
    """Pretends that packages register these names: ``installed(("name", "pkg.mod:Class"), ..)``."""

    def install(*pairs):
        points = [EntryPoint(name, value, plugins.GROUP) for name, value in pairs]
        monkeypatch.setattr(plugins, "entry_points", lambda group: points)
        plugins._registered.cache_clear()

    yield install
    plugins._registered.cache_clear()


def test_entry_points_are_found(installed):
    installed(("theirs", "mmfuse.fusion.spatial.gated:GMU [extra]"))
    assert find_fusion("theirs") is FUSIONS["gmu"]
    with pytest.raises(InputError, match="did you mean 'theirs'"):
        find_fusion("their")


def test_the_list_is_readable_and_has_what_is_installed(installed, capsys):
    installed(("theirs", "their.mod:Gate"))
    assert listing.main(["fusions"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 100
    at = next(i for i, line in enumerate(lines) if line.startswith("  late_lstm "))
    assert lines[at + 1 : at + 3] == [
        "      f = W [LSTM_1(h_1)_last; ..; LSTM_M(h_M)_last] + b",
        "      baseline, e.g. Tsai et al. 2019, arXiv:1906.00295",
    ]
    assert lines[-1] == "  theirs                   plug-in       their.mod:Gate"


def test_no_two_methods_are_told_by_the_same_equation():
    equations = [about(kind).equation for kind in FUSIONS.values()]
    assert sorted(equations) == sorted(set(equations))


MINE = """
import flax.linen as nn
class Mine(nn.Module):
    features: int
    def __call__(self, tokens, masks, *, train): ...
class NoCall(nn.Module):
    features: int
class Loose(nn.Module):
    def __call__(self, *args, **kwargs): ...
class NoMasks(Mine):
    def __call__(self, tokens, *, train): ...
class NoTrain(Mine):
    @nn.compact
    def __call__(self, tokens: dict, masks: dict): ...
class More(Mine):
    def __call__(self, tokens, masks, labels, *, train): ...
def function(tokens, masks, *, train): ...
"""


@pytest.fixture
def modules(monkeypatch, tmp_path):
    """A module with some classes, and modules that cannot be imported."""
    (tmp_path / "their_fusions.py").write_text(MINE)
    (tmp_path / "needs_more.py").write_text("import a_package_that_is_not_installed\n")
    (tmp_path / "half_written.py").write_text("class Mine(\n")
    (tmp_path / "a_program.py").write_text("import sys\nsys.exit('usage: \\n ...')\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    yield
    for name in ("their_fusions", "needs_more", "half_written", "a_program"):
        sys.modules.pop(name, None)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("their_fusions:Mind", r"module 'their_fusions' has no 'Mind'; did you mean 'Mine'\?"),
        ("their_fusions:", "module 'their_fusions' has no ''"),
        (
            "needs_more:Mine",
            r"cannot import 'needs_more': ModuleNotFoundError: No module named",
        ),
        ("half_written:Mine", r"cannot import 'half_written': SyntaxError: .*line 1"),
        ("a_program:Mine", r"cannot import 'a_program': SystemExit: usage: \.\.\."),
        ("their_fusions:function", r"is not a class derived from flax\.linen\.Module"),
        ("their_fusions:NoCall", r"has no __call__; expected __call__\(self, tokens, masks, \*, t"),
        ("their_fusions:NoMasks", r"__call__\(self, tokens, train\) does not fit: too many posi"),
        ("their_fusions:NoTrain", r"__call__\(self, tokens, masks\) .*keyword argument 'train'"),
        ("their_fusions:More", r"does not fit: missing a required argument: 'labels'; expected"),
    ],
)
def test_a_plug_in_that_cannot_be_used_is_one_clear_line(modules, installed, name, message):
    installed(("theirs", name))
    for given in (name, "theirs"):
        with pytest.raises(InputError, match=message) as caught:
            find_fusion(given)
        assert str(caught.value).startswith(f"fusion '{given}'")
        assert "\n" not in str(caught.value)


def test_any_signature_that_fits_will_do(modules):
    assert find_fusion("their_fusions:Mine").__name__ == "Mine"
    assert build_fusion("their_fusions:Loose") is not None
    for name, fusion in FUSIONS.items():
        assert plugins.load(f"{fusion.__module__}:{fusion.__qualname__}", name) is fusion


def test_a_name_that_two_fusions_have_is_refused(installed):
    installed(("gmu", "their.mod:Gate"), ("mine", "a.mod:A"), ("mine", "b.mod:B"))
    for name, both in (
        ("gmu", "mmfuse.fusion.spatial.gated:GMU and of their.mod:Gate"),
        ("mine", "a.mod:A and of b.mod:B"),
    ):
        with pytest.raises(InputError, match=f"'{name}' is the name of {both}.*by its path"):
            find_fusion(name)
    assert find_fusion("mmfuse.fusion.spatial.gated:GMU") is FUSIONS["gmu"]
    assert find_fusion("concat") is FUSIONS["concat"]
    # The same fusion under the same name twice is no question.
    installed(*[("gmu", "mmfuse.fusion.spatial.gated:GMU")] * 2)
    assert find_fusion("gmu") is FUSIONS["gmu"]


def test_an_installed_package_adds_a_row(command, monkeypatch, tmp_path):
    """The example package, installed with pip, is named in a config and trained."""
    source, target = tmp_path / "source", tmp_path / "site-packages"
    shutil.copytree(Path(__file__).parent.parent / "plugin_package", source)
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps"]
    pip += ["--no-build-isolation", "--disable-pip-version-check", f"--target={target}", source]
    done = subprocess.run(pip, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    monkeypatch.syspath_prepend(str(target))
    monkeypatch.delitem(sys.modules, "mmfuse_example_fusion", raising=False)

    fusion = find_fusion("example_max")
    assert sys.modules[fusion.__module__].__file__.startswith(str(target))
    assert check_fusion(fusion(features=4)) == []

    row = "{'max': {'fusion': {'name': 'example_max', 'features': 8}}}"
    body = f"config.unlock(); config.rows = {row}; config.baseline = ''; config.seeds = (0,)"
    code, out, err = command("--config.train.epochs=1", body=body)
    assert code == 0, err
    assert "| max" in out
    (record,) = Workdir(tmp_path / "work").records()
    assert record["status"] == "done"


def test_a_row_that_no_device_holds_is_refused_before_training(command, tmp_path):
    """By the command, with the figure: this tensor has 2.4e11 entries."""
    row = "{'huge': {'fusion': {'name': 'tfn', 'features': 60, 'width': 63_000}}}"
    body = f"config.unlock(); config.rows = {row}; config.baseline = ''"
    code, out, err = command(body=body)
    assert (code, out) == (2, "")
    assert re.match(r"error: row 'huge' needs \d+\.\d GB to train .*the device has \d+\.\d GB", err)
    assert len(err.splitlines()) == 1
    assert not (tmp_path / "work").exists()


@pytest.mark.parametrize(
    ("name", "fields", "message"),
    [
        ("gmuu", {}, r"unknown fusion 'gmuu'; allowed: unimodal, .*did you mean 'gmu'\?"),
        ("no_such_pkg:A", {}, "cannot import 'no_such_pkg'"),
        ("mmfuse.fusion:Fusd", {}, r"has no 'Fusd'; did you mean 'Fused'\?"),
        ("mmfuse.fusion:Fused", {}, "not a class derived from flax.linen.Module"),
        ("gmu", {"feature": 3}, r"no field 'feature'; allowed: features; did you mean 'features'"),
        ("concat", {"features": 3}, "needs a value for: hidden"),
        ("gmu", {"features": 2.5}, "must be a whole number"),
        ("gmu", {"features": True}, "must be a whole number"),
        ("gmu", {"features": -3}, "must be at least 1"),
        ("gmu", {"features": 0}, "must be at least 1"),
        ("mbt", {"features": 8, "hidden": -1}, "must be at least 1"),
        ("mbt", {"features": 8, "bottlenecks": -1}, "must not be negative"),
        ("mbt", {"features": 8, "dropout": 1.0}, r"must be in \[0, 1\)"),
        ("mbt", {"features": 8, "dropout": float("nan")}, "must be a finite number"),
    ],
)
def test_bad_input_is_one_clear_line(name, fields, message):
    with pytest.raises(InputError, match=message) as caught:
        build_fusion(name, **fields)
    assert "\n" not in str(caught.value)


def test_heads_must_divide_features(batch):
    fusion = build_fusion("crossmodal", features=6, heads=4)
    with pytest.raises(InputError, match=r"features=6.*heads=4"):
        jax.eval_shape(lambda: nn.init(lambda m: m(*batch, train=False), fusion)(jax.random.key(0)))
