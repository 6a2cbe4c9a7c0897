"""``mvsa_single``: tweets, each a picture and a text, and the sentiment of the pair.

MVSA-Single (Niu et al. 2016) after the usual clean-up, as cut by a course: 4,000 labelled pairs.
Two forms are read: ``packed``, one npz with 64 x 64 pictures and a split; and ``upstream``, the
repository's folder of jpg and txt files, from which the same pictures and texts are made.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from mmfuse.data import builder, raw, safe, splits
from mmfuse.errors import InputError

NAME = "mvsa_single"
CLASS_NAMES = ("negative", "neutral", "positive")
SIDE = 64
SHARES = {"train": 0.8, "valid": 0.1, "test": 0.1}
PACKED = raw.RawFile(
    "mvsa_single/mvsa_single_64.npz",
    None,
    40_353_153,
    "a54f6937dbe373ca78933140555792b8cc4192a14add4f3a4d84f3e94209955f",
)
LABELS = raw.RawFile(
    "mvsa_single/label/train.txt",
    None,
    54_661,
    "596dd1494cbe9ea49d5040f7e3419d855e9cb9a7f54041dedc1fe91698f3c2ce",
)


@dataclasses.dataclass(kw_only=True)
class MvsaSingleConfig(builder.FormConfig):
    """Which form is read."""

    dataset = NAME


class MvsaSingle(builder.RawBuilder):
    """TFDS builder of ``mvsa_single``: the sentiment of tweets with a picture.

    Features: ``image`` uint8 [64, 64, 3], resized without regard to its aspect; ``text``, at most
    140 characters; ``label`` 0 negative, 1 neutral, 2 positive; ``id`` the upstream number.
    """

    CONFIG = MvsaSingleConfig

    @classmethod
    def sources(cls, config: MvsaSingleConfig) -> tuple[builder.Source, ...]:
        """The npz, or the list of labels, beside whose folder the pairs are found."""
        return (PACKED,) if config.form == "packed" else (LABELS,)

    def features(self) -> dict[str, Any]:
        """A picture and a text."""
        return {
            "image": builder.array(SIDE, SIDE, 3, dtype=np.uint8),
            "text": builder.text(),
            "label": builder.array(dtype=np.int64),
        }

    def card(self) -> dict[str, Any]:
        """What it is, whose, and what to beware of."""
        rule, stated = self.builder_config.division(
            "the split of the packed file",
            {"train": 3199, "valid": 400, "test": 401},
        )
        return stated | {
            "name": NAME,
            "task": "classification",
            "classes": len(CLASS_NAMES),
            "class_names": list(CLASS_NAMES),
            "modalities": ["image", "text"],
            "source": "github.com/liyunfan1223/multimodal-sentiment-analysis@bc56365",
            "licence": "no licence file; MVSA is released for research only; do not redistribute",
            "citation": "Niu et al. 2016, Sentiment Analysis on Multi-view Social Data (MMM)",
            "split_rule": f"{rule}: 80/10/10, stratified by sentiment, pairs with the same text or "
            "the same 64 x 64 picture kept together",
            "traps": [
                "4,000 of the 4,511 pairs are labelled here: published numbers are on all of them.",
                "One pair in 25 repeats a picture or a text; some repeats have another label.",
                "60 % are positive: a picture encoder trained from scratch stays at the majority.",
                "Texts are noisy, of several languages; upstream files mix UTF-8 and GB18030.",
                "Tweets of real people, adult adverts among them: show and share nothing of it.",
            ],
        }

    def splits(self, paths: dict[str, Path]) -> dict[str, Iterator[dict]]:
        """Reads the pairs and divides them."""
        if self.builder_config.form == "packed":
            columns = read_packed(paths[PACKED.path])
        else:
            columns = read_upstream(paths[LABELS.path])
            groups = splits.duplicate_groups(
                columns["text"], [picture.tobytes() for picture in columns["image"]]
            )
            columns["split"] = splits.stratified(
                columns["label"], SHARES, self.builder_config.split_seed, groups
            )
        return {split: _examples(columns, split) for split in SHARES}


def read_packed(path: Path) -> dict[str, np.ndarray]:
    """Returns guid [N], image uint8 [N, 64, 64, 3], text, label and split, ordered by guid.

    Raises:
      InputError: the file's classes are others, or in another order.
    """
    arrays = safe.read_npz(path)
    builder.same_classes(str(path), safe.pick(arrays, "class_name", str(path)), CLASS_NAMES)
    wanted = ("guid", "image", "text", "label", "split")
    return {name: safe.pick(arrays, name, str(path)) for name in wanted}


def read_upstream(labels: Path) -> dict[str, np.ndarray]:
    """The same columns but ``split``, from ``data/GUID.jpg`` and ``data/GUID.txt``.

    Args:
      labels: ``label/train.txt``, a table ``guid,tag``; the folder ``data`` is beside its folder.

    Raises:
      InputError: an unknown tag, or a pair that is missing.
    """
    tags, data = read_labels(labels), labels.parents[1] / "data"
    missing = [g for g in tags if not all((data / f"{g}.{e}").is_file() for e in ("jpg", "txt"))]
    if missing:
        raise InputError(
            f"{data}: {len(missing)} of {len(tags)} labelled pairs are missing, first "
            f"{missing[0]}.jpg with {missing[0]}.txt; form 'packed' reads {PACKED.path} instead"
        )
    guids = sorted(tags)
    return {
        "guid": np.array(guids),
        "image": np.stack([shrink(data / f"{guid}.jpg") for guid in guids]),
        "text": np.array([decode_text((data / f"{guid}.txt").read_bytes()) for guid in guids]),
        "label": np.array([CLASS_NAMES.index(tags[guid]) for guid in guids]),
    }


def read_labels(path: Path) -> dict[int, str]:
    """``{guid: tag}`` of the table ``guid,tag``."""
    tags = {}
    for line, row in safe.read_csv(path):
        guid, tag = (safe.pick(row, column, f"{path}, line {line}") for column in ("guid", "tag"))
        if not guid.isdecimal() or tag not in CLASS_NAMES:
            raise InputError(
                f"{path}, line {line}: '{guid},{tag}'; expected a number and one of "
                f"{', '.join(CLASS_NAMES)}"
            )
        tags[int(guid)] = tag
    return tags


def shrink(path: Path) -> np.ndarray:
    """A picture's file as uint8 [64, 64, 3]: RGB, Lanczos, the aspect not kept."""
    picture = Image.fromarray(safe.read_picture(path))
    return np.asarray(picture.resize((SIDE, SIDE), Image.Resampling.LANCZOS))


def decode_text(data: bytes) -> str:
    """UTF-8 if it is sound, else GB18030 with U+FFFD for what cannot be read; stripped."""
    try:
        return data.decode("utf-8").strip()
    except UnicodeDecodeError:
        return data.decode("gb18030", errors="replace").strip()


def _examples(columns: dict[str, np.ndarray], split: str) -> Iterator[dict]:
    for row in np.flatnonzero(columns["split"] == split):
        yield {
            "id": str(columns["guid"][row]),
            "image": columns["image"][row],
            "text": str(columns["text"][row]),
            "label": int(columns["label"][row]),
        }
