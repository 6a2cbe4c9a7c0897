"""The command ``ablate`` in this process, for the tests of what it does and what it refuses."""

import re
import signal
import sys

import pytest

from experiments import ablate, cli, tune
from mmfuse.data import raw
from tests import tiny

CONFIG = """
from tests import tiny

def get_config():
    config = tiny.config()
    {}
    return config
"""
PLUG_INS = """
import flax.linen as nn
import jax.numpy as jnp
from mmfuse.fusion import Fused
from mmfuse.fusion.base import masked_mean


class Sum(nn.Module):
    features: int

    @nn.compact
    def __call__(self, tokens, masks, *, train):
        names = sorted(tokens)
        vectors = [
            nn.Dense(self.features, dtype=tokens[m].dtype, name=m)(
                masked_mean(tokens[m], masks[m], axis=(1, 2))
            )
            * masks[m].any((1, 2))[:, None]
            for m in names
        ]
        present = jnp.stack([masks[m].any((1, 2)) for m in names]).any(0)
        return Fused(sum(vectors)[:, None, None, :], present[:, None, None])


class WrongShape(Sum):
    def __call__(self, tokens, masks, *, train):
        fused = super().__call__(tokens, masks, train=train)
        return Fused(fused.tokens[:, 0], fused.mask)


class NotTraceable(Sum):
    def __call__(self, tokens, masks, *, train):
        fused = super().__call__(tokens, masks, train=train)
        return fused if fused.tokens.sum() > 0 else fused.replace(tokens=-fused.tokens)


class Unused(Sum):
    @nn.compact
    def __call__(self, tokens, masks, *, train):
        self.param("forgotten", nn.initializers.ones, (3,))
        return super().__call__(tokens, masks, train=train)


class Several(Sum):
    heads: int = 3
"""


@pytest.fixture
def surroundings(monkeypatch, tmp_path):
    """No compilation cache, and signals as they were."""
    monkeypatch.setattr(cli, "use_compilation_cache", lambda: None)
    monkeypatch.delenv(raw.ENVIRONMENT, raising=False)
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    (tmp_path / "plugged_in.py").write_text(PLUG_INS)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield
    for number, handler in before.items():
        signal.signal(number, handler)
    sys.modules.pop("plugged_in", None)


@pytest.fixture
def command(surroundings, monkeypatch, capsys, tmp_path, tmp_path_factory):
    """Runs ``ablate`` on the tiny config, changed by ``body``: (code, stdout, stderr)."""
    return _command(ablate, monkeypatch, capsys, tmp_path, tmp_path_factory)


@pytest.fixture
def tuning(surroundings, monkeypatch, capsys, tmp_path, tmp_path_factory):
    """Runs ``tune`` in the same way."""
    return _command(tune, monkeypatch, capsys, tmp_path, tmp_path_factory)


def _command(program, monkeypatch, capsys, tmp_path, tmp_path_factory):
    def run(*arguments, body="pass", data_dir=None, config=None, workdir=tmp_path / "work"):
        (tmp_path / "mine.py").write_text(CONFIG.format(body))
        given = [f"--config={config or tmp_path / 'mine.py'}"]
        given += [f"--workdir={workdir}"] if workdir else []
        given += [f"--data_dir={data_dir or tiny.data_dir(tmp_path_factory)}"]
        monkeypatch.setattr(sys, "argv", ["ablate", *given, *map(str, arguments)])
        with pytest.raises(SystemExit) as caught:
            cli.run_command(program.main)
        return caught.value.code, *capsys.readouterr()

    return run


@pytest.fixture
def refused(command, tmp_path):
    """The command ends with 2 and one line, and nothing was written: neither workdir nor data."""

    def run(said, *arguments, data_dir=tmp_path / "data", **fields):
        code, out, err = command(*arguments, data_dir=data_dir, **fields)
        assert (code, out) == (2, "")
        assert err.startswith("error: ")
        assert len(err.splitlines()) == 1
        assert re.search(said, err), err
        assert not (tmp_path / "work").exists()
        assert not (tmp_path / "data").exists()

    return run
