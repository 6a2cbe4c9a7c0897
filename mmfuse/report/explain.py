"""What ``experiments.probe`` found of attention: examples with weights, and their tests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mmfuse.markup import Html, tag
from mmfuse.measures import interval, measure
from mmfuse.probes import LINES, verdict
from mmfuse.report.grid import scrolled, simple_table
from mmfuse.report.heat import heat
from mmfuse.report.page import axis_title
from mmfuse.report.panel import scaled
from mmfuse.report.probes import known, plain
from mmfuse.report.svg import picture
from mmfuse.summary import Table

SIDE = 160  # pixels of a map from tokens to tokens
HOW = (
    "Attention: the stronger the colour, the more weight. Integrated gradients: orange or red "
    "speaks for the predicted class, or lifts the predicted number; blue speaks against it."
)


def gallery(table: Table, content: Mapping[str, Any]) -> list[Html]:
    """The drawn examples of each probed row: words, pictures and spectrograms with weights."""
    found = []
    for name, row in known(table, content).items():
        examples = [_example(example) for example in row.get("drawn", ())]
        if examples:
            words = f"{name}: {len(examples)} examples, seed {row.get('drawn_seed')}"
            found.append(tag("details", tag("summary", words), *examples))
    return [tag("p", HOW), *found] if found else []


def _example(example: Mapping[str, Any]) -> Html:
    head = f"{example['id']}: true {example['label']}, predicted {example['predicted']}"
    single = [p["by"] == "attention" and p["map"] != "mean" for p in example["pieces"]]
    means, heads = (
        [_piece(p) for p, one in zip(example["pieces"], single, strict=True) if one is wanted]
        for wanted in (False, True)
    )
    heads += [_matrix(matrix) for matrix in example.get("matrices", ())]
    parts = [tag("p", head, class_="name"), tag("div", *means, class_="grid")]
    if heads:
        summary = tag("summary", f"{len(heads)} single maps and heads")
        parts.append(tag("details", summary, tag("div", *heads, class_="grid")))
    return tag("section", *parts)


def _piece(piece: Mapping[str, Any]) -> Html:
    head = "" if piece.get("head") is None else f", head {piece['head']}"
    said = f"{piece['modality']}: {piece['by']}"
    said += f" ({piece['map']}{head})" if piece["by"] == "attention" else ""
    if piece["kind"] == "words":
        shown = _words(piece["words"], piece["weights"], piece["by"] != "attention")
    elif piece.get("png"):
        shown = tag("img", src=f"data:image/png;base64,{piece['png']}", alt=piece.get("alt", said),
                    width=piece["width"], height=piece["height"])  # fmt: skip
    else:
        shown = tag("p", piece.get("alt", ""))
    return tag("div", tag("p", said, class_="soft"), shown)


def _words(words: Sequence[str], weights: Sequence[float], signed: bool) -> Html:
    """Words on a tint as strong as their weight, each with its number."""
    largest = max((abs(w) for w in weights), default=0) or 1.0
    made = [
        tag("span", word, class_="word" + (" for" if signed and w > 0 else ""),
            style=f"--w:{round(60 * abs(w) / largest)}%", title=f"{w:.3f}")
        for word, w in zip(words, weights, strict=True)
    ]  # fmt: skip
    return tag("div", tag("p", *made), tag("p", _strongest(words, weights), class_="soft"))


def _strongest(words: Sequence[str], weights: Sequence[float]) -> str:
    """The three words of the largest weights, for who cannot see the tint."""
    first = sorted(zip(words, weights, strict=True), key=lambda pair: -abs(pair[1]))[:3]
    return "Largest: " + ", ".join(f"{word} {weight:.3g}" for word, weight in first)


def _matrix(matrix: Mapping[str, Any]) -> Html:
    """A map from queries, down, to keys, across."""
    weights = np.asarray(matrix["weights"], np.float64)
    rows, columns = weights.shape
    largest = weights.max(initial=0) or 1.0
    marks = heat(weights / largest, 0, 0, SIDE / columns, SIDE / rows)
    said = f"{matrix['map']}: {rows} queries x {columns} keys, mean over heads"
    drawn = picture(SIDE, SIDE, said, f"largest weight {largest:.3f}", *marks)
    return tag("div", tag("p", said, class_="soft"), drawn)


def shares(table: Table, content: Mapping[str, Any]) -> Html | str:
    """How much of the attribution each modality has, and how exact the attributions are."""
    rows = {name: row for name, row in known(table, content).items() if row.get("shares")}
    names = list(dict.fromkeys(name for row in rows.values() for name in row["shares"]))
    lines = [
        [row, *(_percent(found["shares"].get(name)) for name in names),
         _percent(found.get("completeness"))]
        for row, found in rows.items()
    ]  # fmt: skip
    if not lines:
        return ""
    caption = (
        "Share of the integrated gradients in per cent, mean over examples and seeds; the last "
        "column: by how much they miss the change of the output that they must sum to"
    )
    return scrolled(simple_table(caption, ["Method", *names, "Missed"], lines), caption)


def _percent(value: Mapping[str, Any] | None) -> str:
    mean = scaled(value["summary"], 100).mean if value else None
    return "-" if mean is None else f"{mean:.1f}"


def faithfulness(table: Table, content: Mapping[str, Any]) -> Html | str:
    """Whether deleting the most attended input hurts more than deleting as much at random."""
    m = measure(content["metric"])
    lines = [
        [name, f["by"], f"{100 * f['share']:.0f} %",
         *(plain(scaled(f[k]["summary"], m.scale), m) for k in ("clean", "targeted", "random")),
         interval(f["difference"], m), verdict(f["difference"])]
        for name, row in known(table, content).items() for f in row.get("faithfulness", ())
    ]  # fmt: skip
    if not lines:
        return ""
    caption = (
        f"{axis_title(m)} after deleting the inputs that an explanation calls important. {LINES}"
    )
    heads = ["Method", "By", "Deleted", "Clean", "Important", "Random", "Difference", "Verdict"]
    return scrolled(simple_table(caption, heads, lines, "words"), caption)


def attention(table: Table, content: Mapping[str, Any]) -> list[Html | str]:
    """All of it."""
    return [faithfulness(table, content), shares(table, content), *gallery(table, content)]
