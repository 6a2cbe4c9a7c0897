"""Says which methods reach the known optimum of a task, and which stay at what part of it allows.

    python -m experiments.reach WORKDIR [WORKDIR ...] [--into=FILE]

Each WORKDIR holds a finished ablation of a generated dataset, whose optima are enumerated. For
every method a cell holds its score, and on how many seeds it reached the optimum (within
``MARGIN``). A method whose mean is not above the *floor*, what one modality alone or a mean over
time allows, by more than ``ERRORS`` standard errors of the test split has not used what the task
asks for. The first table counts methods by family, the second lists them.
"""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from experiments import cli
from mmfuse.errors import InputError
from mmfuse.fusion import FUSIONS
from mmfuse.fusion.about import about
from mmfuse.stats import Summary, summary
from mmfuse.workdir import Workdir

MARGIN = 0.02  # of accuracy
ERRORS = 3
VERDICTS = ("reaches", "on some seeds", "in part", "no")


@dataclasses.dataclass(frozen=True)
class Task:
    """The finished runs of one ablation, by method.

    Attributes:
      name: of the ablation.
      floor: the best accuracy from one modality alone, or from means over time where timing counts.
      optimum: the best accuracy there is.
      error: standard error of a score at the floor, from the size of the test split.
      scores: ``{fusion: {seed: test accuracy}}``.
      origin: the command and the commit that made it.
    """

    name: str
    floor: float
    optimum: float
    error: float
    scores: dict[str, dict[int, float]]
    origin: str


def main(argv: list[str]) -> int:
    """The command; returns its exit code."""
    return cli.page_of_workdirs(
        "experiments.reach", __doc__, argv, lambda folders: _page([read(f) for f in folders])
    )


def read(folder: str) -> Task:
    """One workdir as a task with known bounds.

    Raises:
      InputError: nothing has finished there, or the data has no enumerated optimum.
    """
    workdir = Workdir(folder)
    records = [record for record in workdir.records() if record["status"] == "done"]
    if not records:
        raise InputError(f"workdir '{folder}' holds no finished run yet")
    card = records[0]["data"]["card"]
    floor, optimum = bounds(card, folder)
    error = math.sqrt(floor * (1 - floor) / card["splits"]["test"])
    scores: dict[str, dict[int, float]] = {}
    for record in records:
        if len(record["reads"]) == len(card["modalities"]):
            of_row = scores.setdefault(record["config"]["fusion"]["name"], {})
            of_row[record["seed"]] = record["metrics"]["test"]["accuracy"]
    commits = dict.fromkeys(str(record["git"]["commit"])[:12] for record in records)
    origin = f"`{workdir.ablation()['command']}` at commit {', '.join(commits)}"
    return Task(workdir.ablation()["identity"]["name"], floor, optimum, error, scores, origin)


def bounds(card: Mapping[str, Any], where: str) -> tuple[float, float]:
    """(floor, optimum) of a dataset card with enumerated optima."""
    optima, full = card.get("optima", {}), "+".join(sorted(card["modalities"]))
    if full not in optima:
        raise InputError(f"workdir '{where}': the optimum of '{card['name']}' is not known")
    parts = [*card["modalities"], "chance", f"{full} (pooled)"]
    return max(optima[part] for part in parts if part in optima), optima[full]


def verdict(task: Task, scores: Mapping[int, float]) -> str:
    """One of ``VERDICTS``."""
    there = [score >= task.optimum - MARGIN for score in scores.values()]
    if any(there):
        return "reaches" if all(there) else "on some seeds"
    mean = sum(scores.values()) / len(scores)
    return "in part" if mean > task.floor + ERRORS * task.error else "no"


def _page(tasks: Sequence[Task]) -> Iterator[str]:
    methods = [name for name in FUSIONS if all(name in task.scores for task in tasks)]
    families = {name: about(FUSIONS[name]).family for name in methods}
    yield "# Who reaches the optimum"
    yield ""
    yield "Written by `python -m experiments.reach`. The optima are enumerated, not estimated."
    yield ""
    for task in tasks:
        yield (
            f"- **{task.name}**: floor {100 * task.floor:.2f}, optimum {100 * task.optimum:.2f}; "
            f"{task.origin}."
        )
    yield ""
    yield (
        "*Floor*: the best accuracy from one modality alone, or, where timing counts, from all of "
        f"them as means over time. *Reaches*: every seed within {100 * MARGIN:.0f} points of the "
        "optimum; *on some seeds*: at least one; *in part*: none, but the mean is above the floor "
        f"by more than {ERRORS} standard errors of the test split; *no*: it is not. What a method "
        "can represent, and why, is told under *Limits* in its docstring ([the "
        "gallery](fusions.md)); what it finds within the budget that all rows share is told here."
    )
    yield ""
    yield from _families(tasks, methods, families)
    yield ""
    yield from _methods(tasks, methods, families)


def _families(
    tasks: Sequence[Task], methods: Sequence[str], families: Mapping[str, str]
) -> Iterator[str]:
    titles = [f"{task.name}: {kind}" for task in tasks for kind in VERDICTS]
    yield f"| Family | Methods | {' | '.join(titles)} |"
    yield f"|---|{'---:|' * (1 + len(titles))}"
    for family in dict.fromkeys(families.values()):
        mine = [name for name in methods if families[name] == family]
        cells = [str(len(mine))]
        for task in tasks:
            counts = Counter(verdict(task, task.scores[name]) for name in mine)
            cells += [str(counts[kind]) for kind in VERDICTS]
        yield f"| {family} | {' | '.join(cells)} |"


def _methods(
    tasks: Sequence[Task], methods: Sequence[str], families: Mapping[str, str]
) -> Iterator[str]:
    titles = [f"{task.name} (%) | verdict" for task in tasks]
    yield f"| Method | Family | {' | '.join(titles)} |"
    yield f"|---|---|{'---:|---|' * len(tasks)}"
    for name in methods:
        cells = []
        for task in tasks:
            scores = task.scores[name]
            cells += [_score(summary(list(scores.values()))), _told(task, scores)]
        yield f"| [{name}](fusions.md#{name}) | {families[name]} | {' | '.join(cells)} |"


def _score(found: Summary) -> str:
    spread = "" if found.sd is None else f" ± {100 * found.sd:.2f}"
    return f"{100 * found.mean:.2f}{spread}"


def _told(task: Task, scores: Mapping[int, float]) -> str:
    said = verdict(task, scores)
    there = sum(score >= task.optimum - MARGIN for score in scores.values())
    return f"{said} ({there}/{len(scores)})" if said == "on some seeds" else said


if __name__ == "__main__":
    cli.run_command(main)
