"""The page of known answers: which interactions a method uses, and whether theory said so.

    python -m experiments.known WORKDIR ... [--into=docs/known.md]

Each WORKDIR holds a finished ablation of one variant of ``helpdesk`` (``configs/known.py``). For
such data the best accuracy of every kind of method is computed, not estimated:

unimodal   the Bayes accuracy from that modality (from its mean over time where timing counts)
additive   the optimum of ``softmax(sum of g_m)`` with free g_m, see ``additive_accuracy``
pooled     the Bayes accuracy from all modalities, without timing
temporal   the Bayes accuracy from all modalities

A cell is the mean over seeds with its 95 % t-interval, cut at 0 and 100. *As theory says*: the mean
is at most the larger of ``MARGIN`` and ``ERRORS`` standard errors of the test split away from it.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from experiments import cli
from experiments.reach import ERRORS, MARGIN, Task, bounds, verdict
from mmfuse.data.helpdesk_factors import VARIANTS, additive_accuracy, joint, pooled
from mmfuse.errors import InputError
from mmfuse.stats import Summary, summary
from mmfuse.tables import escape_markdown
from mmfuse.workdir import Workdir

KINDS = {  # kind: the methods that are of it by their equation
    "unimodal": ("unimodal",),
    "additive": ("late_average", "sum"),
    "pooled": ("concat", "gmu", "tfn", "lmf", "product", "bilinear"),
    "temporal": ("early_lstm", "bc_lstm", "crossmodal", "mult", "align_pool", "align_conv"),
}


@dataclasses.dataclass(frozen=True)
class Row:
    """One row of one ablation: its kind, what theory says of its accuracy, and its scores."""

    kind: str
    ceiling: float
    scores: dict[int, float]


@dataclasses.dataclass(frozen=True)
class Variant:
    """One ablation: its bounds, and its rows by name."""

    task: Task
    tests: int
    rows: dict[str, Row]


def main(argv: list[str]) -> int:
    """The command; returns its exit code."""
    return cli.page_of_workdirs(
        "experiments.known", __doc__, argv, lambda folders: _page([read(f) for f in folders])
    )


def read(folder: str) -> Variant:
    """A workdir of a variant of ``helpdesk``, with what theory says of its rows.

    Raises:
      InputError: nothing has finished there, it is other data, or a method's kind is not known.
    """
    workdir = Workdir(folder)
    records = [record for record in workdir.records() if record["status"] == "done"]
    if not records:
        raise InputError(f"workdir '{folder}' holds no finished run yet")
    card = records[0]["data"]["card"]
    if card.get("variant") not in VARIANTS:
        raise InputError(f"workdir '{folder}': theory knows helpdesk, not '{card['name']}'")
    rows: dict[str, Row] = {}
    additive = _additive(card["variant"])
    for record in records:
        kind = _kind(record, folder)
        ceiling = additive if kind == "additive" else _ceiling(kind, record["reads"], card)
        row = rows.setdefault(record["row"], Row(kind, ceiling, {}))
        row.scores[record["seed"]] = record["metrics"]["test"]["accuracy"]
    floor, optimum = bounds(card, folder)
    tests, content = card["splits"]["test"], workdir.ablation()
    error = math.sqrt(floor * (1 - floor) / tests)
    commits = dict.fromkeys(str(record["git"]["commit"])[:12] for record in records)
    origin = f"`{content['command']}` at commit {', '.join(commits)}"
    task = Task(card["variant"], floor, optimum, error, {}, origin)
    return Variant(task, tests, rows)


def _kind(record: Mapping[str, Any], where: str) -> str:
    name = record["config"]["fusion"]["name"]
    for kind, methods in KINDS.items():
        if name in methods:
            return kind
    known = ", ".join(name for names in KINDS.values() for name in names)
    raise InputError(
        f"workdir '{where}': theory has no word on fusion '{name}'; it has on: {known}"
    )


def _additive(variant: str) -> float:
    table = joint(variant)
    return additive_accuracy(pooled(table) if variant == "temporal" else table)


def _ceiling(kind: str, reads: Sequence[str], card: Mapping[str, Any]) -> float:
    """From the card: encoders without timing are used where timing counts."""
    optima, subset = card["optima"], "+".join(sorted(reads))
    if kind == "temporal":
        return optima[subset]
    return optima.get(f"{subset} (pooled)", optima[subset])


def judged(row: Row, tests: int) -> str:
    """Whether the mean is where theory says: "as theory says", "below", or "above" it."""
    error = math.sqrt(row.ceiling * (1 - row.ceiling) / tests)
    far = summary(list(row.scores.values())).mean - row.ceiling
    if abs(far) <= max(MARGIN, ERRORS * error):
        return "as theory says"
    return "below" if far < 0 else "above"


def interval(found: Summary) -> str:
    """The mean in per cent with its t-interval, where there is one, within 0 and 100."""
    if found.low is None:
        return f"{100 * found.mean:.2f}"
    low, high = max(100 * found.low, 0.0), min(100 * found.high, 100.0)
    return f"{100 * found.mean:.2f} [{low:.2f}, {high:.2f}]"


def _page(variants: Sequence[Variant]) -> Iterator[str]:
    names = [n for n in variants[0].rows if all(n in variant.rows for variant in variants)]
    yield "# Known answers: which interactions does a method use?"
    yield ""
    yield "Written by `python -m experiments.known`. All bounds are computed from the tables that"
    yield "the data are drawn from; none is estimated."
    yield ""
    for variant in variants:
        task = variant.task
        yield (
            f"- **{task.name}**: floor {100 * task.floor:.2f}, Bayes optimum "
            f"{100 * task.optimum:.2f}, {variant.tests} test examples; {task.origin}."
        )
    yield ""
    yield "## What each method uses"
    yield ""
    yield (
        "Test accuracy in %, mean over seeds with its 95 % t-interval. An interval is cut at 0 and "
        "100, beyond which no accuracy lies. A cell has none where all its seeds are equal, or it "
        "has one seed: no spread was seen. *Floor*: the best from one "
        "modality alone, or without timing where timing counts. *Reaches*: every seed within "
        f"{100 * MARGIN:.0f} points of the optimum; *on some seeds*: at least one; *in part*: "
        f"none, but the mean is above the floor by {ERRORS} standard errors of the test split; "
        "*no*: it is not."
    )
    yield ""
    bayes = [cell for v in variants for cell in (f"{100 * v.task.optimum:.2f}", "")]
    yield from _table(variants, names, "uses it", _used, [["*Bayes optimum*", "", *bayes]])
    yield "## Does it land where theory says?"
    yield ""
    yield (
        "What the kind of the method allows, and where the mean lies. *Unimodal*: Bayes from its "
        "modality. *Additive*: scores add up over modalities, at the optimum of the cross-entropy. "
        "*Pooled*: Bayes from all modalities as means over time. *Temporal*: Bayes from all. "
        f"Tolerance: {100 * MARGIN:.0f} points or {ERRORS} standard errors of the test split."
    )
    yield ""
    yield from _table(variants, names, "outcome", _landed)
    outcomes = [judged(variant.rows[n], variant.tests) for variant in variants for n in names]
    good = outcomes.count("as theory says")
    yield f"{good} of {len(outcomes)} cells are where theory says."


def _used(variant: Variant, row: Row) -> tuple[str, str]:
    return interval(summary(list(row.scores.values()))), verdict(variant.task, row.scores)


def _landed(variant: Variant, row: Row) -> tuple[str, str]:
    return f"{100 * row.ceiling:.2f}", judged(row, variant.tests)


def _table(
    variants: Sequence[Variant],
    names: Sequence[str],
    title: str,
    cells: Callable[[Variant, Row], tuple[str, str]],
    first: Sequence[Sequence[str]] = (),
) -> Iterator[str]:
    """A line a method with two cells a variant, behind the ``first`` lines."""
    titles = [f"{variant.task.name} | {title}" for variant in variants]
    yield f"| Method | Kind | {' | '.join(titles)} |"
    yield f"|---|---|{'---:|---|' * len(variants)}"
    lines = [
        [escape_markdown(name), variants[0].rows[name].kind]
        + [cell for variant in variants for cell in cells(variant, variant.rows[name])]
        for name in names
    ]
    for line in (*first, *lines):
        yield f"| {' | '.join(line)} |"
    yield ""


if __name__ == "__main__":
    cli.run_command(main)
