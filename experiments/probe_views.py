"""What a run looks at, drawn on the raw input: words, the picture, the spectrogram.

A token ``[t, s]`` stands for the t-th of T equal parts of the time, and the s-th of S parts of the
picture (row by row) or of the bands. That is what the encoders do, up to a frame at the edges.
"""

from __future__ import annotations

import base64
import io
from typing import Any

import numpy as np
from PIL import Image

from experiments.inspect_views import heat
from mmfuse.data.loader import Dataset
from mmfuse.data.preprocess import Picture, Text
from mmfuse.probing.deletion import BY, Explained
from mmfuse.restored import Finished
from mmfuse.tasks import Classification
from mmfuse.transforms.base import kind

SIDE = 96  # pixels of the longer side of what is drawn
LARGEST_MATRIX = 64  # queries or keys
FOR, AGAINST = (214, 39, 40), (31, 119, 180)  # red: weight, or for the class; blue: against it
DIGITS = 4


def draw(dataset: Dataset, row: Finished, found: Explained, few: int) -> list[dict[str, Any]]:
    """The first ``few`` validation examples with what the first seed of the row looks at."""
    columns = dataset.raw("valid", range(few))
    batch = dataset.batch("valid", range(few))
    names = dataset.card.get("class_names", ())
    drawn = []
    for place in range(few):
        example = {m: (columns[m][place], batch["inputs"][m][place], batch["masks"][m][place])
                   for m in row.built.reads}  # fmt: skip
        views = {m: View(dataset.preprocessors[m], *parts) for m, parts in example.items()}
        identity = columns["id"][place] if "id" in columns else str(place)
        drawn.append(
            {
                "id": identity.decode() if isinstance(identity, bytes) else str(identity),
                "label": _label(names, batch["label"][place], row),
                "predicted": _predicted(names, found.seen["output"][0, place], row),
                "pieces": _pieces(views, row, found, place),
                "matrices": _matrices(found, place),
            }
        )
    return drawn


def _label(names, label, row: Finished) -> str:
    if not isinstance(row.built.program.task, Classification):
        return f"{float(label):.3g}"
    return str(names[int(label)]) if len(names) else str(int(label))


def _predicted(names, output: np.ndarray, row: Finished) -> str:
    best = np.argmax(output) if isinstance(row.built.program.task, Classification) else output[0]
    return _label(names, best, row)


def _pieces(views: dict, row: Finished, found: Explained, place: int) -> list[dict[str, Any]]:
    """The mean of each explanation for each modality, then every map and head by itself."""
    shapes = {m: mask[place].shape for m, mask in found.first["shape"].items()}
    pieces = []
    for by, key in BY.items():
        for m, weights in found.seen[key].items():
            mean = weights[0, place].reshape(shapes[m])
            pieces.append({"by": by, "map": "mean", "head": None, **_piece(views[m], m, mean)})
    for name, maps in sorted(found.first["maps"].items()):
        m = name.partition("<-")[2]
        for head, rows in enumerate(maps[place]):
            live = rows[rows.sum(-1) > 0]
            mean = live.mean(axis=0) if len(live) else rows[0]
            piece = _piece(views[m], m, mean.reshape(shapes[m]))
            pieces.append({"by": "attention", "map": name, "head": head, **piece})
    return pieces


def _piece(view: View, modality: str, weights: np.ndarray) -> dict[str, Any]:
    return {"modality": modality, **view.draw(weights)}


def _matrices(found: Explained, place: int) -> list[dict[str, Any]]:
    """Every map between real tokens, a mean over heads, where it is small enough to be read."""
    shape = {m: mask[place].reshape(-1) for m, mask in found.first["shape"].items()}
    matrices = []
    for name, maps in sorted(found.first["maps"].items()):
        query, _, key = name.partition("<-")
        matrix = maps[place].mean(axis=0)[:, shape[key]]
        if query in shape and len(shape[query]) == len(matrix):
            matrix = matrix[shape[query]]
        if matrix.size and max(matrix.shape) <= LARGEST_MATRIX:
            rows, columns = matrix.shape
            matrices.append({"map": name, "rows": rows, "columns": columns,
                             "weights": _rounded(matrix)})  # fmt: skip
    return matrices


class View:
    """One modality of one example, onto which weights [T, S] of its tokens are drawn, or none."""

    def __init__(self, preprocessor: Any, raw: Any, x: np.ndarray, mask: np.ndarray):
        self.x, self.mask, self.kind = x, mask, kind(x, mask)
        self.words, self.picture = None, x
        if isinstance(preprocessor, Text):
            words = after(preprocessor, raw, "cut")
            self.words = [preprocessor.vocabulary.readable(word) for word in words]
        elif isinstance(preprocessor, Picture) and mask.any():  # sharper than what the model gets
            self.picture = after(preprocessor, raw, "crop", "decode")

    def draw(self, weights: np.ndarray) -> dict[str, Any]:
        """The weights, and the picture that they lie upon."""
        if self.words is not None and weights.shape[1] == 1:
            given = weights[: len(self.words), 0]
            return {"kind": "words", "words": self.words, "weights": _rounded(given)}
        said = {"weights": _rounded(weights), "alt": _said(weights)}
        if self.kind not in ("picture", "frames"):
            return {"kind": "vector", **said}
        if self.kind == "picture":
            pixels, grid = pixels_of(self.picture), _grid(weights, self.picture.shape[:2])
        else:
            pixels, grid = heat(self.x), weights.T[::-1]
        name = "picture" if self.kind == "picture" else "spectrogram"
        return {"kind": name, **png(_overlaid(pixels, grid)), **said}

    def plain(self) -> dict[str, Any]:
        """The example without weights; of what has no picture, its size."""
        if self.words is not None:
            return {"kind": "text", "text": " ".join(self.words)}
        if self.kind == "picture":
            return {"kind": "picture", **png(enlarged(pixels_of(self.picture)))}
        if self.kind == "frames":
            return {"kind": "spectrogram", **png(enlarged(heat(self.x)))}
        return {"kind": "text", "text": f"{self.x.size} numbers"}


def after(preprocessor: Any, raw: Any, *stages: str) -> Any:
    """The value of one raw example after the first of these stages that the preprocessor has."""
    values = {name: value for name, value, _ in preprocessor.steps(raw)}
    return next(values[stage] for stage in stages if stage in values)


def pixels_of(x: np.ndarray) -> np.ndarray:
    """A picture [H, W, C] of any numbers as uint8 RGB, from its least to its largest value."""
    x = x.astype(np.float32)
    low, high = x.min(), x.max()
    unit = (x - low) / (high - low) if high > low else np.zeros_like(x)
    pixels = (unit * 255).round().astype(np.uint8)
    return pixels[..., :3] if pixels.shape[-1] >= 3 else np.repeat(pixels[..., :1], 3, axis=-1)


def _grid(weights: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Patches [1, S] as rows and columns, as nearly in the picture's proportion as S allows."""
    patches = weights.reshape(-1)
    number, wanted = len(patches), np.log(size[0] / size[1])
    heights = [h for h in range(1, number + 1) if number % h == 0]
    height = min(heights, key=lambda h: abs(np.log(h * h / number) - wanted))
    return patches.reshape(height, -1)


def _overlaid(pixels: np.ndarray, grid: np.ndarray) -> Image.Image:
    """The picture in grey under the grid's colours: the largest weight is opaque, zero is clear."""
    grey = enlarged(pixels).convert("L").convert("RGB")
    size = grey.size
    largest = np.abs(grid).max()
    strength = np.abs(grid) / largest if largest > 0 else np.zeros_like(grid)
    colours = np.where((grid >= 0)[..., None], FOR, AGAINST)
    tint, alpha = (
        Image.fromarray(values.astype(np.uint8)).resize(size, Image.NEAREST)
        for values in (colours, 190 * strength)
    )
    return Image.composite(tint, grey, alpha)


def enlarged(pixels: np.ndarray) -> Image.Image:
    """uint8 [H, W, 3] with a longer side of ``SIDE`` pixels."""
    height, width = pixels.shape[:2]
    scale = SIDE / max(height, width)
    size = (max(8, round(width * scale)), max(8, round(height * scale)))
    return Image.fromarray(pixels).resize(size, Image.NEAREST)


def png(picture: Image.Image) -> dict[str, Any]:
    """A PNG of 64 colours in base64, for a report holds hundreds of them; and its size."""
    file = io.BytesIO()
    picture.quantize(64).save(file, "PNG", optimize=True)
    width, height = picture.size
    return {"png": base64.b64encode(file.getvalue()).decode(), "width": width, "height": height}


def _said(weights: np.ndarray) -> str:
    """The three largest weights and where they are, for who cannot see the picture."""
    flat = np.argsort(-np.abs(weights), axis=None)[:3]
    places = [np.unravel_index(i, weights.shape) for i in flat]
    told = ", ".join(f"step {t + 1} place {s + 1}: {weights[t, s]:.3g}" for t, s in places)
    return f"{weights.shape[0]} steps of {weights.shape[1]} places; largest {told}"


def _rounded(values: np.ndarray) -> list:
    return np.round(np.asarray(values, np.float64), DIGITS).tolist()
