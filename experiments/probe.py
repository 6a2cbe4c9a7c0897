"""Asks finished runs: do you use all modalities, how much noise do you bear, what do you look at?

    python -m experiments.probe --workdir=DIR [--rows=REGEX]
        [--what=modalities,noise,missing,attention,samples,latency] [--into=FILE]
        [--examples=256] [--drawn=2] [--repeats=20] [--raw_data=FOLDER] [--data_dir=FOLDER]

--what: a list of
  modalities   test score with each modality, and each pair of three, removed (masked), zeroed (and
               still said to be there), or shuffled (another example's)
  noise        test score against white noise at stated SNRs, and the area under that curve
  missing      test score against the probability that a modality, or each of its steps, is absent
  attention    which words, frames and patches a row attends to, and which its output is attributed
               to (integrated gradients); whether deleting these hurts more than deleting others
  samples      pictures, sounds and texts that a row generates, beside the true ones; for tasks that
               generate, and seen in the report
  latency      seconds of a forward pass at batch sizes 1 to 512

Results go to DIR/probes/*.json; a table of them is printed, or written into FILE. The clean score
must be that of the record. The test split is opened once per row, and that is logged beside the
scores; attention and samples use validation examples. No config is needed: the workdir knows.
"""

from __future__ import annotations

import math
import os
import re
from itertools import islice

import jax
import numpy as np

from experiments import cli, probe_entries
from experiments.probe_samples import generates, samples_entry
from experiments.probe_views import draw
from experiments.table import insert
from mmfuse import probes
from mmfuse.ablation import Ablation
from mmfuse.data.loader import Dataset
from mmfuse.errors import InputError, listed, nearest
from mmfuse.lock import Lock
from mmfuse.parallel import Devices
from mmfuse.probe_tables import page
from mmfuse.probing.deletion import explain_row
from mmfuse.probing.explain import explainable
from mmfuse.probing.latency import forward_calls, take_turns
from mmfuse.probing.points import CLEAN, Point, missing_points, modality_points, noise_points
from mmfuse.probing.scores import Changes, scores
from mmfuse.programs import forget
from mmfuse.restored import (
    Finished,
    finished_records,
    restore_ablation,
    restore_dataset,
    restore_row,
)
from mmfuse.tasks import METRICS
from mmfuse.transforms import build_transforms
from mmfuse.workdir import Workdir

AT_ONCE = 64  # examples that are explained together
TOGETHER = 8  # rows whose latency is measured in turns: each holds five programs
TOLERANCE = 1e-4  # of a score that is not a count of examples


def _parser() -> cli.Parser:
    parser = cli.Parser(prog="experiments.probe", description=__doc__)
    parser.add_argument("--workdir", required=True, help="what experiments.ablate has filled")
    parser.add_argument("--rows", default="", help="only rows whose name matches this regex")
    parser.add_argument("--what", default="", help="a list, by commas; all that apply")
    parser.add_argument("--into", help="a text file for the table")
    parser.add_argument("--examples", type=int, default=256, help="validation, for faithfulness")
    parser.add_argument(
        "--drawn", type=int, default=2, help="examples whose maps, or samples, are drawn"
    )
    parser.add_argument("--repeats", type=int, default=20, help="of every timed call")
    parser.add_argument("--raw_data", help="folder of upstream files (or MMFUSE_RAW_DATA)")
    parser.add_argument("--data_dir", help="where prepared datasets lie (or TFDS_DATA_DIR)")
    return parser


def main(argv: list[str]) -> int:
    """The command; returns its exit code."""
    args = cli.parse_flags(_parser(), argv)
    for name, low in (("examples", 1), ("drawn", 0), ("repeats", 1)):
        if getattr(args, name) < low:
            raise InputError(f"--{name} must be at least {low}, got {getattr(args, name)}")
    whats = _whats(args.what)
    workdir = Workdir(args.workdir)
    ablation = restore_ablation(workdir)
    records = _chosen(finished_records(workdir), args.rows)
    places = {"data_dir": args.data_dir, "raw_data": args.raw_data}
    dataset = restore_dataset(workdir, ablation.data, **places)
    if not args.what and not generates(dataset.task):
        whats = tuple(what for what in whats if what != "samples")
    devices = Devices("jit", 1, cli.use_compilation_cache())
    with Lock(workdir.path):
        probe = Probe(workdir, ablation, dataset, devices, args)
        for group in _grouped(records, TOGETHER if "latency" in whats else 1):
            probe.rows(group, whats)
            forget()
    text = page(workdir)
    if args.into:
        insert(args.into, f"{ablation.name} probes", text)
    else:
        print(text, end="")
    return 0


def _whats(given: str) -> tuple[str, ...]:
    if not given:
        return probes.WHATS
    whats = tuple(part for part in given.split(",") if part)
    if not whats:
        raise InputError(f"--what is empty; allowed: {', '.join(probes.WHATS)}")
    for what in whats:
        if what not in probes.WHATS:
            hint = nearest(what, probes.WHATS)
            raise InputError(f"--what has no '{what}'{hint}; allowed: {', '.join(probes.WHATS)}")
    return whats


def _chosen(records: dict[str, tuple], pattern: str) -> list[tuple]:
    try:
        found = [of_row for name, of_row in records.items() if re.search(pattern, name)]
    except re.error as error:
        raise InputError(f"--rows='{pattern}' is not a regular expression: {error}") from error
    if not found:
        raise InputError(f"--rows='{pattern}' matches no finished row{listed(records)}")
    return found


def _grouped(items: list, size: int) -> list[list]:
    return [items[start : start + size] for start in range(0, len(items), size)]


class Probe:
    """Measures rows of one workdir and writes what it finds, row by row."""

    def __init__(
        self, workdir: Workdir, ablation: Ablation, dataset: Dataset, devices: Devices, args
    ):
        self.workdir, self.ablation, self.dataset = workdir, ablation, dataset
        self.devices, self.args = devices, args
        self.changes = Changes(devices, build_transforms(ablation.data, "eval_transforms"))
        self.points = self._points()
        higher = METRICS[ablation.metric]
        self.facts = {"metric": ablation.metric, "higher": higher, "split": "test",
                      "modalities": list(dataset.modalities)}  # fmt: skip

    def _points(self) -> dict[str, list[Point]]:
        batch = self.dataset.batch("train", range(1))
        example = jax.tree.map(lambda x: x[0], {k: batch[k] for k in ("inputs", "masks")})
        return {
            "modalities": modality_points(self.dataset.modalities),
            "noise": noise_points(example),
            "missing": missing_points(example),
        }

    def rows(self, group: list[tuple], whats: tuple[str, ...]) -> None:
        """All that was asked of these rows."""
        restored = [
            restore_row(self.workdir, records, self.dataset, self.devices, self.ablation)
            for records in group
        ]
        for row in restored:
            print(f"{row.name}: {', '.join(whats)}", flush=True)
            self._test([what for what in probe_entries.TESTED if what in whats], row)
            if "attention" in whats and explainable(row.built.program.task):
                self._attention(row)
            elif "attention" in whats:
                task = self.dataset.card["task"]
                print(f"{row.name}: no attention, a task '{task}' has no single score of an "
                      "example that could be explained", flush=True)  # fmt: skip
            if "samples" in whats and generates(row.built.program.task):
                self._samples(row)
            elif "samples" in whats:
                task = self.dataset.card["task"]
                print(f"{row.name}: no samples, a task '{task}' generates nothing", flush=True)
        if "latency" in whats:
            self._latency(restored)

    def _test(self, whats: list[str], row: Finished) -> None:
        if not whats:
            return
        seeds = ", ".join(map(str, row.seeds))
        opening = {"run": f"{row.name}, seeds {seeds}", "purpose": f"probe {', '.join(whats)}"}
        opened = opening | {"at": self.workdir.note_opening(opening)[-1]}
        batches = self.dataset.open_test(row.built.settings.eval_batch, **opening)
        points = [CLEAN, *(point for what in whats for point in self.points[what])]
        metric = self.ablation.metric
        lanes = scores(row, points, batches, self.changes, self.devices)
        found = {p: [m[metric] for m in of] for p, of in zip(points, lanes, strict=True)}
        self._check_clean(row, found[CLEAN])
        for what in whats:
            mine = {point: found[point] for point in self.points[what]}
            entry = probe_entries.TESTED[what](row, found[CLEAN], mine)
            before = (probes.read(self.workdir)[what] or {"rows": {}})["rows"].get(row.name, {})
            self._write(what, row, entry | {"openings": [*before.get("openings", []), opened]})

    def _check_clean(self, row: Finished, clean: list[float | None]) -> None:
        """One example more or less may be right on another device, but no more than that."""
        metric, one = self.ablation.metric, 1 / self.dataset.sizes["test"]
        for record, value in zip(row.records, clean, strict=True):
            wanted = record["metrics"]["test"][metric]
            same = value == wanted or (
                None not in (value, wanted)
                and math.isclose(value, wanted, rel_tol=TOLERANCE, abs_tol=1.5 * one)
            )
            if not same:
                raise InputError(
                    f"row '{row.name}', seed {record['seed']}: test {metric} is {value} now, in "
                    f"its record {wanted}: the code has changed since; train it again"
                )

    def _attention(self, row: Finished) -> None:
        size = min(AT_ONCE, self.args.examples)
        number = -(-min(self.args.examples, self.dataset.sizes["valid"]) // size)
        batches = [
            batch | {"weight": batch["weight"] * (batch["index"] < self.args.examples)}
            for batch in islice(self.dataset.eval_batches("valid", size), number)
        ]
        always = [self.changes(CLEAN, batch) for batch in batches]
        few, metric = min(self.args.drawn, size, self.dataset.sizes["valid"]), self.ablation.metric
        found = explain_row(row, jax.device_get(always), metric, few, self.devices)
        entry = probe_entries.attention_entry(row, found, metric)
        drawn = draw(self.dataset, row, found, few)
        entry |= {"drawn": drawn, "drawn_seed": row.seeds[0],
                  "examples": int(sum(np.sum(b["weight"]) for b in batches))}  # fmt: skip
        self._write("attention", row, entry)

    def _samples(self, row: Finished) -> None:
        few = min(self.args.drawn, self.dataset.sizes["valid"])
        batch = next(self.dataset.eval_batches("valid", max(few, 1)))
        batch = jax.device_get(self.changes(CLEAN, batch))
        self._write("samples", row, samples_entry(row, self.dataset, batch, few))

    def _latency(self, rows: list[Finished]) -> None:
        calls = [call for row in rows for call in forward_calls(row, self.dataset, self.devices)]
        times = _grouped(take_turns(calls, self.args.repeats), len(calls) // len(rows))
        for row, seconds in zip(rows, times, strict=True):
            self._write("latency", row, probe_entries.latency_entry(seconds) | self._machine())

    def _write(self, what: str, row: Finished, entry: dict) -> None:
        valid = self.facts | {"split": "valid"}
        facts = {"attention": valid, "samples": valid, "latency": {}}
        probes.write_row(
            self.workdir,
            what,
            facts.get(what, self.facts),
            row.name,
            probe_entries.about(row) | entry,
        )

    def _machine(self) -> dict:
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
        return {"device": self.devices.kind, "cores": cores, "repeats": self.args.repeats}


if __name__ == "__main__":
    cli.run_command(main)
