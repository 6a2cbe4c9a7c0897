"""A workdir with a row of an ugly name, curves and probes, and what every page must keep to."""

import dataclasses
import html.parser
import itertools
import json

from mmfuse.stats import summary
from mmfuse.workdir import open_workdir
from tests.records import SCORES, make_record

UGLY = '<script>alert(1)</script> & "x"'
ROWS = {**SCORES, UGLY: (0.81, 0.80, 0.84)}
MODALITIES = ["image", "text"]

PIXEL = {"png": "AAAA", "width": 8, "height": 8}
SAMPLE = {
    "id": "valid-<7>",
    "input": [{"said": "text", "kind": "text", "text": "<i>my</i> parcel"},
              {"said": "image", "kind": "picture", **PIXEL}],
    "true": {"said": "true", "kind": "spectrogram", **PIXEL, "wav": "UklG", "read": 3, "is": 5},
    "made": [{"said": "generated", "kind": "spectrogram", **PIXEL, "wav": "UklG", "read": 5},
             {"said": "greedy", "kind": "text", "text": ""}],
}  # fmt: skip


def curve(start, end, epochs=4):
    """Accuracy from start to end, in even steps, and a loss that falls."""
    step = (end - start) / (epochs - 1)
    return [{"accuracy": start + i * step, "loss": 1 / (i + 1)} for i in range(epochs)]


def report_records():
    """Four rows of three seeds, with curves."""
    return [
        make_record(
            row, seed, x,
            curves={"train": curve(0.2, 1.0), "valid": curve(0.3, x)},
            parameters=1000 * (place + 1) ** 2, reads=MODALITIES,
            memory={"activation_bytes_per_example": 1000 * (place + 1)},
            clock={"train_seconds": (place + 1) * (12.3 + seed)},
        )
        for place, (row, xs) in enumerate(ROWS.items()) for seed, x in enumerate(xs)
    ]  # fmt: skip


def make_workdir(path, name="tiny", records=None):
    """A workdir that ``experiments.ablate`` could have written."""
    records = report_records() if records is None else records
    rows = dict.fromkeys(record["row"] for record in records)
    identity = {"name": name, "seeds": [0, 1, 2], "rows": {row: {} for row in rows}}
    command = "python -m experiments.ablate --config=<tiny>"
    with open_workdir(path, identity, baseline="concat", command=command) as workdir:
        for record in records:
            workdir.write_record(record)
    return path


def value(*numbers):
    """A number a seed and their summary, as probes write it."""
    known = [n for n in numbers if n is not None]
    found = dataclasses.asdict(summary(known))
    return {"values": {str(i): n for i, n in enumerate(numbers)}, "summary": found}


def write_probes(workdir, rows=("concat", UGLY)):
    """What ``experiments.probe`` writes: all six files, for some of the rows."""
    shared = {"format": 1, "metric": "accuracy", "higher": True, "split": "test",
              "modalities": MODALITIES}  # fmt: skip
    clean = value(0.8, 0.81, 0.85)
    machine = {"device": "cpu", "cores": 2, "repeats": 5}

    def params(row):
        return {"params": {str(seed): f"{row}{seed}" for seed in range(3)}}

    def each(**content):
        opened = [{"run": "a", "purpose": "probe", "at": f"T{i}"} for i in range(2)]
        about = {"seeds": [0, 1, 2], "openings": opened, "clean": clean}
        return {row: params(row) | about | content for row in rows}

    points = [
        {"change": change, "modalities": [m], **value(0.5, 0.51, 0.55),
         "difference": value(-0.3, -0.31, -0.32)["summary"]}
        for change in ("removed", "shuffled") for m in MODALITIES
    ]  # fmt: skip
    curves = [
        {"kind": kind, "modality": m, "axis": axis, "x": [0, 0.5, 1],
         "points": [clean, value(0.7, 0.6, None), value(None, None, None)], "area": clean}
        for kind, axis in (("modality", "P(modality absent)"), ("steps", "P(step absent)"))
        for m in MODALITIES
    ]  # fmt: skip
    noise = [c | {"kind": "noise", "axis": "SNR (dB)"} for c in curves[:2]]
    pieces = [
        {"by": "attention", "map": "mean", "head": None, "modality": "text", "kind": "words",
         "words": ["<b>my</b>", "parcel"], "weights": [0.25, 0.75]},
        {"by": "attention", "map": "text<-image", "head": 0, "modality": "image",
         "kind": "picture", "png": "AAAA", "width": 8, "height": 8, "weights": [[1.0]],
         "alt": "the <picture>"},
        {"by": "integrated gradients", "map": "mean", "head": None, "modality": "text",
         "kind": "words", "words": ["my", "parcel"], "weights": [-0.5, 0.5]},
        {"by": "integrated gradients", "map": "mean", "head": None, "modality": "x",
         "kind": "vector", "weights": [[0.5]], "alt": "features"},
    ]  # fmt: skip
    drawn = {
        "id": "valid-0",
        "label": "<a>",
        "predicted": "b",
        "pieces": pieces,
        "matrices": [{"map": "text<-image", "rows": 1, "columns": 2, "weights": [[0.2, 0.8]]}],
    }
    found = {"by": "attention", "share": 0.25, "clean": clean, "targeted": value(0.4, 0.41, 0.42),
             "random": value(0.7, 0.71, 0.72),
             "difference": value(0.3, 0.3, 0.31)["summary"]}  # fmt: skip
    contents = {
        "modalities": shared | {"rows": each(points=points)},
        "noise": shared | {"rows": each(curves=noise)},
        "missing": shared | {"rows": each(curves=curves)},
        "attention": shared | {"rows": each(
            drawn=[drawn], drawn_seed=0, faithfulness=[found], completeness=value(0.01, 0.02, 0.03),
            shares={"text": value(0.6, 0.6, 0.6), "image": value(0.4, 0.4, 0.4)})},
        "samples": shared | {"rows": each(samples=[SAMPLE, SAMPLE], samples_seed=0)},
        "latency": {"format": 1, "rows": {
            row: params(row) | machine | {"at_one": 0.002 * (i + 1), "at_best": None}
            for i, row in enumerate(rows)}},
    }  # fmt: skip
    (workdir / "probes").mkdir()
    for kind, content in contents.items():
        (workdir / "probes" / f"{kind}.json").write_text(json.dumps(content))


class Page(html.parser.HTMLParser):
    """Reads a page: every element that is opened is closed, and every attribute is kept.

    ``elements`` are (tag, attributes, path of open tags); ``text`` is all text by tag.
    """

    VOID = ("meta", "img", "br")

    def __init__(self, text):
        super().__init__()
        self.open, self.elements, self.texts = [], [], []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs), tuple(self.open)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append((self.open[-1] if self.open else "", data))

    def all(self, name):
        """Attributes of all elements of a name."""
        return [attributes for tag, attributes, _ in self.elements if tag == name]

    def said(self, name=None):
        """All text, or that directly in elements of a name."""
        return [text for tag, text in self.texts if name in (None, tag)]


def check_page(text):
    """What every page keeps to: offline, well formed, and readable without seeing it."""
    page = Page(text)
    for tag, attributes, _ in page.elements:
        for name in ("src", "href", "xlink:href", "action", "srcset", "poster"):
            address = attributes.get(name, "#")
            assert address.startswith(("#", "data:")), (tag, address)
        assert not any(name.startswith("on") for name in attributes), attributes
    assert "url(" not in text and "@import" not in text
    ids = [a["id"] for _, a, _ in page.elements if "id" in a]
    assert len(ids) == len(set(ids))
    targets = [a["href"][1:] for a in page.all("a") if a["href"].startswith("#")]
    assert set(targets) <= set(ids)
    assert all(a.get("scope") in ("row", "col") for a in page.all("th"))
    tables = [path.count("table") for tag, _, path in page.elements if tag == "caption"]
    assert len(tables) == len(page.all("table"))
    pictures = [a for a in page.all("svg") if a.get("aria-hidden") != "true"]
    described = [path for tag, _, path in page.elements if tag == "desc"]
    assert len(described) == len(pictures) and all(a["role"] == "img" for a in pictures)
    assert all(a.get("alt") for a in page.all("img"))
    assert (
        page.all("html") == [{"lang": "en"}] and len(page.all("h1")) == len(page.all("main")) == 1
    )
    levels = [int(tag[1]) for tag, _, _ in page.elements if tag in ("h1", "h2", "h3", "h4", "h5")]
    assert all(b <= a + 1 for a, b in itertools.pairwise(levels)), levels
    return page
