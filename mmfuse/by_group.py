"""A metric by group of the test split (a relation of a graph, say), beside the table of a workdir.

A record has the metric by group where its task sums it so: ``metrics["test"]["mrr_by_group"]``, a
list over the groups, None for one without an example. The card's ``group_names`` are their names,
and its ``references`` may have their values ``by_group``. No jax.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from typing import Any

from mmfuse import cells
from mmfuse.errors import InputError, listed, nearest
from mmfuse.measures import measure
from mmfuse.mixing import refuse_mixed
from mmfuse.stats import Summary, summary
from mmfuse.tables import escape_markdown, grid

SUFFIX = "_by_group"
Groups = dict[str, Summary]  # {name of a group: over the seeds}


def by_group(records: Sequence[Mapping[str, Any]], metric: str) -> dict[str, Groups]:
    """``{row: {group: Summary over seeds}}`` of the finished runs; empty groups are left out.

    Raises:
      InputError: the records cannot be mixed, none has finished, or they have no such metric.
    """
    refuse_mixed(records)
    done = [record for record in records if record["status"] == "done"]
    if not done:
        raise InputError("no run has finished, so there is nothing to show by group")
    known = [k.removesuffix(SUFFIX) for k in done[0]["metrics"]["test"] if k.endswith(SUFFIX)]
    if metric not in known:
        raise InputError(f"no '{metric}' by group{nearest(metric, known)}{listed(known)}")
    names = group_names(done[0], len(done[0]["metrics"]["test"][metric + SUFFIX]))
    values: dict[str, dict[str, list[float]]] = {}
    for record in done:
        row = values.setdefault(record["row"], {name: [] for name in names})
        for name, value in zip(names, record["metrics"]["test"][metric + SUFFIX], strict=True):
            if value is not None:
                row[name].append(value)
    return {
        row: {name: summary(found) for name, found in groups.items() if found}
        for row, groups in values.items()
    }


def group_names(record: Mapping[str, Any], count: int) -> list[str]:
    """What the card calls the groups, or their numbers."""
    names = record["data"]["card"].get("group_names", [])
    return list(names) if len(names) == count else [str(number) for number in range(count)]


def references(record: Mapping[str, Any], metric: str) -> dict[str, dict[str, float]]:
    """``{name of a reference: {group: value}}``, of those that have values by group."""
    found = {}
    for entry in record.get("reference") or []:
        if entry["metric"] == metric and entry.get("by_group"):
            names = group_names(record, len(entry["by_group"]))
            pairs = zip(names, entry["by_group"], strict=True)
            found[entry["name"]] = {name: value for name, value in pairs if value is not None}
    return found


def markdown(records: Sequence[Mapping[str, Any]], metric: str) -> str:
    """Means over seeds: a line for each row, and below them the references; best in bold."""
    found, m = by_group(records, metric), measure(metric)
    groups = list(dict.fromkeys(name for row in found.values() for name in row))
    means = {row: {g: s.mean for g, s in values.items()} for row, values in found.items()}
    best = {
        g: (max if m.higher else min)(m.rounded(row[g]) for row in means.values() if g in row)
        for g in groups
    }

    def line(name: str, values: Mapping[str, float], bold: bool) -> list[str]:
        texts = [cells.number(values.get(g), m) for g in groups]
        marks = ["**" * (bold and g in values and m.rounded(values[g]) == best[g]) for g in groups]
        texts = [f"{mark}{text}{mark}" for text, mark in zip(texts, marks, strict=True)]
        return [escape_markdown(name), *texts]

    body = [line(row, values, bold=True) for row, values in means.items()]
    others = [line(name, v, bold=False) for name, v in references(records[0], metric).items()]
    title = f"{m.title} ({m.unit})" if m.unit else m.title
    header = [f"{title} by group", *map(escape_markdown, groups)]
    spread = max((s.sd or 0 for row in found.values() for s in row.values()), default=0)
    notes = [
        f"- Means over n = {max(s.n for row in found.values() for s in row.values())} seeds, test "
        f"split; the largest standard deviation is {cells.number(spread, m)}. Bold: best of the "
        "rows."
    ]
    return "\n".join([*grid(header, body, others), "", *notes]) + "\n"


def table_csv(records: Sequence[Mapping[str, Any]], metric: str) -> str:
    """One line for each row and group, numbers in full, then the references."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["method", "kind", "group", "metric", "mean", "sd", "n"])
    for row, groups in by_group(records, metric).items():
        for name, s in groups.items():
            writer.writerow([row, "trained", name, metric, s.mean, s.sd, s.n])
    for name, groups in references(records[0], metric).items():
        for group, value in groups.items():
            writer.writerow([name, "reference", group, metric, value, "", ""])
    return out.getvalue()


FORMATS = {"md": markdown, "csv": table_csv}
