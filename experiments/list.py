"""Says what there is.

    python -m experiments.list [fusions|encoders|decoders|datasets|metrics|configs]

Without an argument: all of it.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from experiments import cli
from mmfuse.errors import InputError, nearest


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
        paper = re.search(r" *\(([^()]*(?:\([^()]*\)[^()]*)*)\)", told.title)
        method = told.title.replace(paper[0], "").rstrip(".") if paper else told.title
        time = "time" if told.needs_time else ""
        parts = [f"{family:8} {time:4} {method}", told.equation, paper[1] if paper else ""]
        yield name, "\n      ".join(part for part in parts if part)
    theirs = plugins.registered()
    if theirs:
        yield "", ""
    for name, paths in theirs.items():
        yield name, f"plug-in       {' and '.join(paths)}"


def encoders() -> Iterator[tuple[str, str]]:
    """Every encoder."""
    from mmfuse.encoders import ENCODERS

    return _classes(ENCODERS)


def decoders() -> Iterator[tuple[str, str]]:
    """The head of every task."""
    from mmfuse.decoders import HEADS

    return _classes(HEADS)


def datasets() -> Iterator[tuple[str, str]]:
    """Every dataset."""
    from mmfuse.data.loader import DATASETS

    return _classes(DATASETS)


def metrics() -> Iterator[tuple[str, str]]:
    """Every metric, its task, and which way is better."""
    from mmfuse.metrics import METRICS

    for name, (task, higher) in METRICS.items():
        yield name, f"{task} tasks, {'higher' if higher else 'lower'} is better"


def configs() -> Iterator[tuple[str, str]]:
    """Every shipped config; read, not run."""
    for path in sorted(Path("configs").glob("*.py")):
        if path.name != "__init__.py":
            doc = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
            yield str(path), _first_line(doc)


KINDS = {f.__name__: f for f in (fusions, encoders, decoders, datasets, metrics, configs)}


def main(argv: list[str]) -> int:
    """Prints the lists that were asked for."""
    if len(argv) > 1:
        raise InputError(f"give one of {', '.join(KINDS)}, got '{' '.join(argv)}'")
    if argv and argv[0] in ("-h", "--help"):
        print(__doc__)
        return 0
    if argv and argv[0] not in KINDS:
        raise InputError(
            f"unknown list '{argv[0]}'; allowed: {', '.join(KINDS)}{nearest(argv[0], KINDS)}"
        )
    for kind in argv or KINDS:
        print(f"{'' if argv else chr(10)}{kind}: {_first_line(KINDS[kind].__doc__)}")
        for name, text in KINDS[kind]():
            print(f"  {name:24} {text}".rstrip())
    return 0


if __name__ == "__main__":
    cli.run_command(main)
