"""Renders the table of a workdir again, from its records alone.

    python -m experiments.table --workdir=DIR --format=md|tex|csv|json|html
        [--baseline=ROW] [--metric=NAME] [--compare=FILE] [--by_group=METRIC] [--into=FILE]

``--into`` writes the table between the lines ``<!-- table NAME -->`` and ``<!-- /table -->`` of a
text file instead of printing it, NAME being the ablation's name; a file that does not exist is made
with such a place. So no number is copied by hand.

``--by_group`` prints that metric by group of the test split instead, in ``md`` or ``csv``: by
relation of a knowledge graph, say. Its place in a text file is ``<!-- table NAME by group -->``.

``--compare`` puts published figures beside ours (``configs/published`` has some); those measured
under other conditions than ``config.conditions`` says of ours are marked.

Exit codes: 0 done, 2 bad input (one line on stderr). Nothing is trained, written or imported from
jax, so it runs anywhere in a fraction of a second.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections.abc import Callable, Collection, Sequence
from pathlib import Path

from mmfuse import by_group, published
from mmfuse.errors import InputError, nearest
from mmfuse.record import write_atomic
from mmfuse.tables import FORMATS, Table, render, summarise
from mmfuse.workdir import Workdir


class Parser(argparse.ArgumentParser):
    """Says what is wrong in one line, as all commands do."""

    def error(self, message: str) -> None:
        """Raises InputError instead of printing the usage."""
        raise InputError(message)


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Returns the options; every mistake is an InputError."""
    parser = Parser(prog="python -m experiments.table", description=__doc__, allow_abbrev=False,
                    formatter_class=argparse.RawDescriptionHelpFormatter)  # fmt: skip
    parser.add_argument(
        "--workdir", required=True, help="the folder that experiments.ablate filled"
    )
    parser.add_argument("--format", default="md", help=f"one of {', '.join(FORMATS)}")
    parser.add_argument("--baseline", help="the row that differences are taken to")
    parser.add_argument("--metric", help="the metric of the first column")
    parser.add_argument("--compare", help="a JSON file of published results, to stand beside ours")
    parser.add_argument("--by_group", help="a metric to be shown by group instead")
    parser.add_argument("--into", help="a text file with a place for the table")
    return strict(parser, arguments)


def strict(parser: Parser, arguments: Sequence[str]) -> argparse.Namespace:
    """Parses the arguments; an unknown one is an InputError that names the nearest option."""
    options, unknown = parser.parse_known_args(arguments)
    for argument in unknown:
        name = argument.partition("=")[0]
        known = [o for o in parser._option_string_actions if o.startswith("--")]
        hint = nearest(name if name.startswith("-") else f"--{name}", known)
        raise InputError(f"unexpected argument '{argument}'{hint}")
    return options


def check_format(format: str, allowed: Collection[str]) -> None:
    """Raises InputError for a format that is not allowed."""
    if format not in allowed:
        hint = nearest(format, allowed)
        raise InputError(f"unknown format '{format}'{hint}; allowed: {', '.join(allowed)}")


def insert(path: str, name: str, text: str) -> None:
    """Puts the table in its place in a text file, or makes the file.

    Raises:
      InputError: the file is there and has no such place.
    """
    begin, end = f"<!-- table {name} -->\n", "<!-- /table -->"
    page = f"# {name}\n\n{begin}{end}\n"
    if Path(path).exists():
        page = Path(path).read_text(encoding="utf-8")
    before, found, rest = page.partition(begin)
    _, closed, after = rest.partition(end)
    if not found or not closed:
        raise InputError(f"'{path}' has no place for the table: {begin.strip()} ... {end}")
    write_atomic(path, f"{before}{begin}\n{text.strip()}\n\n{end}{after}")


def table(options: argparse.Namespace) -> str:
    """Returns the rendered table that the command line asks for."""
    check_format(options.format, by_group.FORMATS if options.by_group else FORMATS)
    workdir = Workdir(options.workdir)
    if options.by_group:
        text = by_group.FORMATS[options.format](finished(workdir), options.by_group)
    else:
        text = render(summarised(workdir, options), options.format)
    if options.into:
        name = workdir.ablation()["identity"]["name"]
        insert(options.into, f"{name} by group" if options.by_group else name, text)
    return "" if options.into else text


def finished(workdir: Workdir) -> list[dict]:
    """Returns the records of a workdir; none at all is an InputError."""
    records = workdir.records()
    if not records:
        raise InputError(f"workdir '{workdir.path}' holds no finished run yet")
    return records


def summarised(workdir: Workdir, options: argparse.Namespace) -> Table:
    """Returns the table of a workdir, with the metric, baseline and comparison of the options.

    Raises:
      InputError: nothing has finished there, or it has no such metric or baseline.
    """
    ablation, records = workdir.ablation(), finished(workdir)
    identity = ablation["identity"]
    content = summarise(
        records,
        metric=options.metric or identity.get("metric"),
        baseline=options.baseline or ablation.get("baseline"),
        baselines={} if options.baseline else ablation.get("baselines"),
        rows=ablation["row_order"],
        seeds=identity.get("seeds"),
        command=ablation.get("command"),
        predictions=workdir.predictions,
    )
    if options.compare:
        conditions = ablation.get("conditions", {})
        beside = published.beside(content, published.load(options.compare), conditions)
        content = dataclasses.replace(content, published=beside)
    return content


def printed(make: Callable[[Sequence[str]], str]) -> int:
    """Prints what ``make`` returns for the command line, or ``error: ...``; the exit code."""
    try:
        text = make(sys.argv[1:])
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    sys.stdout.write(text)
    return 0


def main() -> int:
    """Prints the table, or ``error: ...``."""
    return printed(lambda arguments: table(parse(arguments)))


if __name__ == "__main__":
    sys.exit(main())
