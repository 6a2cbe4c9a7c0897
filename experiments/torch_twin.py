"""The same model, start, data and optimiser as a row, in an eager PyTorch loop on the CPU.

Only ``experiments.bench --against=torch`` imports this file: PyTorch is no part of mmfuse. The twin
is what one would write by hand with PyTorch's own layers and defaults, one seed at a time, with
all data in memory. It is spared what only tokens need: a ``PlaceDense`` that is averaged over its
places is one Linear layer, pictures and sound are not masked, and it keeps no metrics.

Pictures lie in PyTorch's default layout, [B, C, H, W], or with ``channels_last`` in its other one,
which on a CPU can be half again as fast. Arrays with one channel may pass for either, and PyTorch
then chooses by their strides, so both are written out.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from mmfuse.ablation import Row
from mmfuse.errors import InputError
from mmfuse.optim import make_schedule

FUSIONS = ("unimodal", "late_average", "concat")


def refusal(row: Row, reads: tuple[str, ...]) -> str:
    """Why this row has no twin, in one line; empty if it has one."""
    if row.fusion["name"] not in FUSIONS:
        return f"no PyTorch twin of fusion '{row.fusion['name']}'; there are: {', '.join(FUSIONS)}"
    for name in reads:
        kind = row.encoders[name]["name"]
        if kind not in ENCODERS:
            return f"no PyTorch twin of encoder '{kind}'; there are: {', '.join(ENCODERS)}"
    if row.train.optimizer != "adamw":
        return f"no PyTorch twin of optimizer '{row.train.optimizer}'; there is: adamw"
    return ""


def _copy(parameter: nn.Parameter, array) -> None:
    with torch.no_grad():
        parameter.copy_(torch.from_numpy(np.array(array)))


def _linear(params: dict) -> nn.Linear:
    """``nn.Dense`` with its parameters: kernel [D, F]."""
    layer = nn.Linear(*params["kernel"].shape)
    _copy(layer.weight, params["kernel"].T)
    _copy(layer.bias, params["bias"])
    return layer


class VectorMLP(nn.Sequential):
    """Dense, ReLU, Dense, by the names of the two layers in ``params``."""

    def __init__(self, params: dict, first: str = "hidden", second: str = "out"):
        super().__init__(_linear(params[first]), nn.ReLU(), _linear(params[second]))


class PictureCNN(nn.Module):
    """``ImageCNN`` or ``SpectrogramCNN``, and the mean over places: [B, C, H, W] -> [B, D]."""

    def __init__(self, fields: dict, params: dict):
        super().__init__()
        layers = []
        for i in range(len(params) - 1):  # all but PlaceDense
            block = params[f"ConvBlock_{i}"]
            rows, columns, channels, features = block["kernel"].shape
            conv = nn.Conv2d(channels, features, (rows, columns), padding="same")
            _copy(conv.weight, block["kernel"].transpose(3, 2, 0, 1))
            _copy(conv.bias, block["bias"])
            layers += [conv, nn.ReLU(), nn.MaxPool2d(2)]
        self.blocks = nn.Sequential(*layers)
        kernel = params["PlaceDense_0"]["kernel"]
        self.places = kernel.shape[0] * kernel.shape[1]
        kernel = kernel.reshape(self.places, *kernel.shape[2:])  # [P, C, D]
        self.place = nn.Parameter(torch.empty(kernel.shape[2], kernel[:, :, 0].size))
        self.bias = nn.Parameter(torch.empty(kernel.shape[2]))
        _copy(self.place, kernel.transpose(2, 1, 0).reshape(self.place.shape))
        _copy(self.bias, params["PlaceDense_0"]["bias"])

    def forward(self, x, mask):
        return F.linear(self.blocks(x).flatten(1), self.place) / self.places + self.bias


class SequenceLSTM(nn.Module):
    """``AudioLSTM``, or ``TextLSTM`` where there is an embedding; mean over the valid steps.

    Padding is behind the words, where it cannot change the steps before it. PyTorch has two biases
    that are only ever added; one is kept at zero, so that both sides train the same numbers.
    """

    def __init__(self, fields: dict, params: dict):
        super().__init__()
        self.embed = None
        if "Embed_0" in params:
            self.embed = nn.Embedding(*params["Embed_0"]["embedding"].shape)
            _copy(self.embed.weight, params["Embed_0"]["embedding"])
        cell = params["LSTM_0"]  # the order of the gates is the same: i, f, g, o
        self.lstm = nn.LSTM(cell["input"].shape[0], cell["recurrent"].shape[0], batch_first=True)
        _copy(self.lstm.weight_ih_l0, cell["input"].T)
        _copy(self.lstm.weight_hh_l0, cell["recurrent"].T)
        _copy(self.lstm.bias_ih_l0, cell["bias"])
        _copy(self.lstm.bias_hh_l0, np.zeros_like(cell["bias"]))
        self.lstm.bias_hh_l0.requires_grad_(False)

    def forward(self, x, mask):
        if self.embed is None:
            return self.lstm(x)[0].mean(1)
        outputs = self.lstm(self.embed(x))[0] * mask[..., None]
        return outputs.sum(1) / mask.sum(1, keepdim=True)


class FrameMLP(VectorMLP):
    """``FrameMLP`` with the mean over its steps."""

    def __init__(self, fields: dict, params: dict):
        super().__init__(params, "Dense_0", "Dense_1")
        self.group = fields.get("group", 1)

    def forward(self, x, mask):
        x = x[:, None] if x.ndim == 2 else x
        x = F.pad(x, (0, 0, 0, -x.shape[1] % self.group))
        return super().forward(x.reshape(len(x), -1, self.group * x.shape[-1])).mean(1)


ENCODERS = {
    "image_cnn": PictureCNN,
    "spectrogram_cnn": PictureCNN,
    "audio_lstm": SequenceLSTM,
    "text_lstm": SequenceLSTM,
    "mlp": FrameMLP,
}


class Model(nn.Module):
    """Encoders, one of the fusions of ``FUSIONS``, head: {modality: (x, mask)} -> output [B, C]."""

    def __init__(self, row: Row, reads: tuple[str, ...], params: dict):
        super().__init__()
        self.reads = reads
        self.encoders = nn.ModuleDict()
        for name in reads:
            fields = row.encoders[name]
            self.encoders[name] = ENCODERS[fields["name"]](fields, params[f"encoders_{name}"])
        fusion = params["fusion"]
        self.concat = VectorMLP(fusion) if row.fusion["name"] == "concat" else None
        self.each = None if self.concat else nn.ModuleDict({m: VectorMLP(fusion[m]) for m in reads})
        self.head = _linear(params["head"]["affine"])

    def forward(self, batch):
        vectors = {m: self.encoders[m](*batch[m]) for m in self.reads}
        if self.concat is not None:
            return self.head(self.concat(torch.cat(list(vectors.values()), -1)))
        decisions = [self.each[m](x) for m, x in vectors.items()]
        return self.head(decisions[0] if len(decisions) == 1 else torch.stack(decisions).mean(0))


class Twin:
    """One seed of a row in PyTorch: ``run(order)`` trains on the examples of order [steps, B].

    ``params`` are the row's (numpy, without a replica axis), ``data`` the training arrays that
    ``order`` indexes, ``steps`` those of the learning-rate schedule.
    """

    def __init__(self, row: Row, reads, task: str, params, data, *, steps, channels_last=False):
        settings = self.settings = row.train
        self.task = task
        layout = torch.channels_last if channels_last else torch.contiguous_format
        self.model = Model(row, reads, params).to(memory_format=layout)
        self.data = {m: _tensors(row, m, data, layout) for m in reads}
        label = np.int64 if task == "classification" else np.float32
        self.label = torch.from_numpy(data["label"].astype(label))
        parameters = [p for p in self.model.parameters() if p.requires_grad]
        groups = [
            {"params": [p for p in parameters if p.ndim > 1]},
            {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
        ]
        self.parameters = parameters
        self.optimizer = torch.optim.AdamW(groups, weight_decay=settings.weight_decay)
        self.schedule = make_schedule(settings.schedule, settings.lr, steps, settings.warmup)

    def prepare(self, order: np.ndarray):
        """The order as tensors and the learning rates of its steps, counted from zero."""
        rates = [float(self.schedule(step)) for step in range(len(order))]
        return list(zip(rates, torch.from_numpy(order.astype(np.int64)), strict=True))

    def run(self, prepared) -> np.ndarray:
        """Trains; returns the loss of each step."""
        losses = []
        for rate, index in prepared:
            for group in self.optimizer.param_groups:
                group["lr"] = rate
            batch = {m: (x[index], mask[index]) for m, (x, mask) in self.data.items()}
            self.optimizer.zero_grad()
            loss = self._loss(self.model(batch), self.label[index])
            loss.backward()
            if self.settings.clip_norm > 0:
                nn.utils.clip_grad_norm_(self.parameters, self.settings.clip_norm)
            self.optimizer.step()
            losses.append(loss.detach())
        return torch.stack(losses).numpy()

    def _loss(self, output, label):
        if self.task != "classification":
            return F.mse_loss(output[:, 0], label)
        return F.cross_entropy(output, label, label_smoothing=self.settings.label_smoothing)


def _tensors(row: Row, modality: str, data: dict, layout) -> tuple[torch.Tensor, torch.Tensor]:
    """(x, mask) as the twin's encoders read them."""
    x, mask = torch.from_numpy(data["inputs"][modality]), data["masks"][modality]
    kind = row.encoders[modality]["name"]
    if kind == "text_lstm":
        if not mask[:, 0].all() or (mask[:, 1:] > mask[:, :-1]).any():
            raise InputError(
                "the PyTorch twin of 'text_lstm' needs messages with padding behind them"
            )
        x = x.long()
    elif not mask.all():
        raise InputError(f"the PyTorch twin of '{kind}' has no masks, but '{modality}' has")
    if kind in ("image_cnn", "spectrogram_cnn"):
        x = x.permute(0, 3, 1, 2)
        x = torch.empty(x.shape, memory_format=layout).copy_(x)
    return x, torch.from_numpy(mask.astype(np.float32))
