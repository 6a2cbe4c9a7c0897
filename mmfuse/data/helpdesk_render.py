"""Draws the raw message, picture and waveform of a helpdesk request from the codes it shows.

Pure functions of (codes, numpy Generator). Wording, language, colour, position, size, pitch,
loudness and sensor noise vary at random and say nothing of the label; the codes can be read back
from the raw signal without error (a test does so with a small probe).
"""

from __future__ import annotations

import numpy as np

from mmfuse.data.helpdesk_factors import STEPS

SAMPLE_RATE = 8000
SIDE = 32

TOPIC_WORDS = {
    "en": (
        ("invoice", "refund", "payment", "receipt"),
        ("delivery", "courier", "shipment", "tracking"),
        ("repair", "broken", "warranty", "technician"),
        ("password", "login", "username", "profile"),
    ),
    "zh": (
        ("发票", "退款", "付款", "收据"),
        ("快递", "配送", "物流", "包裹"),
        ("维修", "故障", "保修", "师傅"),
        ("密码", "登录", "账号", "头像"),
    ),
}
FLAG_WORDS = {
    "en": (("newly", "freshly"), ("repeatedly", "persistently")),
    "zh": (("首次", "刚才"), ("反复", "多次")),
}
FILLER_WORDS = {
    "en": ("hello", "please", "help", "with", "my", "the", "order", "thanks"),
    "zh": ("您好", "请问", "帮忙", "我们", "订单", "谢谢", "看看", "客服"),
}
CUE_WORDS = {
    "en": (("okay", "fine", "sure", "right"), ("terrible", "awful", "unacceptable", "furious")),
    "zh": (("可以", "不错", "知道", "明白"), ("糟糕", "投诉", "失望", "生气")),
}
_SEPARATOR = {"en": " ", "zh": "，"}


def _language(rng: np.random.Generator) -> str:
    return "zh" if rng.random() < 0.5 else "en"


def message(topic: int, flag: int, rng: np.random.Generator) -> str:
    """A message of 4 to 7 words that holds one word of its topic and one of its flag."""
    language = _language(rng)
    words = list(rng.choice(FILLER_WORDS[language], size=rng.integers(2, 6)))
    for choices in (TOPIC_WORDS[language][topic], FLAG_WORDS[language][flag]):
        words.insert(rng.integers(len(words) + 1), rng.choice(choices))
    return _SEPARATOR[language].join(words)


def cue_message(pattern: int, rng: np.random.Generator) -> str:
    """One word per time step: a complaint where the bit of that step is set, else a neutral one."""
    language = _language(rng)
    bits = [pattern >> step & 1 for step in range(STEPS)]
    return _SEPARATOR[language].join(rng.choice(CUE_WORDS[language][bit]) for bit in bits)


_PRODUCT_HUE = np.array([[200, 60, 60], [190, 150, 60], [70, 170, 80], [70, 90, 200]], np.float64)


def picture(topic: int, flag: int, rng: np.random.Generator) -> np.ndarray:
    """uint8 [32, 32, 3]: a square, disc, triangle or ring on a light ground, cracked or not."""
    y, x = np.mgrid[:SIDE, :SIDE] - (SIDE - 1) / 2 - rng.uniform(-2, 2, size=(2, 1, 1))
    size = rng.uniform(9, 11)
    radius = np.hypot(x, y)
    shape = (
        np.maximum(abs(x), abs(y)) < size,
        radius < size,
        (y < size) & (y > 2 * abs(x) - size),
        (radius < size) & (radius > 0.5 * size),
    )[topic]
    image = np.broadcast_to(rng.uniform(190, 240, size=3), (SIDE, SIDE, 3)).copy()
    image[shape] = _PRODUCT_HUE[topic] + rng.uniform(-25, 25, size=3)
    if flag:
        slope = rng.uniform(-0.3, 0.3)
        image[(abs(y - slope * x) < 1.6) & (abs(x) < size)] = 10
    image += rng.normal(0, 8, image.shape)
    return np.clip(np.rint(image), 0, 255).astype(np.uint8)


_PITCH = np.array([[220, 220], [440, 440], [220, 440], [440, 220]], np.float64)  # Hz, start and end


def _voice(pitch: np.ndarray, harsh: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """int16 waveform: a tone of the given pitch (Hz) per sample; harsh adds odd harmonics."""
    phase = 2 * np.pi * np.cumsum(pitch) / SAMPLE_RATE + rng.uniform(0, 2 * np.pi)
    wave = np.sin(phase) + harsh * (0.7 * np.sin(3 * phase) + 0.5 * np.sin(5 * phase))
    wave *= rng.uniform(0.7, 1.4) / 4
    wave += rng.normal(0, 0.02, wave.shape)
    return np.clip(np.rint(wave * 2**14), -(2**15), 2**15 - 1).astype(np.int16)


def tone(topic: int, flag: int, rng: np.random.Generator) -> np.ndarray:
    """int16 [8000]: one second of voice at 8 kHz; pitch contour = topic, harshness = flag."""
    start, end = _PITCH[topic] * rng.uniform(0.95, 1.05)
    return _voice(np.linspace(start, end, SAMPLE_RATE), np.float64(flag), rng)


def cue_tone(pattern: int, rng: np.random.Generator) -> np.ndarray:
    """int16 [8000]: eight segments of 125 ms; harsh where the bit of that step is set."""
    harsh = np.repeat([pattern >> step & 1 for step in range(STEPS)], SAMPLE_RATE // STEPS)
    pitch = np.full(SAMPLE_RATE, 300 * rng.uniform(0.9, 1.1))
    return _voice(pitch, harsh, rng)
