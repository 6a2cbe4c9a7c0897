"""Writes the report of finished ablations: one HTML file that needs no network and no other file.

    python -m experiments.report --workdir=DIR [--workdir=DIR2 ...] [--out=FILE]
        [--baseline=ROW] [--metric=NAME] [--compare=FILE]

By default ``FILE`` is ``DIR/report.html``. The numbers behind every picture are on the page, and as
CSV in the folder ``FILE`` without its ending plus ``_csv``. What ``experiments.probe`` has measured
is shown where it is there. Over several workdirs, methods are ranked as well.

Exit codes: 0 done, 2 bad input (one line on stderr). Nothing is trained or imported from jax.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from experiments.table import Parser, strict, summarised
from mmfuse import probes
from mmfuse.errors import InputError
from mmfuse.record import write_atomic
from mmfuse.report.build import Source, report
from mmfuse.workdir import Workdir


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Returns the options; every mistake is an InputError."""
    parser = Parser(prog="python -m experiments.report", description=__doc__, allow_abbrev=False,
                    formatter_class=argparse.RawDescriptionHelpFormatter)  # fmt: skip
    parser.add_argument(
        "--workdir", required=True, action="append", help="a folder that experiments.ablate filled"
    )
    parser.add_argument("--out", help="the file to write")
    parser.add_argument("--baseline", help="the row that differences are taken to")
    parser.add_argument("--metric", help="the metric of the first column")
    parser.add_argument("--compare", help="a JSON file of published results, to stand beside ours")
    return strict(parser, arguments)


def source(path: str, options: argparse.Namespace) -> Source:
    """Reads one workdir."""
    workdir = Workdir(path)
    table = summarised(workdir, options)
    found = {what: content for what, content in probes.read(workdir).items() if content}
    return Source(path, table, workdir.records(), workdir.ablation(), found)


def write(options: argparse.Namespace) -> Path:
    """Writes the page and its CSV files, and returns the path of the page."""
    given = [str(Path(path)) for path in options.workdir]
    twice = next((path for path in given if given.count(path) > 1), None)
    if twice:
        raise InputError(f"--workdir={twice} is given twice")
    out = Path(options.out or Path(given[0]) / "report.html")
    if out.suffix.lower() not in (".html", ".htm"):
        raise InputError(f"--out={out}: the report is HTML; give a name that ends in .html")
    sources = [source(path, options) for path in given]
    folder = out.with_name(f"{out.stem}_csv")
    page, figures = report(sources, folder.name)
    if out.is_dir() or (folder.exists() and not folder.is_dir()):
        raise InputError(f"--out={out}: a folder or a file is in the way")
    folder.mkdir(parents=True, exist_ok=True)
    for figure in figures:
        write_atomic(folder / f"{figure.name}.csv", figure.csv())
    write_atomic(out, page)
    return out


def main() -> int:
    """Writes the report and prints its path, or ``error: ...``."""
    try:
        path = write(parse(sys.argv[1:]))
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"error: {error.strerror or error}: '{error.filename}'", file=sys.stderr)
        return 2
    print(path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
