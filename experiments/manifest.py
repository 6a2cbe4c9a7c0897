"""Checks a manifest of your own files, and says what is in it; nothing is trained.

    python -m experiments.manifest my.csv
    python -m experiments.manifest my.csv --allow=outside,shared,rare

Exit codes: 0 it can be trained on, 2 it has problems (each on its own line on stderr).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from experiments import cli
from mmfuse.data.own.cells import Facts
from mmfuse.data.own.checks import SPLITS
from mmfuse.data.own.survey import Survey, checked, survey
from mmfuse.errors import InputError

MOST = 20  # labels shown of a split


def main(argv: list[str]) -> int:
    """Prints counts, then notes; problems are raised as one report."""
    parser = cli.Parser(prog="experiments.manifest", description=__doc__)
    parser.add_argument("manifest", help="FILE.csv or FILE.jsonl")
    parser.add_argument("--allow", default="", help="outside, shared, rare; commas between")
    args, overrides = cli.parse(parser, argv)
    if overrides:
        raise InputError(f"--config.{overrides[0][0]}: this command reads no config")
    found = survey(args.manifest, args.allow)
    for line in _lines(found):
        print(line)
    for note in found.notes():
        print(f"note: {note}")
    checked(found)
    return 0


def _lines(found: Survey) -> Iterator[str]:
    rows, kinds = found.table.rows, found.table.modalities
    classes = f" of {len(found.classes)} classes" if found.classes else ""
    yield f"{found.table.path}: {len(rows)} rows, {found.task}{classes}"
    yield f"{'split':10} {'rows':>7}  labels"
    for split in SPLITS:
        of_split = found.rows(split)
        yield f"{split:10} {len(of_split):7}  {_labels(of_split)}".rstrip()
    yield f"{'column':16} {'kind':9} {'train':>7} {'valid':>7} {'test':>7}  what is there"
    for name, kind in kinds.items():
        present = [
            sum((row.number, name) in found.found for row in found.rows(split)) for split in SPLITS
        ]
        counts = " ".join(f"{count:7}" for count in present)
        of_column = [facts for (_, column), facts in found.found.items() if column == name]
        yield f"{name:16} {kind:9} {counts}  {_contents(of_column)}".rstrip()


def _labels(rows: list) -> str:
    counts = Counter(row.cells.get("label", "") for row in rows)
    counts.pop("", None)
    shown = ", ".join(f"{name} {counts[name]}" for name in sorted(counts)[:MOST])
    return shown + (f", and {len(counts) - MOST} more" if len(counts) > MOST else "")


def _contents(facts: list[Facts]) -> str:
    """Lengths, sizes and rates of the cells of one column, from the least to the most."""
    if not facts:
        return ""
    first = [one.shape[0] for one in facts]
    if facts[0].kind == "picture":
        widths = [one.shape[1] for one in facts]
        return f"{_range(widths)} x {_range(first)} pixels"
    if facts[0].kind == "sound":
        seconds = [round(one.shape[0] / one.rate, 2) for one in facts]
        rates = Counter(one.rate for one in facts)
        return f"{_range(seconds)} s, " + ", ".join(f"{rates[r]} at {r} Hz" for r in sorted(rates))
    if facts[0].kind == "features":
        steps = [1 if len(one.shape) == 1 else one.shape[0] for one in facts]
        return f"width {_range([one.shape[-1] for one in facts])}, {_range(steps)} steps"
    return f"{_range(first)} characters"


def _range(values: list) -> str:
    low, high = min(values), max(values)
    return f"{low:g}" if low == high else f"{low:g}..{high:g}"


if __name__ == "__main__":
    cli.run_command(main)
