"""The folder of one ablation: what lies where, who holds it, and which ablation it is.

::

    DIR/ablation.json                     the ablation's identity, and the order of its rows
    DIR/lock                              who works here now
    DIR/openings.jsonl                    when the test split was opened, and for what run
    DIR/table.{md,csv,tex,json}
    DIR/runs/ROW/checkpoints/STEP/...
    DIR/runs/ROW/seed_N/record.json       and params.npz, predictions.npz
    DIR/folds/FIELD=VALUE/...             the same of every fold, where there are folds

No jax here: ``experiments.table`` reads a workdir without it.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import urllib.parse
from collections.abc import Collection, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from mmfuse.errors import InputError
from mmfuse.lock import Lock
from mmfuse.params import load_params
from mmfuse.record import FORMAT, flatten, plain, write_atomic, write_json

LONGEST_NAME = 150
FOLDS = "folds"  # the folder of the workdirs of folds
# What a kill can leave before ablation.json, and what a tuning and folds make before it.
OWN_FILES = re.compile(r"lock(\.\w+)*|\..*\.tmp|tuning(\.\w+)?|" + FOLDS)


def row_folder(name: str) -> str:
    """Returns a row's folder name: safe in every file system, and undone by :func:`row_name`.

    Letters, digits and ``_+=,@-.`` stay, all else is percent-quoted UTF-8, and so is a leading dot.
    Names that would pass 150 characters are cut and end in ``%~`` and a hash; those are not undone.
    """
    if not name:
        raise InputError("a row of the config has an empty name; give it one")
    quoted = urllib.parse.quote(name, safe="_+=,@-", errors="surrogatepass").replace("~", "%7E")
    if quoted.startswith("."):
        quoted = "%2E" + quoted[1:]
    if len(quoted) <= LONGEST_NAME:
        return quoted
    digest = hashlib.sha256(name.encode(errors="surrogatepass")).hexdigest()[:16]
    return f"{quoted[: LONGEST_NAME - 50]}%~{digest}"


def row_name(folder: str) -> str:
    """Returns the row that :func:`row_folder` made this folder name from."""
    return urllib.parse.unquote(folder, errors="surrogatepass")


class Workdir:
    """Paths and records below one folder; opening it for writing is :func:`open_workdir`."""

    def __init__(self, path: str | os.PathLike):
        self.path = Path(path)

    def row(self, row: str) -> Path:
        """Returns the folder of a row."""
        return self.path / "runs" / row_folder(row)

    def fold(self, name: str) -> Workdir:
        """Returns the workdir of a fold, whose records are pooled in this one."""
        return Workdir(self.path / FOLDS / row_folder(name))

    def checkpoints(self, row: str) -> Path:
        """Returns the folder of a row's checkpoints."""
        return self.row(row) / "checkpoints"

    def seed(self, row: str, seed: int) -> Path:
        """Returns the folder of one run."""
        return self.row(row) / f"seed_{int(seed)}"

    def ablation(self) -> dict[str, Any]:
        """Returns ``{"format", "identity", "row_order"}``, or InputError if there is none."""
        path = self.path / "ablation.json"
        if not self.path.is_dir():
            raise InputError(f"no such workdir: '{self.path}'")
        if not path.is_file():
            raise InputError(f"'{self.path}' is not an mmfuse workdir: it has no ablation.json")
        return _load(path)

    def write_record(self, record: Mapping[str, Any]) -> Path:
        """Writes ``record.json`` of the run that the record names; the run is then complete."""
        folder = self.seed(record["row"], record["seed"])
        folder.mkdir(parents=True, exist_ok=True)
        write_json(folder / "record.json", {"format": FORMAT, **record})
        return folder / "record.json"

    def write_table(self, format: str, text: str) -> Path:
        """Writes ``table.FORMAT``, atomically."""
        path = self.path / f"table.{format}"
        write_atomic(path, text)
        return path

    def has_record(self, row: str, seed: int) -> bool:
        """Says whether the run has finished, done or not; a damaged record is an InputError."""
        path = self.seed(row, seed) / "record.json"
        return path.is_file() and bool(_load(path))

    def note_opening(self, opening: Mapping[str, str]) -> list[str]:
        """Notes that the test split is opened now; returns all times that this one was, now last.

        Before anything is read, so that an opening whose run was killed is known too: a resumed
        run opens the split again, and its record says so.
        """
        path, now = self.path / "openings.jsonl", datetime.now(UTC).isoformat(timespec="seconds")
        with path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"at": now, **opening}) + "\n")
        lines = path.read_text(encoding="utf-8").splitlines()
        return [x["at"] for x in map(_line, lines) if x.items() >= opening.items()]

    def predictions(self, row: str, seed: int) -> dict[str, Any] | None:
        """Returns what a run said of the test split, in its order, or None if it kept nothing.

        ``output`` float32 [N, C] holds logits of C classes, or one prediction; ``label`` is [N].
        Other tasks (``mmfuse.tasks``) keep dicts of arrays [N, ...].
        """
        path = self.seed(row, seed) / "predictions.npz"
        return load_params(path) if path.is_file() else None

    def records(self) -> list[dict[str, Any]]:
        """Returns every record, rows in the order of the config, seeds in numerical order."""
        order = {row: place for place, row in enumerate(self.ablation().get("row_order", []))}
        found = [_load(path) for path in self.path.glob("runs/*/seed_*/record.json")]
        return sorted(found, key=lambda r: (order.get(r["row"], len(order)), r["row"], r["seed"]))


def check_workdir(
    path: str | os.PathLike, identity: Mapping[str, Any], unknown: Collection[str] = ()
) -> None:
    """Raises InputError if this ablation cannot live in this folder; writes nothing.

    Args:
      path: the folder, which need not exist.
      identity: what makes the ablation: any JSON. Under ``"rows"``, ``{name: config of the row}``;
        rows may be added to a workdir later, and their order may change, but nothing else.
      unknown: keys of the identity that are not known yet, and are not compared.
    """
    path = Path(path)
    if path.exists() and not path.is_dir():
        raise InputError(f"workdir '{path}' is a file; give a folder")
    parent = next(folder for folder in (path, *path.absolute().parents) if folder.exists())
    if not parent.is_dir() or not os.access(parent, os.W_OK | os.X_OK):
        raise InputError(f"workdir '{path}' cannot be written: no permission in '{parent}'")
    if not path.is_dir():
        return
    if (path / "ablation.json").is_file():
        old, new = _load(path / "ablation.json")["identity"], plain(identity)
        for key in unknown:
            old.pop(key, None)
            new.pop(key, None)
        return _compare(path, old, new)
    strange = sorted(name for name in os.listdir(path) if not OWN_FILES.fullmatch(name))
    if strange:
        raise InputError(
            f"workdir '{path}' is not empty and not an mmfuse workdir (it holds '{strange[0]}'); "
            "give a new folder"
        )


@contextlib.contextmanager
def open_workdir(
    path: str | os.PathLike, identity: Mapping[str, Any], **facts: Any
) -> Iterator[Workdir]:
    """Makes the workdir of this ablation if need be, and holds it inside the ``with`` block.

    Args:
      path: the folder.
      identity: see :func:`check_workdir`.
      **facts: what ``ablation.json`` also says and what may change: ``baseline``, ``command``.

    Raises:
      InputError: see :func:`check_workdir`; raised before anything is written.
      WorkdirBusy: another process works here.
    """
    check_workdir(path, identity)
    path = Path(path)
    path.mkdir(parents=True, exist_ok=True)
    with Lock(path):
        check_workdir(path, identity)  # another process may have made it meanwhile
        content = {"identity": identity, "row_order": list(identity.get("rows", {}))}
        write_json(path / "ablation.json", {**facts, **content, "format": FORMAT})
        yield Workdir(path)


def _compare(path: Path, old: Mapping[str, Any], new: Mapping[str, Any]) -> None:
    """Raises InputError with the first few keys in which two identities differ."""
    rows = set(new.get("rows", {})) - set(old.get("rows", {}))
    new = {**new, "rows": {k: v for k, v in new.get("rows", {}).items() if k not in rows}}
    a, b = flatten({**old, "rows": old.get("rows", {})}), flatten(new)
    keys = sorted({*a, *b} - {"rows"})
    keys = [key for key in keys if a.get(key, _NOTHING) != b.get(key, _NOTHING)]
    if not keys:
        return
    shown = "; ".join(
        f"{k}: {a.get(k, _NOTHING)!r} there, {b.get(k, _NOTHING)!r} here" for k in keys[:3]
    )
    more = f" and {len(keys) - 3} more" if len(keys) > 3 else ""
    raise InputError(
        f"workdir '{path}' holds another ablation ({shown}{more}); give another folder"
    )


class _Nothing:
    def __repr__(self) -> str:
        return "nothing"


_NOTHING = _Nothing()


def _line(text: str) -> dict[str, Any]:
    """One line of a log; a kill can have torn it."""
    with contextlib.suppress(ValueError):
        return json.loads(text)
    return {}


def _load(path: Path) -> dict[str, Any]:
    """Reads a JSON file that mmfuse wrote, or says in one line that it is damaged."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        version = content["format"]
    except (ValueError, TypeError, KeyError) as error:
        raise InputError(
            f"'{path}' is damaged ({type(error).__name__}); remove it to run it again"
        ) from error
    if version != FORMAT:
        raise InputError(f"'{path}' has format {version}; this version of mmfuse reads {FORMAT}")
    return content
