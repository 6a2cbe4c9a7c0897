"""``cub_image_text``: ten bird species from picture features and description features.

The first 10 classes of CUB-200, 60 birds each: GoogLeNet features of the photograph and doc2vec
features of its description. The two-view set of CPM-Nets (Zhang et al. 2019) and TMC (Han et al.
2021). Upstream has no split; papers draw 80/20 at random.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from mmfuse.data import builder, raw, safe, splits
from mmfuse.data.fields import MAX_SEED, check_range
from mmfuse.errors import InputError

NAME = "cub_image_text"
CLASSES, PER_CLASS = 10, 60
WIDTHS = {"image": 1024, "text": 300}
SHARES = {"train": 0.7, "valid": 0.1, "test": 0.2}
COMMIT = "f34e757d96a3c17b72dbb32e3a76c6691b5b731f"
MAT = raw.RawFile(
    "cub_image_text/cub_googlenet_doc2vec_c10.mat",
    f"https://raw.githubusercontent.com/archy666/UIMD/{COMMIT}/datasets/"
    "cub_googlenet_doc2vec_c10.mat",
    3_182_587,
    "29ac86575a8fed9208a799318d871004a25825f2af4125f19909110b3e85beb7",
)


@dataclasses.dataclass(kw_only=True)
class CubConfig(tfds.core.BuilderConfig):
    """``split_seed``: of the stratified split, 42/6/12 birds of every species."""

    name: str = ""
    split_seed: int = 0

    def __post_init__(self):
        check_range(NAME, "split_seed", self.split_seed, 0, MAX_SEED)
        self.name = f"split{self.split_seed}"


class CubImageText(builder.RawBuilder):
    """TFDS builder of ``cub_image_text``: feature vectors of photographs and descriptions.

    Features: ``image`` float32 [1024], ``text`` float32 [300], ``label`` the species 0..9; ``id``
    is ``bird-N``, N the row of the upstream file.
    """

    CONFIG = CubConfig

    @classmethod
    def sources(cls, config: CubConfig) -> tuple[builder.Source, ...]:
        """One MATLAB file, version 5."""
        return (MAT,)

    def features(self) -> dict[str, Any]:
        """Two feature vectors."""
        widths = {name: builder.array(width) for name, width in WIDTHS.items()}
        return widths | {"label": builder.array(dtype=np.int64)}

    def card(self) -> dict[str, Any]:
        """What it is, whose, and what to beware of."""
        return {
            "name": NAME,
            "task": "classification",
            "classes": CLASSES,
            "modalities": list(WIDTHS),
            "splits": {s: round(share * CLASSES * PER_CLASS) for s, share in SHARES.items()},
            "source": f"github.com/archy666/UIMD@{COMMIT[:7]}, datasets/{Path(MAT.path).name}",
            "licence": "no licence file; CUB images are for research only, these are features",
            "citation": "Wah et al. 2011, Caltech-UCSD Birds-200-2011; features as used by "
            "Zhang et al. 2019, CPM-Nets (NeurIPS) and Han et al. 2021, TMC (arXiv:2102.02051)",
            "split_rule": "drawn here: of every species 70 % train, 10 % valid, 20 % test, seeded "
            f"by split_seed {self.builder_config.split_seed}",
            "traps": [
                "Papers draw 80/20 splits of their own: compare with ranges, not with one number.",
                "120 test birds: one bird is 0.8 points, so look at the interval.",
                "The encoders behind the features are not trained here; both saw other data.",
            ],
        }

    def splits(self, paths: dict[str, Path]) -> dict[str, list[dict]]:
        """Reads the features and draws the split."""
        columns = read(paths[MAT.path])
        seed = self.builder_config.split_seed
        chosen = splits.stratified(columns["label"], SHARES, seed)
        return {
            split: [
                {"id": f"bird-{row:03d}"} | {name: c[row] for name, c in columns.items()}
                for row in np.flatnonzero(chosen == split)
            ]
            for split in SHARES
        }


def read(path: Path) -> dict[str, np.ndarray]:
    """Returns image float32 [N, 1024], text float32 [N, 300] and label int64 [N] from 0.

    The file holds a cell ``X`` of the two feature matrices and ``Y``, the classes from 1.

    Raises:
      InputError: the file holds something else.
    """
    content = safe.read_mat(path)
    labels = safe.pick(content, "Y", str(path)).reshape(-1).astype(np.int64) - 1
    columns = dict(zip(WIDTHS, safe.pick(content, "X", str(path)), strict=True))
    for name, width in WIDTHS.items():
        if columns[name].shape != (len(labels), width):
            raise InputError(
                f"{path}: {name} features {columns[name].shape}, expected {(len(labels), width)}"
            )
    return {name: c.astype(np.float32) for name, c in columns.items()} | {"label": labels}
