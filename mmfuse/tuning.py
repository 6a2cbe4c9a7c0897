"""What a tuning found: the chosen settings, and how good the best of n trials is expected to be.

No jax and no optuna here: ``tuning.json`` holds all that is printed.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from typing import Any

from mmfuse import cells
from mmfuse.measures import Measure, measure
from mmfuse.notes import setting
from mmfuse.tables import escape_markdown
from mmfuse.trials import Trial

EDGE = 0.05  # of the searched range
MARK = "†"


def choose(trials: Sequence[Trial], higher: bool) -> Trial | None:
    """The best trial: by score, then by lower validation loss, then the one that came first.

    None if no trial has a score.
    """
    sign = 1 if higher else -1
    scored = [trial for trial in trials if trial.score is not None]
    loss = lambda t: math.inf if t.loss is None else t.loss  # noqa: E731
    return min(scored, key=lambda t: (-sign * t.score, loss(t), t.number), default=None)


def expected_best(scores: Sequence[float | None], n: int, higher: bool = True) -> float | None:
    """The expected best score of a search of n trials, from the scores of N >= n random ones.

    Dodge et al. (2019, "Show Your Work", arXiv:1909.03004) draw the n of the N scores *with*
    replacement. That is too low: N draws miss the best score with probability (1 - 1/N)^N, about
    0.36. Here they are drawn *without* replacement, which is unbiased (Tang et al. 2020, "Showing
    Your Work Doesn't Always Work", arXiv:2004.13705): the mean of the best over all subsets of size
    n. With v_1 <= ... <= v_N that is

        E[max of n] = sum_i v_i * C(i - 1, n - 1) / C(N, n),

    the mean of all scores at n = 1 and the best one at n = N. For a metric where lower is better it
    is E[min of n]. A trial without a score (it diverged) can never be the best of those that have
    one: it counts as the worst score there is. None without any score.

    Raises:
      ValueError: n is not in 1..N.
    """
    if not 1 <= n <= len(scores):
        raise ValueError(f"n must lie in 1..{len(scores)}, not {n}")
    sign = 1 if higher else -1
    known = sorted(sign * score for score in scores if score is not None)
    if not known:
        return None
    ordered = [known[0]] * (len(scores) - len(known)) + known
    total = math.comb(len(ordered), n)
    shares = (math.comb(i, n - 1) / total for i in range(len(ordered)))
    return sign * math.fsum(share * v for share, v in zip(shares, ordered, strict=True))


def budgets(trials: int) -> list[int]:
    """The numbers of trials that are shown: all of them, half of them, and so on down to one."""
    return [trials >> i for i in reversed(range(trials.bit_length()))]


def near_edge(value: Any, entry: Sequence[Any]) -> bool:
    """Whether a chosen value lies in the outer ``EDGE`` of its range, so that more may be beyond.

    ``entry`` is ("log" | "uniform" | "integer", low, high); a choice has no edge.
    """
    kind, *ends = entry
    if kind == "choice":
        return False
    if kind == "integer":
        return value in ends
    low, high, x = (math.log(v) if kind == "log" else v for v in (*ends, value))
    return min(x - low, high - x) < EDGE * (high - low)


def summarise(
    facts: Mapping[str, Any],
    found: Mapping[str, Sequence[Trial]],
    *,
    name: str,
    higher: bool,
    examples: int,
) -> dict[str, Any]:
    """All that ``tuning.json`` says; a function of the finished trials.

    Args:
      facts: trials, seed, metric and space, of ``Search.facts``.
      found: ``{row: trials}`` with the same number of trials in every row.
      name: of the ablation.
      higher: whether a higher score is better.
      examples: of the validation split.
    """
    shown = budgets(facts["trials"])
    rows = []
    for row, trials in found.items():
        best, scores = choose(trials, higher), [trial.score for trial in trials]
        rows.append(
            {
                "name": row,
                "chosen": best.values if best else None,
                "trial": best.number if best else None,
                "score": best.score if best else None,
                "expected": [expected_best(scores, n, higher) for n in shown],
                "epochs": sum(trial.epochs for trial in trials),
                "unscored": sum(score is None for score in scores),
            }
        )
    shared = {"format": 1, "name": name, "higher": higher, "examples": examples, "budgets": shown}
    return dict(facts) | shared | {"rows": rows}


def render_csv(found: Mapping[str, Sequence[Trial]], space: Mapping[str, Any]) -> str:
    """One line per trial, numbers in full."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    rest = ("score", "loss", "epoch", "epochs", "diverged")
    writer.writerow(["method", "trial", *space, *(f"valid_{name}" for name in rest[:2]), *rest[2:]])
    for row, trials in found.items():
        for trial in trials:
            values = [trial.values[key] for key in space]
            facts = [getattr(trial, name) for name in rest]
            writer.writerow([row, trial.number, *values, *facts])
    return out.getvalue()


def render_markdown(tuning: Mapping[str, Any]) -> str:
    """The table of a tuning and its notes, from what ``summarise`` returned."""
    m, space, rows = measure(tuning["metric"]), tuning["space"], tuning["rows"]
    unit = f" ({m.unit})" if m.unit else ""
    titles = ["Method", *space, "Epochs", f"Best valid {m.title}{unit}"]
    titles += [f"E[best of {n}]" for n in tuning["budgets"]]
    marks = len(tuning["budgets"]) > 1
    titles += [f"Last {_last(tuning)} trials"] if marks else []
    lines = [[escape_markdown(title) for title in titles]]
    lines.append(["---", *["---:"] * (len(titles) - 1)])
    leaders = [_leaders(rows, i, m) for i in range(len(tuning["budgets"]))]
    for row in rows:
        chosen = [_chosen(row, key, entry) for key, entry in space.items()]
        line = [escape_markdown(row["name"]), *chosen, f"{row['epochs']:,}"]
        line.append(cells.number(row["score"], m))
        for i, value in enumerate(row["expected"]):
            text = cells.number(value, m)
            line.append(f"**{text}**" if row["name"] in leaders[i] else text)
        lines.append(line + ([_gain(row, m)] if marks else []))
    notes = [f"- {escape_markdown(note)}" for note in _notes(tuning, m, leaders)]
    return "\n".join([*(f"| {' | '.join(line)} |" for line in lines), "", *notes]) + "\n"


def _last(tuning: Mapping[str, Any]) -> int:
    return tuning["budgets"][-1] - tuning["budgets"][-2]


def _leaders(rows: Sequence[Mapping], i: int, m: Measure) -> list[str]:
    """The rows whose i-th expected best prints best."""
    printed = {r["name"]: m.rounded(r["expected"][i]) for r in rows if r["chosen"]}
    top = (max if m.higher else min)(printed.values(), default=None)
    return [name for name, value in printed.items() if value == top]


def _chosen(row: Mapping[str, Any], key: str, entry: Sequence[Any]) -> str:
    if not row["chosen"]:
        return cells.UNDEFINED
    value = row["chosen"][key]
    return escape_markdown(setting(value)) + (f" {MARK}" if near_edge(value, entry) else "")


def _gain(row: Mapping[str, Any], m: Measure) -> str:
    if not row["chosen"]:
        return cells.UNDEFINED
    return f"{m.rounded(row['expected'][-1] - row['expected'][-2]):+.{m.digits}f}"


def _notes(tuning: Mapping[str, Any], m: Measure, leaders: Sequence[Sequence[str]]) -> list[str]:
    rows, trials, lost = tuning["rows"], tuning["trials"], []
    for row in rows:
        if row["unscored"]:
            lost.append(f"{row['name']} {row['unscored']}")
    searched = "; ".join(f"{key} {_range(entry)}" for key, entry in tuning["space"].items())
    better = "" if m.higher else " Lower is better."
    notes = [
        f"Budget: {trials} trials a row, the same {trials} settings for every row, none pruned. "
        "Epochs: of all trials of the row together.",
        f"Search: random; {searched}. The trials have a seed of their own ({tuning['seed']}); the "
        "chosen setting was trained anew with the seeds of the table.",
        f"Score: {m.title} on the {tuning['examples']:,} validation examples at the chosen epoch; "
        "equal scores: the lower validation loss. The test split stayed closed."
        f"{better}",
        f"E[best of n]: expected best score of a search of n trials, the mean over all subsets of "
        f"n of the {trials} (without replacement, so unbiased for n trials; after Dodge et al. "
        "2019). Bold: the row that leads at that budget.",
    ]
    if len(leaders) > 1:
        notes.append(
            f"Last {_last(tuning)} trials: what the step from {tuning['budgets'][-2]} trials to "
            f"{trials} is worth. It cannot be negative: compare it between rows, and with what one "
            f"validation example is worth, {100 / tuning['examples']:.2f} % of them."
        )
        if leaders[0] and not set(leaders[0]) & set(leaders[-1]):
            notes.append(
                f"The order depends on the budget: {', '.join(leaders[0])} leads with one trial, "
                f"{', '.join(leaders[-1])} with {trials}."
            )
    if lost:
        notes.append(f"Trials without a score, which count as the row's worst: {', '.join(lost)}.")
    edges = [
        f"{key} of {row['name']}"
        for row in rows
        for key, entry in tuning["space"].items()
        if row["chosen"] and near_edge(row["chosen"][key], entry)
    ]
    if edges:
        notes.append(
            f"{MARK} in the outer {100 * EDGE:.0f} % of the searched range, so there may be better "
            f"beyond: {', '.join(edges)}."
        )
    return notes


def _range(entry: Sequence[Any]) -> str:
    kind, *numbers = entry
    if kind == "choice":
        return f"one of {', '.join(map(str, numbers))}"
    how = {"log": "log-uniform", "uniform": "uniform", "integer": "whole"}[kind]
    return f"{how} in [{numbers[0]:g}, {numbers[1]:g}]"
