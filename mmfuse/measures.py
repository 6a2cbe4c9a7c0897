"""How each metric is printed: its title, its direction, its digits. No jax, unlike the metrics."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any


@dataclasses.dataclass(frozen=True)
class Measure:
    """How a metric is printed: its title, its direction, and its digits after scaling."""

    title: str
    higher: bool = True
    scale: float = 1.0
    digits: int = 4

    @property
    def unit(self) -> str:
        """What stands in brackets behind the title."""
        return "%" if self.scale == 100 else ""

    def rounded(self, value: float) -> float:
        """Returns the value as it is printed; what prints equal counts as equal."""
        return round(value * self.scale, self.digits) + 0.0  # + 0.0: no minus zero


MEASURES = {
    "accuracy": Measure("Accuracy", scale=100, digits=2),
    "precision_macro": Measure("Macro precision", scale=100, digits=2),
    "precision_weighted": Measure("Weighted precision", scale=100, digits=2),
    "recall_macro": Measure("Macro recall", scale=100, digits=2),
    "recall_weighted": Measure("Weighted recall", scale=100, digits=2),
    "f1_macro": Measure("Macro-F1", scale=100, digits=2),
    "f1_weighted": Measure("Weighted F1", scale=100, digits=2),
    "mae": Measure("MAE", higher=False, digits=3),
    "rmse": Measure("RMSE", higher=False, digits=3),
    "correlation": Measure("Correlation", digits=3),
    "acc2_has0": Measure("Acc-2 (has 0)", scale=100, digits=2),
    "acc2_non0": Measure("Acc-2 (non 0)", scale=100, digits=2),
    "f1_has0": Measure("F1 (has 0)", scale=100, digits=2),
    "f1_non0": Measure("F1 (non 0)", scale=100, digits=2),
    "acc7": Measure("Acc-7", scale=100, digits=2),
    "r2": Measure("R2", digits=3),
    "nll": Measure("NLL", higher=False, digits=3),
    "frame_accuracy": Measure("Frame accuracy", scale=100, digits=2),
    "f1_micro": Measure("Micro-F1", scale=100, digits=2),
    "mrr": Measure("MRR", digits=3),
    "hits1": Measure("Hits@1", digits=3),
    "hits3": Measure("Hits@3", digits=3),
    "hits10": Measure("Hits@10", digits=3),
    "f1_true": Measure("F1", scale=100, digits=2),
    "accuracy_shared": Measure("Accuracy, one threshold", scale=100, digits=2),
    "f1_true_shared": Measure("F1, one threshold", scale=100, digits=2),
    "recall1": Measure("Recall@1", scale=100, digits=2),
    "recall1_uncorrelated": Measure("Uncorrelated", scale=100, digits=2),
    "recall1_success_only": Measure("Success only", scale=100, digits=2),
    "recall20": Measure("Recall@20", scale=100, digits=2),
    "ndcg20": Measure("NDCG@20", digits=3),
    "perplexity": Measure("Perplexity", higher=False, digits=2),
    "word_accuracy": Measure("Word accuracy", scale=100, digits=2),
    "exact": Measure("Exact texts", scale=100, digits=2),
    "recognised": Measure("Recognised", scale=100, digits=2),
    "loss": Measure("Loss", higher=False),
}


def interval(s: Mapping[str, Any], m: Measure, sign: str = "+") -> str:
    """``+1.20 [+0.31, +2.10]``: the mean of a stored summary with its interval, or a dash.

    A difference carries its sign; with ``sign`` empty it is a value of the metric.
    """
    mean, low, high = (s.get(part) for part in ("mean", "low", "high"))
    if mean is None:
        return "-"
    shown = [f"{m.rounded(x):{sign}.{m.digits}f}" for x in (mean, low, high) if x is not None]
    return f"{shown[0]} [{shown[1]}, {shown[2]}]" if len(shown) == 3 else shown[0]


def measure(metric: str) -> Measure:
    """Returns how a metric is printed; an unknown one is printed as it is."""
    return MEASURES.get(metric, Measure(metric))


def p_value(p: float) -> str:
    """Returns ``p = 0.012``, or ``p < 0.001``."""
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}"
