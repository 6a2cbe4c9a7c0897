"""Writes a finished model as files that JAX alone can run, without this package.

    python -m experiments.export --workdir=DIR --row=ROW [--seed=0] --into=FOLDER
        [--raw_data=FOLDER] [--data_dir=FOLDER]

FOLDER gets the forward pass as StableHLO (``program.xz``), the parameters as they are stored, so
int8 as int8 (``weights.npz``), and what goes in and out (``about.json``); how they are run says
``mmfuse/export.py``. Validation examples through the files must give what the finished model
gives. The test split stays closed. No config is needed: the workdir knows.
"""

from __future__ import annotations

from pathlib import Path

import jax
import numpy as np

from experiments import cli
from mmfuse import export
from mmfuse.data.loader import Dataset
from mmfuse.errors import InputError, listed, nearest
from mmfuse.model import model_inputs
from mmfuse.parallel import Devices
from mmfuse.record import write_atomic
from mmfuse.restored import (
    Finished,
    finished_records,
    restore_ablation,
    restore_dataset,
    restore_row,
)
from mmfuse.workdir import Workdir

EXAMPLES = 16  # of the validation split, by which the files are checked
TOLERANCE = 1e-4  # of an output, relative to the largest


def _parser() -> cli.Parser:
    parser = cli.Parser(prog="experiments.export", description=__doc__)
    parser.add_argument("--workdir", required=True, help="what experiments.ablate has filled")
    parser.add_argument("--row", required=True, help="the name of a finished row")
    parser.add_argument("--seed", type=int, help="by default the row's first")
    parser.add_argument("--into", required=True, help="the folder of the files")
    parser.add_argument("--raw_data", help="folder of upstream files (or MMFUSE_RAW_DATA)")
    parser.add_argument("--data_dir", help="where prepared datasets lie (or TFDS_DATA_DIR)")
    return parser


def main(argv: list[str]) -> int:
    """The command; returns its exit code."""
    args = cli.parse_flags(_parser(), argv)
    workdir = Workdir(args.workdir)
    record = _chosen(finished_records(workdir), args.row, args.seed)
    ablation = restore_ablation(workdir)
    places = {"data_dir": args.data_dir, "raw_data": args.raw_data}
    dataset = restore_dataset(workdir, ablation.data | {"resident_bytes": 0}, **places)
    row = restore_row(workdir, (record,), dataset, Devices("jit", 1), ablation)
    facts = {key: record[key] for key in ("row", "seed", "params_sha256")}
    facts |= {"compression": row.built.row.compression, "preprocess": ablation.data["preprocess"]}
    params = jax.tree.map(lambda x: x[0], row.params)
    files = export.files(row.built, params, dataset, facts)
    furthest = _check(files, row, params, dataset)
    folder = Path(args.into)
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        write_atomic(folder / name, content)
        print(f"{folder / name}: {len(content):,} bytes")
    print(f"{sum(map(len, files.values())):,} bytes; outputs differ by {furthest:.1e} at most")
    return 0


def _chosen(records: dict[str, tuple[dict, ...]], name: str, seed: int | None) -> dict:
    if name not in records:
        raise InputError(
            f"--row='{name}': no such finished row{nearest(name, records)}{listed(records)}"
        )
    seeds = {record["seed"]: record for record in records[name]}
    if seed is None:
        return records[name][0]
    if seed not in seeds:
        raise InputError(
            f"--seed={seed}: row '{name}' has not finished it{listed(map(str, seeds))}"
        )
    return seeds[seed]


def _check(files: dict[str, bytes], row: Finished, params: dict, dataset: Dataset) -> float:
    """The largest difference between an output of the files and of the finished model.

    Raises:
      RuntimeError: it is too large; nothing is written.
    """
    batch = dataset.batch("valid", range(min(EXAMPLES, dataset.sizes["valid"])))
    inputs = model_inputs(batch)
    wanted = np.asarray(row.built.model.apply({"params": params}, *inputs, train=False)[0])
    found = np.asarray(export.load(files)(*inputs))
    furthest = float(np.max(np.abs(found - wanted)))
    if not furthest <= TOLERANCE * max(1.0, float(np.max(np.abs(wanted)))):
        raise RuntimeError(f"the exported model's outputs differ by {furthest:.1e}")
    return furthest


if __name__ == "__main__":
    cli.run_command(main)
