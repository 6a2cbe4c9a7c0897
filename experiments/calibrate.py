"""Makes tables in which nothing is true, and counts what they claim (an A/A study).

    python -m experiments.calibrate [--into=docs/calibration.md] [--tables=200] [--data_dir=DIR]

One row is trained with as many seeds as are asked for, by the trainer of every ablation. Their
records are dealt out to tables of 8 rows x 5 seeds: equal rows under eight names, so every claim of
a difference is false. The page says how often the code that makes all tables claims one, beside the
level it promises, and how often its intervals hold the true mean, which all runs together tell.

Exit codes: 0 as promised, 2 bad input, 3 not as promised.
"""

from __future__ import annotations

import dataclasses
import math
import sys
import tempfile
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from experiments import cli
from mmfuse.errors import InputError
from mmfuse.measures import measure
from mmfuse.record import write_atomic
from mmfuse.stats.differences import LEVEL
from mmfuse.stats.shares import clopper_pearson
from mmfuse.summary import Table, summarise
from mmfuse.tables import grid

ROWS, SEEDS, LANES = 8, 5, 1000  # of a table; and seeds that are trained in one program
COVERED = (0.93, 0.97)
METRIC = "accuracy"


@dataclasses.dataclass
class Count:
    """How often something was so, of how many; ``wanted`` is the range of rates that is right.

    It is as promised if the range meets the 95 % interval of the rate (``inside`` False), or if it
    holds the rate itself (True); without a range it only informs.
    """

    name: str
    wanted: tuple[float, float] | None = None
    inside: bool = False
    hits: int = 0
    n: int = 0

    def add(self, hit: bool) -> None:
        """Counts one more."""
        self.hits, self.n = self.hits + bool(hit), self.n + 1

    @property
    def good(self) -> bool:
        """Says whether the rate is as promised."""
        if self.wanted is None or not self.n:
            return True
        low, high = self.wanted
        if self.inside:
            return low <= self.hits / self.n <= high
        least, most = clopper_pearson(self.hits, self.n)
        return least <= high and low <= most


def main(argv: list[str]) -> int:
    """The command; returns its exit code."""
    parser = cli.Parser(prog="experiments.calibrate", description=__doc__)
    parser.add_argument("--into", help="the page to write, instead of printing it")
    parser.add_argument("--tables", type=int, default=200, help="how many tables to make")
    parser.add_argument("--data_dir", help="where prepared datasets lie (or TFDS_DATA_DIR)")
    args = parser.parse_args(argv)
    if args.tables < 1:
        raise InputError(f"--tables must be at least 1, got {args.tables}")
    runs = train(config(args.tables * ROWS * SEEDS), args.data_dir)
    counts = study([r["metrics"] for r in runs], [r["predictions"] for r in runs])
    text = page(counts, runs, args.tables)
    if args.into:
        write_atomic(args.into, text)
    else:
        print(text, end="")
    return 0 if all(count.good for count in counts) else cli.SOME_FAILED


def config(seeds: int) -> ConfigDict:
    """Text and voice of few generated requests and one small row: a run takes milliseconds."""
    width, lanes = 8, max(n for n in range(1, LANES + 1) if seeds % n == 0)
    return ConfigDict(
        {
            "name": "calibration",
            "seeds": tuple(range(seeds)),
            "metric": METRIC,
            "data": {
                "name": "helpdesk",
                "builder": {"variant": "mixed", "n_train": 200, "n_valid": 100, "n_test": 400},
                "preprocess": {
                    "text": {"name": "text", "length": 8, "min_count": 1},
                    "audio": {"name": "log_mel", "n_fft": 200, "hop": 2000, "n_mels": 8},
                },
            },
            "encoders": {
                "text": {"name": "text_local", "features": width, "embed": width},
                "audio": {"name": "mlp", "features": width, "hidden": width},
            },
            "train": {"epochs": 8, "batch": 25, "eval_batch": 100, "lr": 2e-2, "select": METRIC},
            "parallel": {"mode": "pmap", "devices": 1, "replicas": lanes},
            "rows": {"concat": {"fusion": {"name": "concat", "features": width, "hidden": width}}},
        }
    )


def train(settings: ConfigDict, data_dir: str | None) -> list[dict[str, Any]]:
    """Returns ``{"metrics", "predictions"}`` of the test split for every seed that came through."""
    from mmfuse.ablation import resolve
    from mmfuse.build import build
    from mmfuse.checkpoint import Checkpoints
    from mmfuse.data.loader import open_dataset
    from mmfuse.loop import predict, train_group
    from mmfuse.parallel import Devices

    ablation = resolve(settings)
    dataset = open_dataset(ablation.data, data_dir=data_dir, raw_data=None)
    devices = Devices(ablation.parallel["mode"], ablation.parallel["devices"])
    built = build(ablation.rows[0], dataset, devices, ablation)
    runs: list[dict[str, Any]] = []
    for seeds in ablation.groups():
        with tempfile.TemporaryDirectory() as folder:
            run, programs, _ = train_group(built, dataset, devices, seeds, Checkpoints(folder))
        name = f"{built.row.name}, seeds {seeds[0]} to {seeds[-1]}"
        batches = dataset.open_test(built.settings.eval_batch, run=name, purpose="calibrate")
        scores, said = predict(programs, dataset.task, run.selection.params, batches)
        diverged = np.asarray(run.state.diverged_at) >= 0
        if diverged.any():
            raise InputError(f"{diverged.sum()} run(s) of {name} diverged; give a lower train.lr")
        for lane, metrics in enumerate(scores):
            stored = {"output": said["output"][lane], "label": said["label"]}
            runs.append({"metrics": metrics, "predictions": stored})
        print(f"trained {len(runs)} of {len(ablation.seeds)} runs", file=sys.stderr)
    return runs


def study(metrics: Sequence[Mapping], predictions: Sequence[Mapping] | None = None) -> list[Count]:
    """Counts what tables of these runs claim; run ``t * 40 + r * 5 + s`` is seed s of row r of t.

    Args:
      metrics: test metrics of every run.
      predictions: what every run said of the test split, if that is to be counted too.
    """
    truth = math.fsum(m[METRIC] for m in metrics) / len(metrics)
    level, covered = (0.0, LEVEL), COVERED
    counts = {
        "baseline": Count("tables that call any row different from the baseline", level),
        "pairs": Count("tables that tell any two rows apart (letters)", level),
        "either": Count("tables with a false claim of either kind", level),
        "plain": Count("the same against the baseline, had nothing been corrected"),
        "mean": Count("95 % intervals of a row that hold the true mean", covered, inside=True),
        "difference": Count("95 % intervals of a difference that hold 0", covered, inside=True),
    }
    if predictions:
        counts["one"] = Count("rows that McNemar's test of one seed each calls different")
        counts["both"] = Count("95 % intervals over seeds and test examples that hold 0")
    size = ROWS * SEEDS
    for start in range(0, len(metrics) - size + 1, size):
        runs = predictions[start : start + size] if predictions else None
        _judge(_table(metrics[start : start + size], runs), truth, counts)
    return list(counts.values())


def _table(metrics: Sequence[Mapping], predictions: Sequence[Mapping] | None) -> Table:
    """Returns the table of 40 runs under eight names, made as every table is made."""
    place = {(f"name {i // SEEDS + 1}", i % SEEDS): i for i in range(ROWS * SEEDS)}
    records = [
        {"row": row, "seed": seed, "status": "done", "metrics": {"test": metrics[i]}}
        for (row, seed), i in place.items()
    ]
    stored = (lambda row, seed: predictions[place[row, seed]]) if predictions else None
    return summarise(records, metric=METRIC, predictions=stored)


def _judge(table: Table, truth: float, counts: Mapping[str, Count]) -> None:
    others = [row for row in table.rows if row.comparison]
    claimed = any(row.comparison.significant for row in others)
    counts["baseline"].add(claimed)
    letters = [set(row.group) for row in table.rows]
    apart = any(not one & other for one in letters for other in letters)
    counts["pairs"].add(apart)
    counts["either"].add(claimed or apart)
    counts["plain"].add(any((row.comparison.p or 1.0) <= LEVEL for row in others))
    for row in table.rows:
        s = row.metrics[METRIC]
        if s.low is not None:
            counts["mean"].add(s.low <= truth <= s.high)
    for row in others:
        if row.difference.low is not None:
            counts["difference"].add(row.difference.low <= 0 <= row.difference.high)
        if row.items:
            counts["one"].add(row.items.mcnemar[0] <= LEVEL)
            counts["both"].add(row.items.both_low <= 0 <= row.items.both_high)


def page(counts: Sequence[Count], runs: Sequence[Mapping], tables: int) -> str:
    """Returns the page as Markdown."""
    scores = np.array([run["metrics"][METRIC] for run in runs])
    m, items = measure(METRIC), len(runs[0]["predictions"]["label"])
    command = "python -m experiments.calibrate --into=docs/calibration.md"
    command += "" if tables == 200 else f" --tables={tables}"
    return "\n".join(
        [
            "# What the tables claim where nothing is true",
            "",
            f"{tables} table(s) of {ROWS} rows x {SEEDS} seeds. All rows are the same row under "
            "other names, trained with other seeds, so every claim of a difference is false. The "
            "tables are made by the code that makes all tables.",
            "",
            *_lines(counts),
            "",
            f"- {len(runs):,} trained runs: {m.title} {m.rounded(scores.mean())} ± "
            f"{m.rounded(scores.std(ddof=1))} {m.unit} on {items} test examples; the mean of all "
            "runs is taken for the true mean.",
            f"- Promised: a false claim in at most {LEVEL:.0%} of tables, kept if the interval of "
            "the rate reaches down to there. Each kind of claim is corrected by itself, so of "
            f"both together this is measured, not guaranteed. {COVERED[0]:.0%} to "
            f"{COVERED[1]:.0%} of 95 % intervals hold the truth.",
            "- Rates without a promise: the first shows what correction is for. A test of one "
            f"seed each (p at most {LEVEL:g}) asks whether two trained models differ, which they "
            "do; it says nothing of methods.",
            f"- Made by `{command}`.",
            "",
        ]
    )


def _lines(counts: Sequence[Count]) -> list[str]:
    header = ["Of all", "number", "so", "rate", "95 % interval of the rate", "promised", "kept"]
    return grid(header, [_cells(count) for count in counts])


def _cells(count: Count) -> list[str]:
    if not count.n:
        return [count.name, "0", *[""] * 5]
    low, high = clopper_pearson(count.hits, count.n)
    promised = kept = ""
    if count.wanted:
        least, most = count.wanted
        promised = f"{least:.0%} to {most:.0%}" if least else f"at most {most:.0%}"
        kept = "yes" if count.good else "**no**"
    rates = [f"{count.hits / count.n:.1%}", f"{low:.1%} to {high:.1%}"]
    return [count.name, f"{count.n:,}", f"{count.hits:,}", *rates, promised, kept]


if __name__ == "__main__":
    cli.run_command(main)
