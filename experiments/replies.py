"""How varied are the texts that finished rows generate? distinct-1 and distinct-2, and lengths.

    python -m experiments.replies --workdir=DIR [--examples=512] [--into=FILE]
        [--raw_data=FOLDER] [--data_dir=FOLDER]

Every row of a task of words answers the first validation examples, greedily, by beam search and by
draws from its nucleus, with the parameters of each of its seeds. distinct-n (Li et al. 2016) is the
number of different n-grams over that of all n-grams; it falls as there are more texts, so all
lines, and that of the true texts, are of the same examples. The test split is not opened.
"""

from __future__ import annotations

from itertools import islice

from experiments import cli
from experiments.table import insert
from mmfuse.errors import InputError
from mmfuse.parallel import Devices
from mmfuse.probing.replies import replies, true_texts, variety
from mmfuse.restored import finished_records, restore_ablation, restore_dataset, restore_row
from mmfuse.stats import summary
from mmfuse.tasks.sequences import Words
from mmfuse.workdir import Workdir

AT_ONCE = 128  # examples that are answered together
TITLES = ("Method", "Replies", "distinct-1", "distinct-2", "Words")
MEASURED = ("distinct-1", "distinct-2", "words")


def main(argv: list[str]) -> int:
    """The command; returns its exit code."""
    args = cli.parse_flags(_parser(), argv)
    if args.examples < 1:
        raise InputError(f"--examples must be at least 1, got {args.examples}")
    workdir = Workdir(args.workdir)
    ablation = restore_ablation(workdir)
    records = finished_records(workdir)
    places = {"data_dir": args.data_dir, "raw_data": args.raw_data}
    dataset = restore_dataset(workdir, ablation.data, **places)
    if not isinstance(dataset.task, Words):
        raise InputError(
            f"'{args.workdir}' holds a task '{dataset.card['task']}', not one of words"
        )
    devices = Devices("jit", 1, cli.use_compilation_cache())
    number = -(-min(args.examples, dataset.sizes["valid"]) // AT_ONCE)
    batches = [
        batch | {"weight": batch["weight"] * (batch["index"] < args.examples)}
        for batch in islice(dataset.eval_batches("valid", AT_ONCE), number)
    ]
    texts = true_texts(batches)
    lines = [("true", "", [variety(texts, dataset.task)])]
    for of_row in records.values():
        row = restore_row(workdir, of_row, dataset, devices, ablation)
        lanes = replies(row, batches)
        lines += [
            (row.name, how, [variety(lane[how], dataset.task) for lane in lanes])
            for how in lanes[0]
        ]
    text = _page(lines, len(texts))
    if args.into:
        insert(args.into, f"{ablation.name} replies", text)
    else:
        print(text, end="")
    return 0


def _parser() -> cli.Parser:
    parser = cli.Parser(prog="experiments.replies", description=__doc__)
    parser.add_argument("--workdir", required=True, help="what experiments.ablate has filled")
    parser.add_argument("--examples", type=int, default=512, help="validation, to be answered")
    parser.add_argument("--into", help="a text file for the table")
    parser.add_argument("--raw_data", help="folder of upstream files (or MMFUSE_RAW_DATA)")
    parser.add_argument("--data_dir", help="where prepared datasets lie (or TFDS_DATA_DIR)")
    return parser


def _page(lines: list[tuple[str, str, list[dict]]], count: int) -> str:
    """A Markdown table of means and standard deviations over seeds."""
    head = [f"| {' | '.join(TITLES)} |", f"| {' | '.join(['---'] * len(TITLES))} |"]
    rows = [
        f"| {' | '.join([name, how, *(_cell([s[m] for s in seeds]) for m in MEASURED)])} |"
        for name, how, seeds in lines
    ]
    note = f"- Of {count} validation examples, seed by seed; mean ± standard deviation over seeds."
    return "\n".join([*head, *rows, "", note]) + "\n"


def _cell(values: list[float | None]) -> str:
    known = summary([value for value in values if value is not None])
    if known.mean is None:
        return "-"
    return f"{known.mean:.3f}" + ("" if known.sd is None else f" ± {known.sd:.3f}")


if __name__ == "__main__":
    cli.run_command(main)
