"""Ranks the rows of several ablations, one a data set, and says which differ over all of them.

    python -m experiments.compare --workdir=DIR --workdir=DIR ... [--format=md|csv|json]
        [--into=FILE]

Rows that every workdir has finished are compared, each by its mean test score over seeds. Mean
ranks, Friedman's and Nemenyi's tests; where all share one metric also the interquartile mean of all
runs. ``json`` has what a critical-difference diagram needs.

Exit codes: 0 done, 2 bad input (one line on stderr). Nothing is trained or imported from jax.
"""

from __future__ import annotations

import argparse
import csv
import dataclasses
import io
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from experiments.table import Parser, check_format, printed, strict
from mmfuse.cells import mean_sd, number, p_value
from mmfuse.errors import InputError, listed
from mmfuse.measures import measure
from mmfuse.record import dumps, write_atomic
from mmfuse.stats.several import Ranking, iqm, iqm_interval, ranking
from mmfuse.summary import Row, Table, summarise
from mmfuse.tables import escape_markdown, grid
from mmfuse.workdir import Workdir


@dataclasses.dataclass(frozen=True)
class Comparison:
    """Rows over data sets.

    Attributes:
      tables: ``{data set: Table}``, data sets by the names of their ablations.
      ranking: of the rows that all of them have finished.
      middle: ``{row: (iqm, low, high)}``, empty where the metrics differ.
      left_out: the rows that some data set lacks.
    """

    tables: dict[str, Table]
    ranking: Ranking
    middle: dict[str, tuple[float, float, float]]
    left_out: tuple[str, ...]


def main() -> int:
    """Prints the comparison, or ``error: ...``."""
    return printed(_text)


def _text(arguments: Sequence[str]) -> str:
    parser = Parser(prog="python -m experiments.compare", description=__doc__, allow_abbrev=False,
                    formatter_class=argparse.RawDescriptionHelpFormatter)  # fmt: skip
    parser.add_argument("--workdir", action="append", required=True, help="one a data set")
    parser.add_argument("--format", default="md", help=f"one of {', '.join(FORMATS)}")
    parser.add_argument("--into", help="the file to write, instead of printing it")
    options = strict(parser, arguments)
    check_format(options.format, FORMATS)
    text = FORMATS[options.format](compare(_tables(options.workdir)))
    if options.into:
        write_atomic(options.into, text)
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


def compare(tables: Mapping[str, Table]) -> Comparison:
    """Returns the comparison of at least two data sets and two rows that all of them have.

    Raises:
      InputError: there are fewer.
    """
    if len(tables) < 2:
        raise InputError("give --workdir at least twice: ranks need several data sets")
    finished = {name: {r.name: r for r in t.rows if _mean(t, r) is not None}
                for name, t in tables.items()}  # fmt: skip
    every = dict.fromkeys(row for rows in finished.values() for row in rows)
    shared = [row for row in every if all(row in rows for rows in finished.values())]
    if len(shared) < 2:
        raise InputError(
            f"the workdirs share {len(shared)} finished row(s); a comparison needs two"
            f"{listed(every)}"
        )
    scores = {row: [_mean(t, finished[name][row]) for name, t in tables.items()] for row in shared}
    higher = [measure(table.metric).higher for table in tables.values()]
    middle = {}
    if len({table.metric for table in tables.values()}) == 1:
        for row in shared:
            runs = [list(finished[name][row].values[t.metric].values())
                    for name, t in tables.items()]  # fmt: skip
            middle[row] = (iqm(runs), *iqm_interval(runs))
    left_out = tuple(row for row in every if row not in shared)
    return Comparison(dict(tables), ranking(scores, higher), middle, left_out)


def _mean(table: Table, row: Row) -> float | None:
    return row.metrics[table.metric].mean


def _row(table: Table, name: str) -> Row:
    return next(row for row in table.rows if row.name == name)


def _markdown(found: Comparison) -> str:
    titles = ["Method", "Mean rank"]
    for name, table in found.tables.items():
        m = measure(table.metric)
        unit = f" ({m.unit})" if m.unit else ""
        titles.append(f"{name}: {m.title}{'' if m.higher else ' ↓'}{unit}")
    lines = []
    for name, rank in zip(found.ranking.names, found.ranking.ranks, strict=True):
        line = [name, f"{rank:.2f}"]
        for table in found.tables.values():
            s = _row(table, name).metrics[table.metric]
            line.append(mean_sd(s, measure(table.metric), len(table.seeds)))
        if found.middle:
            m = measure(next(iter(found.tables.values())).metric)
            middle, low, high = (number(x, m) for x in found.middle[name])
            line.append(f"{middle} [{low}, {high}]")
        lines.append([escape_markdown(cell) for cell in line])
    header = [escape_markdown(title) for title in titles + ["IQM"] * bool(found.middle)]
    notes = [f"- {escape_markdown(note)}" for note in _notes(found)]
    return "\n".join([*grid(header, lines), "", *notes]) + "\n"


def _notes(found: Comparison) -> list[str]:
    r = found.ranking
    tested = "all rows tie on every data set"
    if r.p is not None:
        verdict = "rows differ" if r.p <= r.level else "no difference shown, so no pair is tested"
        tested = f"chi square {r.statistic:.2f}, {p_value(r.p)}: {verdict}"
    notes = [
        f"Mean rank over {r.datasets} data sets, 1 is best; each counts once, by its mean over "
        f"seeds. Friedman's test, level {r.level:g}: {tested}.",
        f"Nemenyi's test: two rows differ if their mean ranks are {r.critical:.2f} apart.",
    ]
    for group in r.cliques:
        notes.append(f"Not told apart: {', '.join(group)}.")
    if found.middle:
        notes.append(
            "IQM: interquartile mean of all runs, with the 95 % interval of a bootstrap within "
            "each data set: other seeds, not other data sets; too narrow where seeds are few."
        )
    if found.left_out:
        notes.append(f"Left out, not finished on every data set: {', '.join(found.left_out)}.")
    return notes


def _lines(found: Comparison) -> list[dict[str, Any]]:
    lines = []
    for name, rank in zip(found.ranking.names, found.ranking.ranks, strict=True):
        line = {"method": name, "mean_rank": rank}
        for data, table in found.tables.items():
            line[f"{data} {table.metric}"] = _mean(table, _row(table, name))
        middle = found.middle.get(name, (None, None, None))
        lines.append(line | dict(zip(("iqm", "iqm_low", "iqm_high"), middle, strict=True)))
    return lines


def _csv(found: Comparison) -> str:
    lines, out = _lines(found), io.StringIO()
    writer = csv.DictWriter(out, list(lines[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    return out.getvalue()


def _json(found: Comparison) -> str:
    ranks = dataclasses.asdict(found.ranking)
    ranks["pairs"] = [{"rows": list(pair), "p": p} for pair, p in found.ranking.pairs.items()]
    metrics = {name: table.metric for name, table in found.tables.items()}
    content = {"metrics": metrics, "rows": _lines(found), "notes": _notes(found)}
    return dumps({"format": 1, "ranking": ranks, "left_out": found.left_out, **content})


FORMATS = {"md": _markdown, "csv": _csv, "json": _json}

if __name__ == "__main__":
    sys.exit(main())
