"""What ``experiments.list datasets`` prints: every dataset in a few lines, or one card whole."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from pathlib import Path

from mmfuse.data import raw
from mmfuse.data.datasets import DATASETS, builder_fields, make_builder
from mmfuse.data.inventory import Found, inventory

WIDTH = 100
INDENT = " " * 27


def lines(raw_data: str | None, data_dir: str | None) -> Iterator[tuple[str, str]]:
    """``(name, text)`` of every dataset in its default configuration."""
    for name, kind in DATASETS.items():
        if "path" in builder_fields(kind):  # there is nothing to tell before it is named
            yield name, f"{kind.__doc__}\n{INDENT}files: --config.data.manifest=FILE"
            continue
        builder = make_builder(name, {}, data_dir=data_dir, raw_data=raw_data)
        card = builder.info.metadata
        about = [
            f"{', '.join(card['modalities'])}; {_task(card)}",
            f"splits: {_splits(builder)}",
            f"licence: {card['licence']}",
            f"files: {_files(builder, raw_data)}",
        ]
        yield name, f"\n{INDENT}".join(about)


def card(name: str, raw_data: str | None, data_dir: str | None) -> str:
    """The whole card of a dataset in its default configuration.

    Raises:
      InputError: there is no such dataset.
    """
    builder = make_builder(name, {}, data_dir=data_dir, raw_data=raw_data)
    facts = dict(builder.info.metadata) | {
        "splits": _splits(builder),
        "files": [
            f"{found.path}: {found.fault or _megabytes(found.size)}"
            for found in _inventory(builder, raw_data)
        ]
        or "generated",
        "fields": _fields(builder),
    }
    return "\n".join(_entry(key, value) for key, value in facts.items())


def _task(card: dict) -> str:
    classes = f", {card['classes']} classes" if card["task"] == "classification" else ""
    return f"{card['task']}{classes}"


def _splits(builder) -> str:
    """Sizes as prepared, or as the card states them beforehand."""
    prepared = {split: info.num_examples for split, info in builder.info.splits.items()}
    sizes = prepared or builder.info.metadata.get("splits")
    if not sizes:
        return "sizes are known when it is prepared"
    return ", ".join(f"{split} {size}" for split, size in sizes.items())


def _inventory(builder, raw_data: str | None) -> list[Found]:
    folder = raw.raw_folder(raw_data)
    cache_dir = getattr(builder, "cache_dir", Path())  # a generated dataset downloads nothing
    return inventory(type(builder), builder.builder_config, folder, cache_dir)


def _files(builder, raw_data: str | None) -> str:
    prepared = "; prepared" if builder.data_path.exists() else ""
    sources = _inventory(builder, raw_data)
    if not sources:
        return f"generated{prepared}"
    faulty = [found for found in sources if found.fault]
    if not faulty:
        return f"present, {_megabytes(sum(found.size for found in sources))}{prepared}"
    downloads = raw.raw_folder(raw_data) is None and all(found.source.url for found in faulty)
    remedy = "; they are downloaded when needed" if downloads else ""
    more = f" and {len(faulty) - 1} more" if len(faulty) > 1 else ""
    fault = "" if faulty[0].fault == "missing" else f" ({faulty[0].fault})"
    return f"missing: {faulty[0].path}{fault}{more}{remedy}{prepared}"


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.1f} MB"


def _fields(builder) -> list[str]:
    """The fields of ``data.builder`` with their defaults."""
    config = builder.builder_config
    return [f"{name} = {getattr(config, name)!r}" for name in builder_fields(type(builder))]


def _entry(key: str, value: object) -> str:
    if isinstance(value, list) and any(len(str(item)) > 40 for item in value):
        return "\n".join([f"{key}:", *(_wrapped(str(item), "  - ", "    ") for item in value)])
    if isinstance(value, list):
        value = ", ".join(map(str, value))
    return _wrapped(f"{key}: {value}", "", "  ")


def _wrapped(text: str, first: str, later: str) -> str:
    return textwrap.fill(
        text, WIDTH, initial_indent=first, subsequent_indent=later, break_on_hyphens=False
    )
