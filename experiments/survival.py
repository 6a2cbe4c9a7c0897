"""Says which fusion survives compression best: what each loses by each way of being smaller.

    python -m experiments.survival --workdir=DIR [--into=FILE]

DIR holds a finished ablation in which rows named ``ROW, WAY`` have ROW as their baseline. A line a
row, a column a way: the score minus that of the row as it was, paired by seed, with its 95 %
interval. Rows of several ways are ranked by what they lose in those they share, each counting once;
Friedman's and Nemenyi's tests say whether the ranks tell more than chance. From records alone.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from experiments.table import Parser, insert, printed, strict
from mmfuse.cells import mean_sd, p_value, versus
from mmfuse.errors import InputError
from mmfuse.measures import measure
from mmfuse.stats.several import Ranking, ranking
from mmfuse.summary import Row, Table, summarise
from mmfuse.tables import escape_markdown, grid
from mmfuse.workdir import Workdir

Losses = dict[str, dict[str, Row]]  # {row: {way: the compressed row}}


def main() -> int:
    """Prints the page, or ``error: ...``."""
    return printed(_text)


def _text(arguments: Sequence[str]) -> str:
    parser = Parser(prog="python -m experiments.survival", allow_abbrev=False)
    parser.add_argument(
        "--workdir", required=True, help="the folder that experiments.ablate filled"
    )
    parser.add_argument("--into", help="a text file with a place for the page")
    options = strict(parser, arguments)
    workdir = Workdir(options.workdir)
    ablation, records = workdir.ablation(), workdir.records()
    if not records:
        raise InputError(f"workdir '{workdir.path}' holds no finished run yet")
    table = summarise(
        records,
        metric=ablation["identity"]["metric"],
        baseline=ablation.get("baseline"),
        baselines=ablation.get("baselines"),
        rows=ablation["row_order"],
        seeds=ablation["identity"]["seeds"],
    )
    text = page(table)
    if options.into:
        insert(options.into, f"{ablation['identity']['name']} survival", text)
    return "" if options.into else text


def losses(table: Table) -> Losses:
    """The rows that are compared with another one whose name theirs begins with, by way.

    Raises:
      InputError: there are none.
    """
    found: Losses = {}
    for row in table.rows:
        base, comma, way = row.name.partition(", ")
        if comma and base == row.baseline:
            found.setdefault(base, {})[way] = row
    if not found:
        raise InputError("no row is named 'ROW, WAY' with ROW as its baseline")
    return found


def page(table: Table) -> str:
    """The lines of Markdown: the losses, the ranks by them, and what was tested."""
    found, m = losses(table), measure(table.metric)
    ways = list(dict.fromkeys(way for rows in found.values() for way in rows))
    ranks = _ranking(found, ways, m.higher)
    places = dict(zip(ranks.names, ranks.ranks, strict=True)) if ranks else {}
    order = [*places, *(name for name in found if name not in places)]
    as_it_was = {row.name: row.metrics[table.metric] for row in table.rows}
    body = []
    for name in order:
        line = [name, f"{places[name]:.2f}" if name in places else "-"]
        line.append(mean_sd(as_it_was[name], m, len(table.seeds)) if name in as_it_was else "-")
        line += [versus(found[name][w], m) if w in found[name] else "-" for w in ways]
        body.append([escape_markdown(cell) for cell in line])
    unit = f" ({m.unit})" if m.unit else ""
    titles = ["Row", "Mean rank", f"{m.title}{unit} as it was", *ways]
    lines = grid([escape_markdown(title) for title in titles], body)
    return "\n".join([*lines, "", *(f"- {escape_markdown(x)}" for x in _notes(ranks))]) + "\n"


def _ranking(found: Losses, ways: Sequence[str], higher: bool) -> Ranking | None:
    """Ranks the rows with several ways by those that all of these have, all seeds finished."""
    means = {
        name: {w: row.difference.mean for w, row in rows.items() if row.complete}
        for name, rows in found.items()
    }
    means = {name: losses for name, losses in means.items() if len(losses) > 1}
    shared = [w for w in ways if all(losses.get(w) is not None for losses in means.values())]
    if len(means) < 2 or len(shared) < 2:
        return None
    scores = {name: [losses[w] for w in shared] for name, losses in means.items()}
    return ranking(scores, [higher] * len(shared))


def _notes(ranks: Ranking | None) -> list[str]:
    said = [
        "A cell: the score minus that of the row as it was, paired by seed, with its 95 % "
        "t-interval, not corrected for the number of cells."
    ]
    if ranks is None:
        return [*said, "Not ranked: fewer than two rows have finished every way."]
    tested = "all rows tie"
    if ranks.p is not None:
        differ = "rows differ" if ranks.p <= ranks.level else "no difference between rows shown"
        tested = f"chi square {ranks.statistic:.2f}, {p_value(ranks.p)}: {differ}"
    said.append(
        f"Mean rank: of the loss over the {ranks.datasets} ways that all share, 1 loses least. "
        f"Friedman's test, level {ranks.level:g}: {tested}. Nemenyi: two rows differ from "
        f"{ranks.critical:.2f} apart on. "
        "The ways share the seeds and some share the training, so the tests are too sure."
    )
    return said


if __name__ == "__main__":
    sys.exit(main())
