"""Writes a page of examples as the model sees them: raw input, every preprocessing step, masks.

    python -m experiments.inspect --config=configs/quickstart.py [--split=train|valid]
        [--examples=8] [--into=runs/inspect] [--raw_data=FOLDER] [--data_dir=FOLDER]

The page stands alone: pictures and sound are inside. It also tells of the whole split how often
each label occurs, how long the inputs are and how many are absent. The test split stays closed.
"""

from __future__ import annotations

import collections
from pathlib import Path
from typing import Any

import jax
import numpy as np

from experiments import cli
from experiments.inspect_views import described, ids, mask, view
from mmfuse.data.loader import Dataset, open_dataset
from mmfuse.data.preprocess import Picture, Text
from mmfuse.errors import InputError, nearest
from mmfuse.markup import Html, joined, tag
from mmfuse.tasks import Classification

SPLITS = ("train", "valid")
AT_ONCE = 512  # examples in memory while the split is counted
STYLE = """
body { font: 15px/1.4 system-ui, sans-serif; margin: 2em; color: #222; }
h2 { border-top: 1px solid #ccc; padding-top: .6em; }
table { border-collapse: collapse; margin-bottom: 1em; }
td, th { padding: .15em .8em; text-align: right; }
.steps { display: flex; flex-wrap: wrap; gap: 1.2em; align-items: flex-start; }
figure { margin: 0; max-width: 32em; } figcaption { color: #666; font-size: 85%; }
img { min-width: 8em; max-width: 20em; min-height: 2em; image-rendering: pixelated; }
img.mask { width: 20em; height: 1em; min-height: 1em; border: 1px solid #999; }
audio { display: block; width: 20em; height: 2.2em; }
.text { white-space: pre-wrap; overflow-wrap: anywhere; }
.token { display: inline-block; border: 1px solid #9bb; border-radius: 3px; margin: 1px;
  padding: 0 .3em; background: #eef6f6; white-space: pre; text-align: center; }
.token small { display: block; color: #777; }
.unknown { background: #fdd; border-color: #c66; } .padding { background: #eee; color: #aaa; }
"""


def _parser() -> cli.Parser:
    parser = cli.Parser(prog="experiments.inspect", description=__doc__)
    parser.add_argument("--config", required=True, help="FILE.py or FILE.py:argument")
    parser.add_argument("--split", default="train", help="train or valid")
    parser.add_argument("--examples", type=int, default=8, help="how many, from the start")
    parser.add_argument("--into", default="runs/inspect", help="folder of the page")
    parser.add_argument("--raw_data", help="folder of upstream files (or MMFUSE_RAW_DATA)")
    parser.add_argument("--data_dir", help="where prepared datasets lie (or TFDS_DATA_DIR)")
    return parser


def main(argv: list[str]) -> int:
    """The command; returns its exit code."""
    args, overrides = cli.parse(_parser(), argv)
    _check(args.split, args.examples)
    _, ablation = cli.load(args.config, overrides)
    data = ablation.data | {"resident_bytes": 0}
    dataset = open_dataset(data, data_dir=args.data_dir, raw_data=args.raw_data)
    folder = Path(args.into)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{args.split}.html"
    path.write_text(page(dataset, args.split, args.examples, args.config), encoding="utf-8")
    print(path)
    return 0


def _check(split: str, examples: int) -> None:
    if split == "test":
        raise InputError("--split=test: the test split is closed; allowed: train, valid")
    if split not in SPLITS:
        raise InputError(
            f"--split={split}: no such split; allowed: {', '.join(SPLITS)}{nearest(split, SPLITS)}"
        )
    if examples < 1:
        raise InputError(f"--examples must be at least 1, got {examples}")


def page(dataset: Dataset, split: str, examples: int, config: str) -> str:
    """The whole page, one self-contained HTML document."""
    title = f"{dataset.card['name']}, split {split}, as {config} reads it"
    shown = min(examples, dataset.sizes[split])
    columns = dataset.raw(split, range(shown))
    body = [
        tag("h1", title),
        tag("p", f"{dataset.sizes[split]} examples; the first {shown} are below."),
        *_overview(dataset, split),
        *(_example(dataset, columns, row) for row in range(shown)),
    ]
    head = joined([Html('<meta charset="utf-8">'), tag("title", title), tag("style", Html(STYLE))])
    return f'<!doctype html>\n<html lang="en">{tag("head", head)}{tag("body", *body)}</html>\n'


def _overview(dataset: Dataset, split: str) -> list[Html]:
    """Counts of the whole split: labels, real steps and absent examples of every modality."""
    labels, steps = [], {name: [] for name in dataset.modalities}
    size = dataset.sizes[split]
    for start in range(0, size, AT_ONCE):
        batch = dataset.batch(split, range(start, min(start + AT_ONCE, size)))
        labels.append(batch["label"])
        for name, real in batch["masks"].items():
            steps[name].append(real.sum(axis=1))
    rows = []
    for name, parts in steps.items():
        counts = np.concatenate(parts)
        present = counts[counts > 0]
        figures = np.percentile(present, (0, 50, 100)) if present.size else ["-"] * 3
        rows.append([name, *figures, f"{100 * np.mean(counts == 0):.1f} %"])
    heads = ["modality", "least steps", "median", "most steps", "absent"]
    return [
        tag("h2", "The split"),
        _table(heads, rows),
        _labels(dataset, jax.tree.map(lambda *parts: np.concatenate(parts), *labels)),
    ]


def _labels(dataset: Dataset, labels: Any) -> Html:
    if not isinstance(dataset.task, Classification):
        rows = [
            [
                jax.tree_util.keystr(path),
                *(f"{f(x):.4g}" for f in (np.min, np.mean, np.std, np.max)),
            ]
            for path, x in jax.tree_util.tree_leaves_with_path(labels)
        ]
        return _table(["label", "least", "mean", "sd", "largest"], rows)
    counts = collections.Counter(labels.tolist())
    rows = [
        [_label(dataset, label), counts[label], f"{100 * counts[label] / len(labels):.1f} %"]
        for label in range(dataset.card["classes"])
    ]
    return _table(["label", "examples", "share"], rows)


def _label(dataset: Dataset, label: Any) -> str:
    if np.ndim(label):
        return described(label)
    names = dataset.card.get("class_names", ())
    return f"{label} {names[int(label)]}" if len(names) else str(label)


def _table(heads: list[str], rows: list[list]) -> Html:
    lines = [tag("tr", *(tag("th", head) for head in heads))]
    lines += [tag("tr", *(tag("td", cell) for cell in row)) for row in rows]
    return tag("table", *lines)


def _example(dataset: Dataset, columns: dict[str, list], row: int) -> Html:
    identity, label = columns["id"][row], columns["label"][row]
    name = identity.decode() if isinstance(identity, bytes) else identity
    parts = [tag("h2", f"{name}, label {_label(dataset, label)}")]
    for modality in dataset.modalities:
        parts += [
            tag("h3", modality),
            _modality(dataset.preprocessors[modality], columns[dataset.column_of[modality]][row]),
        ]
    return tag("section", *parts)


def _modality(preprocessor: Any, raw: Any) -> Html:
    """The raw input in words, what it is after each step, and the mask of the last."""
    figures, before, words = [tag("p", f"raw: {described(raw)}")], None, []
    picture = isinstance(preprocessor, Picture)
    vocabulary = getattr(preprocessor, "vocabulary", None)
    steps = preprocessor.steps(raw)
    for name, value, _ in steps:
        if _same(value, before):
            seen = tag("p", "(no change)")
        elif isinstance(preprocessor, Text) and isinstance(value, np.ndarray):
            seen = ids(value, words, vocabulary)
        else:
            seen = view(value, picture=picture, vocabulary=vocabulary)
        caption = f"{name}: {described(value)}"
        figures.append(tag("figure", seen, tag("figcaption", caption)))
        before = value
        words = value if isinstance(value, list) else []
    return joined([tag("div", *figures, class_="steps"), mask(steps[-1][2])])


def _same(value: Any, before: Any) -> bool:
    """Whether a step left a value as it was."""
    return value is before or (isinstance(value, str | list) and value == before)


if __name__ == "__main__":
    cli.run_command(main)
