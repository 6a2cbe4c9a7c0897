"""Ranks the rows of several ablations, one a data set, and says which differ over all of them.

    python -m experiments.compare --workdir=DIR --workdir=DIR ... [--format=md|csv|json]
        [--into=FILE]

Rows that every workdir has finished are compared, each by its mean test score over seeds. Mean
ranks, Friedman's and Nemenyi's tests; where all share one metric also the interquartile mean of all
runs. ``json`` has what a critical-difference diagram needs.

``--into`` writes the comparison between the lines ``<!-- table comparison -->`` and ``<!-- /table
-->`` of a text file instead of printing it; a file that does not exist is made with such a place.

Exit codes: 0 done, 2 bad input (one line on stderr). Nothing is trained or imported from jax.
"""

from __future__ import annotations

import argparse
import csv
import dataclasses
import io
import sys
from collections.abc import Sequence

from experiments.table import Parser, check_format, insert, printed, strict
from mmfuse.comparison import Comparison, body, compare, header, lines, notes
from mmfuse.errors import InputError
from mmfuse.record import dumps
from mmfuse.summary import Table, summarise
from mmfuse.tables import escape_markdown, grid
from mmfuse.workdir import Workdir

PLACE = "comparison"


def main() -> int:
    """Prints the comparison, or ``error: ...``."""
    return printed(_text)


def _text(arguments: Sequence[str]) -> str:
    parser = Parser(prog="python -m experiments.compare", description=__doc__, allow_abbrev=False,
                    formatter_class=argparse.RawDescriptionHelpFormatter)  # fmt: skip
    parser.add_argument("--workdir", action="append", required=True, help="one a data set")
    parser.add_argument("--format", default="md", help=f"one of {', '.join(FORMATS)}")
    parser.add_argument("--into", help="a text file with a place for the comparison")
    options = strict(parser, arguments)
    check_format(options.format, FORMATS)
    text = FORMATS[options.format](compare(_tables(options.workdir)))
    if options.into:
        insert(options.into, PLACE, text)
    return "" if options.into else text


def _tables(folders: Sequence[str]) -> dict[str, Table]:
    found: dict[str, Table] = {}
    for folder in folders:
        workdir = Workdir(folder)
        ablation = workdir.ablation()
        identity = ablation["identity"]
        records = workdir.records()
        if not records:
            raise InputError(f"workdir '{folder}' holds no finished run yet")
        name = identity.get("name") or folder
        if name in found:
            raise InputError(f"two workdirs hold the ablation '{name}'; a data set counts once")
        found[name] = summarise(
            records,
            metric=identity.get("metric"),
            rows=ablation["row_order"],
            seeds=identity.get("seeds"),
        )
    return found


def _markdown(found: Comparison) -> str:
    titles = [escape_markdown(title) for title in header(found)]
    cells = [[escape_markdown(cell) for cell in line] for line in body(found)]
    said = [f"- {escape_markdown(note)}" for note in notes(found)]
    return "\n".join([*grid(titles, cells), "", *said]) + "\n"


def _csv(found: Comparison) -> str:
    rows, out = lines(found), io.StringIO()
    writer = csv.DictWriter(out, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()


def _json(found: Comparison) -> str:
    ranks = dataclasses.asdict(found.ranking)
    ranks["pairs"] = [{"rows": list(pair), "p": p} for pair, p in found.ranking.pairs.items()]
    metrics = {name: table.metric for name, table in found.tables.items()}
    content = {"metrics": metrics, "rows": lines(found), "notes": notes(found)}
    return dumps({"format": 1, "ranking": ranks, "left_out": found.left_out, **content})


FORMATS = {"md": _markdown, "csv": _csv, "json": _json}

if __name__ == "__main__":
    sys.exit(main())
