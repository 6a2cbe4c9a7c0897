"""From what was measured to the entries of ``probes/*.json``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from mmfuse import probes
from mmfuse.probing.deletion import DRAWS, SHARES, Explained, hurts
from mmfuse.probing.latency import BATCHES
from mmfuse.probing.points import AXES, Point
from mmfuse.restored import Finished

Scores = dict[Point, list[float | None]]


def about(row: Finished) -> dict[str, Any]:
    """What every entry says of its row: seeds, modalities, and which parameters were probed."""
    return {
        "seeds": list(row.seeds),
        "reads": list(row.built.reads),
        "params": {str(r["seed"]): r["params_sha256"] for r in row.records},
    }


def modalities_entry(row: Finished, clean: list, scores: Scores) -> dict[str, Any]:
    """The score with each modality or pair removed, zeroed and shuffled."""
    base, points = _seeds(row, clean), []
    for point, lanes in scores.items():
        values = _seeds(row, lanes)
        said = {"change": point.change, "modalities": list(point.modalities)}
        found = probes.by_seed(values) | {"difference": probes.difference(values, base)}
        points.append(said | found)
    return {"clean": probes.by_seed(base), "points": points}


def curves_entry(row: Finished, clean: list, scores: Scores) -> dict[str, Any]:
    """The curves of all points that have a strength; where something is missing, 0 is clean."""
    curves: dict[tuple, dict[float, list]] = {}
    for point, lanes in scores.items():
        start = {} if point.change == "noise" else {0.0: clean}
        curves.setdefault((point.change, *point.modalities), start)[point.strength] = lanes
    entries = []
    for (kind, modality), at in curves.items():
        x = sorted(at)
        lanes = zip(*(at[value] for value in x), strict=True)
        area = _seeds(row, [probes.area(x, lane) for lane in lanes])
        entries.append(
            {
                "kind": kind,
                "modality": modality,
                "axis": AXES[kind],
                "x": x,
                "points": [probes.by_seed(_seeds(row, at[value])) for value in x],
                "area": probes.by_seed(area),
            }
        )
    return {"clean": probes.by_seed(_seeds(row, clean)), "curves": entries}


TESTED = {"modalities": modalities_entry, "noise": curves_entry, "missing": curves_entry}


def attention_entry(row: Finished, found: Explained, metric: str) -> dict[str, Any]:
    """Shares of the modalities, completeness and faithfulness; what is drawn comes beside it."""
    shares, wrong = _shares(found.seen), _incompleteness(found.seen)
    return {
        "attention": found.attends,
        "maps": sorted(found.first["maps"]),
        "shares": {m: probes.by_seed(_seeds(row, lanes)) for m, lanes in shares.items()},
        "completeness": probes.by_seed(_seeds(row, wrong)),
        "faithfulness": _faithfulness(row, found, metric),
        "draws": DRAWS,
    }


def _shares(seen: dict[str, Any]) -> dict[str, list[float]]:
    """The part of each modality in the sum of absolute gradients: a mean over examples, a seed."""
    parts = {m: np.abs(np.where(seen["masks"][m], g, 0)).sum(-1)
             for m, g in seen["gradients"].items()}  # fmt: skip
    whole = np.maximum(sum(parts.values()), 1e-12)
    return {m: (part / whole).mean(axis=1).tolist() for m, part in parts.items()}


def _incompleteness(seen: dict[str, Any]) -> list[float]:
    """|sum of attributions - (f(x) - f(0))| over |f(x) - f(0)|: the median over examples."""
    total = sum(g.sum(-1) for g in seen["gradients"].values())
    wanted = seen["explained"] - seen["baseline"]
    error = np.abs(total - wanted) / np.maximum(np.abs(wanted), 1e-6)
    return np.median(error, axis=1).tolist()


def _faithfulness(row: Finished, found: Explained, metric: str) -> list[dict[str, Any]]:
    clean, lines = _seeds(row, found.clean), []
    for by in dict.fromkeys(by for by, _, _ in found.scores):
        for share in SHARES:
            deleted = {k: _seeds(row, found.scores[by, share, k]) for k in ("targeted", "random")}
            more = {
                seed: hurts(metric, deleted["random"][seed], value)
                for seed, value in deleted["targeted"].items()
                if value is not None and deleted["random"][seed] is not None
            }
            told = probes.by_seed(more if _deletes(found, by) else {})["summary"]
            lines.append(
                {
                    "by": by,
                    "share": share,
                    "clean": probes.by_seed(clean),
                    **{kind: probes.by_seed(values) for kind, values in deleted.items()},
                    "difference": told,
                }
            )
    return lines


def _deletes(found: Explained, by: str) -> bool:
    """Whether any explained modality has two real tokens in an example: a lone one stays."""
    key = "attention" if by == "attention" else "gradients"
    return any((found.seen["masks"][m].sum(-1) > 1).any() for m in found.seen[key])


def latency_entry(seconds: Sequence[Sequence[float]]) -> dict[str, Any]:
    """Median and quartiles of the calls at each batch size, and the best per example."""
    batches = []
    for size, times in zip(BATCHES, seconds, strict=True):
        low, median, high = np.percentile(times, (25, 50, 75)).tolist()
        batches.append({"batch": size, "median": median, "low": low, "high": high,
                        "per_example": median / size})  # fmt: skip
    best = min(batches, key=lambda entry: entry["per_example"])
    return {
        "batches": batches,
        "at_one": batches[0]["median"],
        "best_batch": best["batch"],
        "at_best": best["per_example"],
    }


def _seeds(row: Finished, lanes: Sequence[float | None]) -> dict[int, float | None]:
    return dict(zip(row.seeds, lanes, strict=True))
