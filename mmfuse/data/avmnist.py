"""``avmnist``: written and spoken digits, each hard to read alone.

An MNIST image reduced to its first few principal components (Vielzeuf et al. 2018 remove 75 % of
the energy) and a log spectrogram of a spoken digit of the same class (FSDD) in environmental noise
(ESC-10). There is no single AV-MNIST: the original used licensed speech and was never published.
This one can be rebuilt by anyone: every choice is a field of `AvmnistConfig`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from tensorflow_datasets.core import shuffle

from mmfuse.data import avmnist_recipe, avmnist_sources, builder, image
from mmfuse.data.avmnist_recipe import SPLITS
from mmfuse.data.fields import MAX_SEED, check_range
from mmfuse.errors import InputError, nearest

CLASSES = 10
TRAIN_IMAGES = 55_000  # of MNIST's training set; the others are for validation
KEPT_VARIANCE = 0.25
PIXELS = 28 * 28
PROTOCOLS = ("index", "speaker")
BATCH = 256  # examples made at once; what they hold does not depend on it
CITATION = (
    "LeCun, Bottou, Bengio, Haffner 1998, Gradient-based learning applied to document recognition; "
    "Jackson et al., Free Spoken Digit Dataset, zenodo 1342401; "
    "Piczak 2015, ESC: Dataset for environmental sound classification (ACM MM); "
    "after Vielzeuf et al. 2018, CentralNet (arXiv:1808.07275)"
)
SOURCE = "MNIST; Jakobovski/free-spoken-digit-dataset@26eb9aa; karolpiczak/ESC-10@553c8f1"
LICENCE = "MNIST CC BY-SA 3.0 (as commonly stated); FSDD CC BY-SA 4.0; ESC-10 CC BY 3.0"
TRAPS = [
    "There is no single AV-MNIST: compare only with numbers of this same build.",
    "Few distinct clips (see distinct_clips) are reused for all images: the audio sample is small.",
    "Image and sound of an example share a class, never an instance.",
]


@dataclasses.dataclass(kw_only=True)
class AvmnistConfig(tfds.core.BuilderConfig):
    """Which AV-MNIST.

    Attributes:
      protocol: "index" splits the spoken digits by recording number (0-4 test, 5-9 validation, the
        same speakers everywhere); "speaker" by speaker (yweweler test, theo validation): hard.
      snr_db: speech to noise over the clip, in decibels; None = no noise.
      n_train, n_valid, n_test: a smaller number is the start of the larger one's split.
      spec_size: 112, or 28 for spectrograms averaged over blocks of 4 x 4.
      components: principal components kept of an image; None = the fewest with at least 25 % of
        the variance of the 55,000 training images, which is 4.
      seed: of order, pairing and noise.
    """

    name: str = ""
    protocol: str = "index"
    snr_db: float | None = -5.0
    n_train: int = 55_000
    n_valid: int = 5_000
    n_test: int = 10_000
    spec_size: int = 112
    components: int | None = None
    seed: int = 0

    def __post_init__(self):
        if self.protocol not in PROTOCOLS:
            raise InputError(
                f"avmnist: unknown protocol '{self.protocol}'; allowed: {', '.join(PROTOCOLS)}"
                f"{nearest(self.protocol, PROTOCOLS)}"
            )
        if self.snr_db is not None and not (
            isinstance(self.snr_db, (int, float)) and np.isfinite(self.snr_db)
        ):
            raise InputError(f"avmnist: snr_db {self.snr_db} must be finite, or None for no noise")
        if self.spec_size not in (28, 112):
            raise InputError(f"avmnist: spec_size {self.spec_size} must be 28 or 112")
        if self.components is not None:
            check_range("avmnist", "components", self.components, 1, PIXELS)
        check_range("avmnist", "seed", self.seed, 0, MAX_SEED)
        for split, most in zip(SPLITS, (TRAIN_IMAGES, 5_000, 10_000), strict=True):
            check_range("avmnist", f"n_{split}", self.sizes[split], 1, most)
        noise = "clean" if self.snr_db is None else f"snr{float(self.snr_db)}"
        sizes = "-".join(str(size) for size in self.sizes.values())
        kept = self.components or "auto"
        self.name = f"{self.protocol}-{noise}-{sizes}-spec{self.spec_size}-k{kept}-seed{self.seed}"

    @property
    def sizes(self) -> dict[str, int]:
        """Examples per split."""
        return {"train": self.n_train, "valid": self.n_valid, "test": self.n_test}


class Avmnist(builder.RawBuilder):
    """TFDS builder of ``avmnist``: a blurred written digit and a spoken one in noise.

    Features: ``image`` uint8 [28, 28, 1], the rebuilt image in 0..255 clipped and rounded to the
    nearest; ``audio`` float16 [size, size, 1], log spectrogram, time first; ``label``; ``id``, the
    MNIST index and the clip's name. Mean and standard deviation of the stored training values are
    in ``info.metadata["statistics"]`` (image: after division by 255).
    """

    CONFIG = AvmnistConfig

    @classmethod
    def sources(cls, config: AvmnistConfig) -> tuple:
        """Written digits, spoken digits, and noise in one of its two forms."""
        del config
        noise = (avmnist_sources.PREPARED_NOISE, avmnist_sources.ESC10)
        return (*avmnist_sources.MNIST, avmnist_sources.FSDD, noise)

    def locate(self) -> dict[str, Path]:
        """As `avmnist_sources.locate` says."""
        return avmnist_sources.locate(self._raw_data, self.cache_dir)

    def features(self) -> dict[str, Any]:
        """A picture and a spectrogram."""
        size = self.builder_config.spec_size
        return {
            "image": builder.array(28, 28, 1, dtype=np.uint8),
            "audio": builder.array(size, size, 1, dtype=np.float16),
            "label": builder.array(dtype=np.int64),
        }

    def card(self) -> dict[str, Any]:
        """What it is, whose, and what to beware of."""
        config = self.builder_config
        return {
            "name": "avmnist",
            "task": "classification",
            "classes": CLASSES,
            "modalities": ["audio", "image"],
            "splits": config.sizes,
            "protocol": config.protocol,
            "snr_db": config.snr_db,
            "spec_size": config.spec_size,
            "seed": config.seed,
            "source": SOURCE,
            "licence": LICENCE,
            "citation": CITATION,
            "split_rule": "pictures: upstream test, valid the last 5,000 of training; sounds: "
            f"by {'speaker' if config.protocol == 'speaker' else 'recording number'}",
            "traps": TRAPS,
        }

    def download_and_prepare(self, **kwargs) -> None:
        """As every `builder.RawBuilder`, with room for the largest split."""
        with _splits_in_memory():
            super().download_and_prepare(**kwargs)

    def splits(self, paths: dict[str, Path]) -> dict[str, Iterator[dict]]:
        """Reads the files, fits the principal components, and pairs pictures with sounds."""
        digits = avmnist_sources.load_digits(paths)
        images, labels = digits["train"]
        fitted = image.principal_components(images[:TRAIN_IMAGES].reshape(-1, PIXELS))
        k = self.builder_config.components or int(np.argmax(fitted[2] >= KEPT_VARIANCE)) + 1
        self.note(components=k, kept_variance=round(float(fitted[2][k - 1]), 6))
        clips = avmnist_sources.load_clips(paths["fsdd"])
        noise = avmnist_sources.load_noise(paths["esc10"])
        places = {
            "train": range(TRAIN_IMAGES),
            "valid": range(TRAIN_IMAGES, len(images)),
            "test": range(len(digits["test"][0])),
        }
        examples = {}
        for split, numbers in places.items():
            images, labels = digits["test" if split == "test" else "train"]
            plan = self._plan(split, numbers, labels, clips, noise)
            examples[split] = self._examples(split, images, plan, (*fitted[:2], k))
        return examples

    def _plan(self, split, numbers, labels, clips, noise) -> avmnist_recipe.Plan:
        config = self.builder_config
        pool = avmnist_recipe.clip_pool(clips, config.protocol, split)
        size = config.sizes[split]
        plan = avmnist_recipe.plan_split(
            split, numbers, labels, pool=pool, noise=noise, size=size, seed=config.seed
        )
        self._count("clip_pool", split, len(pool))
        self._count("distinct_clips", split, len({clip.name for clip in plan.clips}))
        return plan

    def _count(self, fact: str, split: str, number: int) -> None:
        self.note(**{fact: {**self.info.metadata.get(fact, {}), split: number}})

    def _examples(self, split, images, plan, projection) -> Iterator[dict]:
        config = self.builder_config
        moments = {"image": avmnist_recipe.Moments(1 / 255), "audio": avmnist_recipe.Moments()}
        for start in range(0, len(plan.order), BATCH):
            rows = slice(start, start + BATCH)
            waves = avmnist_recipe.waveforms(plan, rows, config.snr_db)
            columns = {
                "image": avmnist_recipe.blur(images[plan.order[rows]], *projection),
                "audio": avmnist_recipe.spectrogram(waves, config.spec_size),
                "label": plan.labels[rows],
            }
            for name, moment in moments.items():
                moment.add(columns[name])
            for i in range(len(waves)):
                identity = _identity(split, plan.order[start + i], plan.clips[start + i])
                yield {"id": identity} | {n: v[i] for n, v in columns.items()}
        if split == "train":
            self.note(statistics={name: moment.result() for name, moment in moments.items()})


@contextlib.contextmanager
def _splits_in_memory() -> Iterator[None]:
    """Lets TFDS hold a whole split while it writes: beyond 1 GB it would spill by TensorFlow.

    The largest split, 55,000 spectrograms of 112 x 112, takes 1.4 GB.
    """
    limit, shuffle.MAX_MEM_BUFFER_SIZE = shuffle.MAX_MEM_BUFFER_SIZE, sys.maxsize
    try:
        yield
    finally:
        shuffle.MAX_MEM_BUFFER_SIZE = limit


def _identity(split: str, index: int, clip: avmnist_sources.Clip) -> str:
    """The upstream place of both halves, e.g. ``mnist-train-00017/7_theo_12``."""
    return f"mnist-{'test' if split == 'test' else 'train'}-{index:05d}/{clip.name}"
