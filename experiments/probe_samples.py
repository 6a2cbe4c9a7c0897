"""What a finished run generates, beside what is true: pictures, sounds to be played, texts.

The inputs are validation examples, as for attention, and the parameters those of the first seed.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
import soundfile

from experiments.inspect_views import heat
from experiments.probe_views import View, enlarged, png
from mmfuse import decoding
from mmfuse.data.griffin_lim import griffin_lim, mel_to_power
from mmfuse.data.loader import Dataset
from mmfuse.data.text import FIRST_WORD
from mmfuse.model import FusionModel, model_inputs
from mmfuse.probing.replies import SEARCHED, TOP_P, WIDTH
from mmfuse.restored import Finished
from mmfuse.tasks import Judged, Task
from mmfuse.tasks.picture import PictureOf
from mmfuse.tasks.sequences import Sound, Words

DRAWS = 2  # texts from the nucleus
LOUD = 0.9  # the largest sample of a sound
Piece = dict[str, Any]


class Pictures:
    """Means of pixels."""

    def __init__(self, task: PictureOf, card: Mapping[str, Any]):
        del card
        self.task = task

    def made(self, model: FusionModel, params: Any, batch: dict) -> dict[str, jax.Array]:
        """What is generated, by how."""
        output, _ = model.apply({"params": params}, *model_inputs(batch), train=False)
        return {"generated": self.task.rendered(output)}

    def true(self, label: Any) -> np.ndarray:
        """What should have been."""
        return label

    def piece(self, x: np.ndarray) -> Piece:
        """As a page shows it: 0 is black and 1 white."""
        grey = (255 * np.clip(x, 0, 1)).round().astype(np.uint8)
        colour = np.repeat(grey, 3, axis=-1) if grey.shape[-1] == 1 else grey
        return {"kind": "picture", **png(enlarged(colour))}


class Sounds:
    """Frames, each made from those before it as they were made; log-mel ones can be heard."""

    def __init__(self, task: Sound, card: Mapping[str, Any]):
        self.shape, self.scale = tuple(task.shape), card.get("sound")

    def made(self, model: FusionModel, params: Any, batch: dict) -> dict[str, jax.Array]:
        """What is generated, by how."""
        size = len(batch["weight"])
        score = decoding.scorer(model, params, batch)
        return {"generated": decoding.frames(score, size, self.shape)}

    def true(self, label: Any) -> np.ndarray:
        """What should have been."""
        return label["value"]

    def piece(self, x: np.ndarray) -> Piece:
        """As a page shows it, time to the right; with the sound, if the card says its scale."""
        drawn = {"kind": "spectrogram", **png(enlarged(heat(x)))}
        return drawn if self.scale is None else drawn | {"wav": wav(x, self.scale)}


class Texts:
    """Words: the likeliest at each step, by beam search, and drawn from the nucleus."""

    def __init__(self, task: Words, card: Mapping[str, Any]):
        self.end, self.words = task.end, card.get("word", ())

    def made(self, model: FusionModel, params: Any, batch: dict) -> dict[str, jax.Array]:
        """What is generated, by how."""
        size, length = batch["label"].shape
        score = decoding.scorer(model, params, batch)
        found = {
            "greedy": decoding.greedy(score, size, length, end=self.end),
            SEARCHED: decoding.searched(model, params, batch, length, WIDTH, end=self.end),
        }
        for draw in range(DRAWS):
            key = jax.random.key(draw)
            found[f"nucleus {TOP_P}, draw {draw + 1}"] = decoding.sample(
                score, size, length, key, end=self.end, top_p=TOP_P
            )
        return found

    def true(self, label: Any) -> np.ndarray:
        """What should have been."""
        return label

    def piece(self, x: np.ndarray) -> Piece:
        """As a page shows it, without its end; an id without a word is told as a number."""
        told = [self._word(int(i)) for i in x if i not in (0, self.end)]
        return {"kind": "text", "text": " ".join(told)}

    def _word(self, number: int) -> str:
        place = number - FIRST_WORD
        return self.words[place] if 0 <= place < len(self.words) else f"<{number}>"


KINDS = {PictureOf: Pictures, Sound: Sounds, Words: Texts}


def generates(task: Task) -> bool:
    """Whether there is something to be shown."""
    return isinstance(_bare(task), tuple(KINDS))


def samples_entry(row: Finished, dataset: Dataset, batch: dict, few: int) -> dict[str, Any]:
    """The first ``few`` validation examples, ``batch`` among them: true, and as generated."""
    task, model = row.built.program.task, row.built.model
    kind = next(made for base, made in KINDS.items() if isinstance(_bare(task), base))
    kind = kind(_bare(task), dataset.card)
    judged = isinstance(task, Judged)
    if judged:
        label, shown = batch["label"]["target"], batch["label"]["class"]
        batch = batch | {"label": label}
    params = jax.tree.map(lambda x: x[0], row.params)
    made = jax.device_get(jax.jit(lambda p, b: kind.made(model, p, b))(params, batch))
    true, columns = kind.true(batch["label"]), dataset.raw("valid", range(few))
    samples = []
    for place in range(few):
        pieces = [{"said": how} | kind.piece(x[place]) for how, x in made.items()]
        right = {"said": "true"} | kind.piece(true[place])
        if judged:
            for piece, x in zip(pieces, made.values(), strict=True):
                piece["read"] = int(task.judge(x[place][None])[0])
            right |= {"read": int(task.judge(true[place][None])[0]), "is": int(shown[place])}
        identity = columns["id"][place] if "id" in columns else str(place)
        samples.append(
            {
                "id": identity.decode() if isinstance(identity, bytes) else str(identity),
                "input": _inputs(row, dataset, columns, batch, place),
                "true": right,
                "made": pieces,
            }
        )
    return {"samples": samples, "samples_seed": row.seeds[0]}


def _inputs(row: Finished, dataset: Dataset, columns: Mapping, batch: dict, place: int) -> list:
    """What the row read."""
    return [
        {"said": m}
        | View(
            dataset.preprocessors[m],
            columns[m][place],
            np.asarray(batch["inputs"][m][place]),
            np.asarray(batch["masks"][m][place]),
        ).plain()
        for m in row.built.reads
    ]


def _bare(task: Task) -> Task:
    return task.task if isinstance(task, Judged) else task


def wav(frames: np.ndarray, scale: Mapping[str, float]) -> str:
    """Standardised log-mel frames [T, F] as sound, an 8-bit WAV in base64.

    Phases are not in them: those that fit are found by `griffin_lim`.
    """
    log_mels = frames * scale["std"] + scale["mean"]
    power = mel_to_power(log_mels, scale["sample_rate"], scale["n_fft"])
    samples = griffin_lim(power, scale["n_fft"], scale["hop"])
    samples = LOUD * samples / max(float(np.abs(samples).max()), 1e-9)
    file = io.BytesIO()
    soundfile.write(file, samples, scale["sample_rate"], format="WAV", subtype="PCM_U8")
    return base64.b64encode(file.getvalue()).decode()
