"""What rows generate, beside what is true: pictures, spectrograms that can be played, texts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mmfuse.markup import Html, tag
from mmfuse.report.probes import known
from mmfuse.summary import Table

HOW = (
    "The inputs are validation examples. A generated picture or sound is the mean of what may come "
    "next, as the loss asks for it, so it is smoother than a true one; a text is the likeliest "
    "word after the other, or drawn."
)


def samples(table: Table, content: Mapping[str, Any]) -> list[Html]:
    """A part for each row that was asked; the first is open."""
    found = []
    for name, row in known(table, content).items():
        examples = [_sample(sample) for sample in row["samples"]]
        if examples:
            words = f"{name}: {len(examples)} samples, seed {row['samples_seed']}"
            opened = None if found else ""
            found.append(tag("details", tag("summary", words), *examples, open=opened))
    return [tag("p", HOW), *found] if found else []


def _sample(sample: Mapping[str, Any]) -> Html:
    shown = [*sample["input"], sample["true"], *sample["made"]]
    return tag("section", tag("p", sample["id"], class_="name"), _pieces(shown))


def _pieces(pieces: Sequence[Mapping[str, Any]]) -> Html:
    return tag("div", *map(_piece, pieces), class_="grid")


def _piece(piece: Mapping[str, Any]) -> Html:
    said = piece["said"]
    if "is" in piece:
        said += f": {piece['is']}"
    if "read" in piece:
        said += f", read as {piece['read']}"
    if piece["kind"] == "text":
        shown = [tag("p", piece["text"] or "(nothing)", class_="text")]
    else:
        picture = tag("img", src=f"data:image/png;base64,{piece['png']}",
                      alt=f"{piece['kind']}, {said}",
                      width=piece["width"], height=piece["height"])  # fmt: skip
        shown = [picture, *_player(piece, said)]
    return tag("div", tag("p", said, class_="soft"), *shown)


def _player(piece: Mapping[str, Any], said: str) -> list[Html]:
    if "wav" not in piece:
        return []
    source = f"data:audio/wav;base64,{piece['wav']}"
    return [tag("div", tag("audio", controls="", src=source, aria_label=said))]
