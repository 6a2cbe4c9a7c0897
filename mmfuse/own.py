"""A config on the user's own files: what a manifest's columns settle that a config cannot know.

``config.data.manifest`` names the file, and takes the place of ``data.name`` and ``data.builder``.
A column whose name is in ``data.preprocess`` or ``encoders`` has those entries; for the others
``config.kinds`` says what to do with each kind (text, picture, sound, features) whatever the
columns are called. A row with ``{modality}`` in its name stands for one row per column.
"""

from __future__ import annotations

from typing import Any

from mmfuse.data.own.survey import checked, survey
from mmfuse.data.own.table import MODALITY_KINDS, read_table
from mmfuse.errors import InputError, listed, nearest

PLACE = "{modality}"
PARTS = ("preprocess", "encoder")
READS = {  # what the shipped preprocessors read; a column of another kind would be read as noise
    "text": "text",
    "picture": "picture",
    "log_mel": "sound",
    "mfcc": "sound",
    "array": "features",
    "features": "features",
    "identity": "ids",  # no manifest has such a column
}


def on_own_files(config: dict) -> dict:
    """``config`` with dataset, preprocessors, encoders and rows as its manifest asks.

    Args:
      config: plain dicts and lists.

    Raises:
      InputError: a manifest that is missing, or that does not fit the config.
    """
    data = dict(config["data"])
    path, allow = data.pop("manifest", ""), data.pop("allow", "")
    if not path:
        raise InputError("config.data.manifest is missing: --config.data.manifest=FILE.csv")
    modalities = read_table(path).modalities
    if not modalities:
        checked(survey(path, allow))  # tells this and whatever else is wrong
    kinds = _kinds(config.get("kinds", {}))
    preprocess = data.get("preprocess", {})
    for where, entries in (("data.preprocess", preprocess), ("encoders", config["encoders"])):
        for name in entries:
            if name not in modalities:
                raise InputError(
                    f"config.{where}.{name}: manifest '{path}' has no such column"
                    f"{nearest(name, modalities)}{listed(modalities)}"
                )
    preprocess = _chosen(preprocess, kinds, "preprocess", modalities)
    for name, kind in modalities.items():
        reader = preprocess[name].get("name")
        if READS.get(reader, kind) != kind:
            raise InputError(
                f"column '{name}' of manifest '{path}' holds {kind}, but its preprocessor "
                f"'{reader}' reads {READS[reader]}"
            )
    return {key: value for key, value in config.items() if key != "kinds"} | {
        "data": data
        | {
            "name": "manifest",
            "builder": {"path": path, "allow": allow},
            "preprocess": preprocess,
        },
        "encoders": _chosen(config["encoders"], kinds, "encoder", modalities),
        "rows": _rows(config["rows"], modalities),
    }


def _kinds(kinds: dict) -> dict:
    for kind, parts in kinds.items():
        if kind not in MODALITY_KINDS:
            raise InputError(
                f"unknown kind '{kind}' in config.kinds; allowed: {', '.join(MODALITY_KINDS)}"
                f"{nearest(kind, MODALITY_KINDS)}"
            )
        if sorted(parts) != sorted(PARTS):
            raise InputError(f"config.kinds.{kind} must have the keys {' and '.join(PARTS)}")
    return kinds


def _chosen(entries: dict, kinds: dict, part: str, modalities: dict[str, str]) -> dict:
    """{column: its own entry, or that of its kind}."""
    for name, kind in modalities.items():
        if name not in entries and kind not in kinds:
            raise InputError(
                f"the config says nothing of column '{name}' ({kind}): it has neither an entry of "
                f"this name ({', '.join(entries) or 'none'}) nor config.kinds.{kind}; "
                "configs/manifest.py takes any columns, and a column named _... is ignored"
            )
    return {name: entries.get(name) or kinds[kind][part] for name, kind in modalities.items()}


def _rows(rows: dict, modalities: dict[str, str]) -> dict:
    """Every row, and in place of one with ``{modality}`` in its name one per column."""
    written = {}
    for row, differs in rows.items():
        for name in modalities if PLACE in row else [""]:
            written[row.replace(PLACE, name)] = _filled(differs, name) if name else differs
    return written


def _filled(value: Any, name: str) -> Any:
    if isinstance(value, dict):
        return {key: _filled(inner, name) for key, inner in value.items()}
    return value.replace(PLACE, name) if isinstance(value, str) else value
