"""Says what there is.

    python -m experiments.list
        [fusions|objectives|encoders|decoders|compressions|datasets|metrics|configs|logs]
    python -m experiments.list datasets [NAME] [--raw_data=FOLDER]

Without an argument: all of it. With the name of a dataset: its whole card.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from experiments import cli
from mmfuse.errors import InputError, nearest

if TYPE_CHECKING:
    from mmfuse.fusion.about import About


def _first_line(doc: str | None) -> str:
    return (doc or "").strip().partition("\n")[0]


def _classes(table: dict) -> Iterator[tuple[str, str]]:
    for name, kind in table.items():
        yield name, _first_line(kind.__doc__)


def fusions() -> Iterator[tuple[str, str]]:
    """Every fusion: name, family, "time" if it needs a time axis, method; equation; paper."""
    from mmfuse.fusion import FUSIONS, plugins
    from mmfuse.fusion.about import about

    family = None
    for name, kind in FUSIONS.items():
        told = about(kind)
        if family not in (None, told.family):
            yield "", ""
        family = told.family
        time = "time" if told.needs_time else ""
        yield name, _method(told, f"{family:8} {time:4} ")
    theirs = plugins.registered()
    if theirs:
        yield "", ""
    for name, paths in theirs.items():
        yield name, f"plug-in       {' and '.join(paths)}"


def _method(told: About, before: str = "") -> str:
    """Title, equation and paper of a method, a line each."""
    paper = re.search(r",? *\(([^()]*(?:\([^()]*\)[^()]*)*)\)", told.title)
    title = told.title.replace(paper[0], "").rstrip(".") if paper else told.title
    parts = [before + title, told.equation, paper[1] if paper else ""]
    return "\n      ".join(part for part in parts if part)


def objectives() -> Iterator[tuple[str, str]]:
    """Every objective that can be added to a row: method; equation; paper."""
    from mmfuse.fusion.about import about
    from mmfuse.objectives import OBJECTIVES

    for name, kind in OBJECTIVES.items():
        yield name, _method(about(kind))


def encoders() -> Iterator[tuple[str, str]]:
    """Every encoder."""
    from mmfuse.encoders import ENCODERS

    return _classes(ENCODERS)


def decoders() -> Iterator[tuple[str, str]]:
    """Every head and decoder, by task; the first of a task is its default."""
    from mmfuse.tasks import TASKS

    for task, kind in TASKS.items():
        for name, head in kind.heads.items():
            yield f"{task}: {name}", _first_line(head.__doc__)


def compressions() -> Iterator[tuple[str, str]]:
    """Every way to make a model smaller: ``compression`` of a row."""
    from mmfuse.compression import COMPRESSIONS

    return _classes(COMPRESSIONS)


def datasets(raw_data: str | None = None, data_dir: str | None = None) -> Iterator[tuple[str, str]]:
    """Every dataset: what it holds, how it is split, its licence, whether its files are here."""
    from experiments.datasets import lines

    return lines(raw_data, data_dir)


def metrics() -> Iterator[tuple[str, str]]:
    """Every metric, its tasks, and which way is better."""
    from mmfuse.tasks import METRICS, TASKS

    for name, higher in METRICS.items():
        tasks = [task for task, kind in TASKS.items() if name in kind.metrics]
        yield name, f"{', '.join(tasks) or 'any'}; {'higher' if higher else 'lower'} is better"


def logs() -> Iterator[tuple[str, str]]:
    """Every place that a run can be logged to, with --log=NAME,NAME of experiments.ablate."""
    from mmfuse.sinks import SINKS

    return _classes(SINKS)


def configs() -> Iterator[tuple[str, str]]:
    """Every shipped config; read, not run."""
    for path in sorted(Path("configs").glob("*.py")):
        if path.name != "__init__.py":
            doc = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
            yield str(path), _first_line(doc)


KINDS = {
    f.__name__: f
    for f in (
        fusions,
        objectives,
        encoders,
        decoders,
        compressions,
        datasets,
        metrics,
        configs,
        logs,
    )
}


def main(argv: list[str]) -> int:
    """Prints the lists that were asked for, or one card."""
    parser = cli.Parser("experiments.list", __doc__)
    parser.add_argument("kind", nargs="?", help=", ".join(KINDS))
    parser.add_argument("name", nargs="?", help="a dataset, after 'datasets'")
    parser.add_argument("--raw_data", help="folder of upstream files (or MMFUSE_RAW_DATA)")
    parser.add_argument("--data_dir", help="where prepared datasets lie (or TFDS_DATA_DIR)")
    args = parser.parse_args(argv)
    if args.kind and args.kind not in KINDS:
        raise InputError(
            f"unknown list '{args.kind}'; allowed: {', '.join(KINDS)}{nearest(args.kind, KINDS)}"
        )
    places = {"raw_data": args.raw_data, "data_dir": args.data_dir}
    if args.name:
        _print_card(args.kind, args.name, places)
        return 0
    for kind in [args.kind] if args.kind else KINDS:
        print(f"{'' if args.kind else chr(10)}{kind}: {_first_line(KINDS[kind].__doc__)}")
        for name, text in KINDS[kind](**(places if kind == "datasets" else {})):
            print(f"  {name:24} {text}".rstrip())
    return 0


def _print_card(kind: str, name: str, places: dict[str, str | None]) -> None:
    if kind != "datasets":
        raise InputError(f"'{kind}' takes no name, got '{name}'; only 'datasets' does")
    from experiments.datasets import card

    print(card(name, **places))


if __name__ == "__main__":
    cli.run_command(main)
