"""Puts a report together: one chapter a workdir, and over several a chapter that compares them."""

from __future__ import annotations

import dataclasses
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from mmfuse import cells
from mmfuse.markup import Html, joined, tag
from mmfuse.measures import measure
from mmfuse.probes import EXPLAINED, GENERATED, current
from mmfuse.report import probes
from mmfuse.report.confusion import confusions
from mmfuse.report.curves import curves
from mmfuse.report.explain import attention
from mmfuse.report.forest import forest
from mmfuse.report.grid import main_table, note_list
from mmfuse.report.page import Figure, axis_title, document, listed, section, shown
from mmfuse.report.pareto import pareto
from mmfuse.report.provenance import differences, provenance
from mmfuse.report.ranks import ranks
from mmfuse.report.samples import samples
from mmfuse.summary import Row, Table

PROBE = "python -m experiments.probe --workdir={} --what={}"


@dataclasses.dataclass(frozen=True)
class Source:
    """What a chapter is made of.

    Attributes:
      path: of the workdir, as the user gave it.
      table: its comparison table.
      records: all its records.
      ablation: its ``ablation.json``.
      probes: of :func:`mmfuse.probes.read`, of those that are there.
    """

    path: str
    table: Table
    records: Sequence[Mapping[str, Any]]
    ablation: Mapping[str, Any]
    probes: Mapping[str, Mapping[str, Any]]

    @property
    def name(self) -> str:
        """The name of the ablation."""
        return str(self.ablation.get("identity", {}).get("name") or self.records[0]["data"]["name"])


class Chapter:
    """The sections of one workdir; only those that have something to show.

    Attributes:
      figures: the figures that were shown, for their CSV files.
      contents: (id, title) of the sections, in order.
    """

    def __init__(self, source: Source, prefix: str, folder: str):
        self.source, self.prefix, self.folder = source, prefix, folder
        self.found, self.stale = current(source.probes, source.records)
        self.level = 3 if prefix else 2
        self.figures: list[Figure] = []
        self.contents: list[tuple[str, str]] = []
        self.sections = [
            part for part in (*self._results(), *self._probed(), *self._origin()) if part
        ]

    def _section(self, name: str, title: str, *content: Any) -> Html | str:
        content = [part for part in content if part]
        if not content:
            return ""
        self.contents.append((self.prefix + name, title))
        return section(self.prefix + name, title, *content, level=self.level)

    def _shown(self, figure: Figure | None) -> Html | str:
        if figure is None:
            return ""
        self.figures.append(figure)
        return shown(figure, self.folder, self.level + 1)

    def _results(self) -> Iterator[Html | str]:
        table, records, prefix = self.source.table, self.source.records, self.prefix
        caption = f"Test scores of {self.source.name}; a click on a header sorts"
        yield self._section("table", "Table", _facts(self.source), main_table(table, caption),
                            note_list(table))  # fmt: skip
        yield self._section("differences", "Differences", self._shown(forest(table, prefix)))
        first = [*map(self._shown, pareto(table, prefix, _costs(table, self.found)))]
        more = [*map(self._shown, pareto(table, prefix, _training(table, records)))]
        rest = tag("details", tag("summary", "The cost of training"), *more) if more else ""
        yield self._section("cost", "Cost", *first, rest)
        first, *more = [*map(self._shown, curves(table, records, prefix))] or [""]
        rest = [tag("details", tag("summary", "The loss"), *more)] if more else []
        yield self._section("curves", "Learning curves", first, *rest)
        yield self._section(
            "confusion", "Confusions", self._shown(confusions(table, records, prefix))
        )

    def _probed(self) -> Iterator[Html | str]:
        table, found, prefix = self.source.table, self.found, self.prefix
        if "modalities" in found:
            figure = probes.modality_figure(table, found["modalities"], prefix)
            yield self._section("modalities", "Does it use every modality?", self._shown(figure))
        figures = [
            figure
            for kind in ("noise", "missing") if kind in found
            for figure in probes.curve_figures(table, found[kind], prefix)
        ]  # fmt: skip
        yield self._section("robustness", "Robustness", *map(self._shown, figures))
        if "attention" in found:
            parts = attention(table, found["attention"])
            yield self._section("attention", "Attention", *parts)
        if "samples" in found:
            yield self._section("samples", "Samples", *samples(table, found["samples"]))

    def _origin(self) -> Iterator[Html | str]:
        source = self.source
        yield self._section("config", "Configs", differences(source.table, source.records))
        facts = provenance(source.table, source.records, source.ablation, source.probes)
        yield self._section("provenance", "Provenance", *facts)
        task = source.records[0]["data"].get("card", {}).get("task", EXPLAINED[0])
        only = {"attention": EXPLAINED, "samples": GENERATED}
        kinds = [kind for kind in probes.KINDS if task in only.get(kind, (task,))]
        absent = [kind for kind in kinds if kind not in source.probes]
        stale = tag("p", self.stale) if self.stale else ""
        yield self._section("absent", "Not measured", _absent(absent, source.path), stale)


def report(sources: Sequence[Source], folder: str) -> tuple[str, list[Figure]]:
    """The page, and the figures whose CSV files belong into ``folder``."""
    several = len(sources) > 1
    prefixes = _distinct([slug(source.name) for source in sources]) if several else [""]
    chapters = [Chapter(s, p, folder) for s, p in zip(sources, prefixes, strict=True)]
    title = " / ".join(dict.fromkeys(source.name for source in sources))
    body = [
        section(chapter.prefix + "all", chapter.source.name, *chapter.sections, level=2)
        if several
        else joined(chapter.sections)
        for chapter in chapters
    ]
    figures = [figure for chapter in chapters for figure in chapter.figures]
    if several:
        found = _ranked(sources)
        told = tag("p", found) if isinstance(found, str) else shown(found, folder)
        body.insert(0, section("across", "Across tables", told, level=2))
        figures += [] if isinstance(found, str) else [found]
    nav = [_contents(chapter, several) for chapter in chapters]
    header = tag("header", tag("h1", title), tag("p", _lead(sources), class_="lead"), *nav)
    page = document(f"{title}: mmfuse report", header, tag("main", *body, id="content"))
    return page, figures


def _ranked(sources: Sequence[Source]) -> Figure | str:
    """The ranking of the rows that all tables have, or why there is none."""
    tables = {source.name: source.table for source in sources}
    if len(tables) < len(sources):
        return "Two tables have one name; a data set counts once, so nothing is ranked."
    return ranks(tables) or (
        "Fewer than two rows have a score in every table, so nothing is ranked."
    )


def slug(name: str) -> str:
    """A name for files and links: letters, digits and dashes."""
    return re.sub(r"[^A-Za-z0-9]+", "-", name).strip("-").lower() or "report"


def _distinct(names: Sequence[str]) -> list[str]:
    """The names as prefixes, numbered if one comes twice."""
    if len(set(names)) == len(names):
        return [f"{name}-" for name in names]
    return [f"{name}-{i + 1}-" for i, name in enumerate(names)]


def _contents(chapter: Chapter, several: bool) -> Html:
    links = [tag("a", words, href=f"#{name}") for name, words in chapter.contents]
    head = tag("p", tag("b", chapter.source.name)) if several else ""
    return tag("nav", head, listed(*links), aria_label=f"Contents of {chapter.source.name}")


def _lead(sources: Sequence[Source]) -> str:
    runs = sum(len(source.records) for source in sources)
    rows = len(dict.fromkeys(row.name for source in sources for row in source.table.rows))
    data = len(sources)
    return (
        f"{rows} rows, {runs} runs"
        + (f", {data} tables" if data > 1 else "")
        + (". Within a table rows share data, encoders and budget; what else differs is listed.")
    )


def _facts(source: Source) -> Html:
    """What a reader wants to know before the numbers."""
    table, record = source.table, source.records[0]
    m = measure(table.metric)
    best = [row for row in table.rows if table.metric in row.best]
    score = cells.mean_sd(best[0].metrics[table.metric], m, len(table.seeds)) if best else "-"
    splits = record["data"].get("card", {}).get("splits", {})
    lost = [r for r in source.records if r["status"] != "done"]
    facts = [
        ("Data", record["data"]["name"]),
        ("Examples", ", ".join(f"{n:,} {k}" for k, n in splits.items()) or "not recorded"),
        ("Rows x seeds", f"{len(table.rows)} x {len(table.seeds)}"),
        ("Baseline", table.baseline),
        (f"Best {axis_title(m)}", f"{_names(best)}: {score}".replace(" ± ", "\u00a0±\u00a0")),
        ("Runs not finished", tag("span", len(lost), class_="warn" if lost else None)),
    ]
    return tag("dl", *(tag("div", tag("dt", k), tag("dd", v)) for k, v in facts), class_="facts")


def _names(rows: Sequence[Row]) -> str:
    """The first names, and how many more there are."""
    more = f" and {len(rows) - 2} more" if len(rows) > 2 else ""
    return ", ".join(row.name for row in rows[:2]) + more


def _costs(
    table: Table, found: Mapping[str, Mapping[str, Any]]
) -> list[tuple[str, str, dict[str, float]]]:
    """What a row costs, under each measure that is known."""
    rows = table.rows
    costs = [
        ("parameters", "parameters", {row.name: row.parameters for row in rows}),
        ("flops", "FLOPs of one example", {row.name: row.flops for row in rows}),
    ]
    if "latency" in found:
        for key, title in (("at_one", "at batch 1"), ("at_best", "at the best batch")):
            machines = probes.latencies(table, found["latency"], key)  # compared on one alone
            for number, ((device, cores), of_row) in enumerate(machines.items()):
                name = f"latency-{key}" + (f"-{number + 1}" if number else "")
                where = f"{title} on {device}, {cores} cores"
                costs.append((name, f"milliseconds per example {where}", of_row))
    return costs


def _training(
    table: Table, records: Sequence[Mapping[str, Any]]
) -> list[tuple[str, str, dict[str, float]]]:
    """What training a row costs: memory of an example, and the seconds of its seeds together."""
    memory = {r["row"]: r["memory"]["activation_bytes_per_example"]
              for r in records if r.get("memory")}  # fmt: skip
    seconds = {row.name: row.train_seconds for row in table.rows}
    return [
        ("memory", "bytes that the backward pass keeps of one example", memory),
        ("train-time", "seconds of training", seconds),
    ]


def _absent(kinds: Sequence[str], path: str) -> Html | str:
    if not kinds:
        return ""
    commands = [
        joined([f"{probes.MEANING[kind]}: ", tag("code", PROBE.format(shlex.quote(path), kind))])
        for kind in kinds
    ]
    said = tag("p", "This workdir holds no results of the following; each command makes them.")
    return joined([said, listed(*commands)])
