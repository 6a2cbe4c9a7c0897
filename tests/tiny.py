"""One small prepared dataset and a small config on it, shared by the tests of the core."""

import functools
import logging

from ml_collections import ConfigDict

from mmfuse.ablation import resolve
from mmfuse.build import build
from mmfuse.data.datasets import make_builder, prepare
from mmfuse.data.loader import Dataset
from mmfuse.parallel import Devices

SIZES = {"variant": "mixed", "n_train": 100, "n_valid": 40, "n_test": 30}
PREPROCESS = {
    "text": {"name": "text", "length": 8, "min_count": 1},
    "audio": {"name": "log_mel", "n_fft": 200, "hop": 2000, "n_mels": 8},
}
logging.getLogger("absl").setLevel(logging.ERROR)  # TFDS tells where it reads


def config(**train) -> ConfigDict:
    """Two rows, two seeds, one device; encoders without a scan, so that compiling is quick."""
    return ConfigDict(
        {
            "name": "tiny",
            "seeds": (0, 1),
            "baseline": "concat",
            "metric": "accuracy",
            "data": {"name": "helpdesk", "builder": dict(SIZES), "preprocess": PREPROCESS},
            "encoders": {
                "text": {"name": "text_local", "features": 8, "embed": 8},
                "audio": {"name": "mlp", "features": 8, "hidden": 8},
            },
            "train": {"epochs": 2, "batch": 16, "eval_batch": 16, "lr": 1e-2} | train,
            "parallel": {"mode": "pmap", "devices": 1},
            "rows": {
                "concat": {"fusion": {"name": "concat", "features": 8, "hidden": 8}},
                "text only": {"fusion": {"name": "unimodal", "modality": "text", "features": 8}},
            },
        }
    )


def data_dir(tmp_path_factory) -> str:
    """Where the prepared dataset lies, for the whole session."""
    return str(tmp_path_factory.getbasetemp() / "tiny-data")


@functools.cache
def _builder(folder: str):
    builder = make_builder("helpdesk", SIZES, data_dir=folder, raw_data=None)
    prepare(builder)
    return builder


def dataset(tmp_path_factory, *, resident_bytes=2**31, preprocess=None) -> Dataset:
    """The dataset, prepared on first use."""
    folder = _builder(data_dir(tmp_path_factory))
    return Dataset(folder, preprocess or PREPROCESS, resident_bytes=resident_bytes)


def built(dataset, row=0, mode="pmap", devices=1, data=None, compression=None, **train):
    """(Built, Devices) of one row of ``config``, with more entries of ``config.data``."""
    changed = config(**train)
    changed.data.update(data or {})
    if compression:
        changed.rows[list(changed.rows)[row]].compression = compression
    ablation = resolve(changed)
    on = Devices(mode, devices)
    return build(ablation.rows[row], dataset, on, ablation), on
