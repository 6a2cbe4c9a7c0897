"""The contract kit on one fusion: ``python -m experiments.check pkg.mod:Class``.

Prints one line per check and exits with 0, or one line per failure and exits with 2. The fusion may
also be a shipped name or one that an installed package registers. Fields are given as ``--field
hidden=8 --field modality=text``; the usual sizes (``features``, ``hidden``, ``outputs``, ...) are
small numbers where neither the class nor the command line says more. The current directory is
importable.
"""

from __future__ import annotations

import ast
import dataclasses
import os
import sys

from experiments.cli import BAD_INPUT, Parser, run_command
from mmfuse.errors import InputError

DEFAULTS = {"features": 8, "hidden": 8, "width": 4, "rank": 2, "heads": 2, "outputs": 3}


def parser() -> Parser:
    """The command line."""
    result = Parser(prog="experiments.check", description=__doc__.splitlines()[0])
    result.add_argument("fusion", help="pkg.mod:Class, or a name")
    result.add_argument("--field", action="append", default=[], metavar="NAME=VALUE")
    result.add_argument("--modalities", default="3", help="how many, or names: text,image,audio")
    result.add_argument("--seed", type=int, default=0)
    return result


def main(argv: list[str]) -> int:
    """Checks the fusion; returns the exit code."""
    args = parser().parse_args(argv)
    sys.path.insert(0, os.getcwd())
    from mmfuse.contract import examine

    modalities = _modalities(args.modalities)
    report = examine(_build(args.fusion, args.field), modalities=modalities, seed=args.seed)
    for failure in report.failures:
        print(f"FAILED {failure}")
    if report.failures:
        return BAD_INPUT
    for name in report.passed:
        print(f"ok {name}")
    if not report.parameters:
        print("note: it has no parameters; nothing in this fusion is trained")
    print(f"{args.fusion} keeps the contract ({report.parameters} parameters)")
    return 0


def _build(name: str, assignments: list[str]):
    """The fusion with the fields of the command line."""
    from mmfuse.fusion import build_fusion, find_fusion

    fields = dict(_field(item) for item in assignments)
    for field in dataclasses.fields(find_fusion(name)):
        if field.name in DEFAULTS and field.default is dataclasses.MISSING:
            fields.setdefault(field.name, DEFAULTS[field.name])
    return build_fusion(name, **fields)


def _field(item: str) -> tuple[str, object]:
    """``"hidden=8" -> ("hidden", 8)``; what is not a Python literal is a string."""
    name, equals, text = item.partition("=")
    if not equals or not name:
        raise InputError(f"--field '{item}' must be NAME=VALUE")
    try:
        return name, ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return name, text


def _modalities(text: str) -> int | tuple[str, ...]:
    """``"3" -> 3``, ``"text,image" -> ("text", "image")``."""
    names = tuple(text.split(","))
    if text.isdigit() and 1 <= int(text) <= 6:
        return int(text)
    if text.lstrip("-").isdigit() or not all(names) or len(set(names)) < len(names):
        raise InputError(f"--modalities={text} must be 1 to 6, or different names with commas")
    return names


if __name__ == "__main__":
    run_command(main)
