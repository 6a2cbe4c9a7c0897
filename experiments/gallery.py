"""Writes the page of all fusion methods: what each computes, what it costs, what was checked.

    python -m experiments.gallery --into=docs/fusions.md [--only=REGEX]

Words and equations come from the docstrings; parameters, FLOPs, activation memory and the time of
a training step are counted or measured at one reference size, the same for all; the contract kit
runs with 1, 2, 3 and 6 modalities. ``--only`` prints the entries that match and writes nothing.
"""

from __future__ import annotations

import multiprocessing
import os
import platform
import re
import statistics
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from experiments import cli
from mmfuse import cost
from mmfuse.cells import count
from mmfuse.cells import flops as quantity
from mmfuse.config import load_config
from mmfuse.contract import CHECKS, examine
from mmfuse.errors import InputError
from mmfuse.fusion import FUSIONS, build_fusion
from mmfuse.fusion.about import about
from mmfuse.record import git_state, versions, write_atomic

FAMILIES = {
    "late": "Late: decisions, and the controls of every table",
    "spatial": "Spatial: vectors meet in one common space",
    "temporal": "Temporal: modalities meet along time",
    "deep": "Deep: modalities meet at several layers",
}
SHAPES = {"audio": (10, 1, 32), "image": (1, 4, 32), "text": (8, 1, 32)}  # [T, S, D], as helpdesk
FEATURES, OUTPUTS, BATCH, REPEATS = 32, 8, 64, 20
NUMBERS = (1, 2, 3, 6)


def main(argv: list[str]) -> int:
    """The command; returns its exit code."""
    parser = cli.Parser(prog="experiments.gallery", description=__doc__)
    parser.add_argument("--into", help="the file to write")
    parser.add_argument("--only", default="", help="print the methods that match this regex")
    args = parser.parse_args(argv)
    if not args.into and not args.only:
        raise InputError("say where the page goes: --into=FILE, or what to print: --only=REGEX")
    chosen = [name for name in FUSIONS if re.search(args.only, name)]
    entries = {name: Entry(name) for name in chosen}
    if args.only:
        print("\n".join(line for entry in entries.values() for line in entry.lines()))
    else:
        write_atomic(args.into, "\n".join(_page(entries)) + "\n")
    return 0


class Entry:
    """One method at the reference size."""

    def __init__(self, name: str):
        self.name, self.about = name, about(FUSIONS[name])
        fusion = build_fusion(name, **reference_fields(name))
        self.fields = {k: v for k, v in reference_fields(name).items() if k != "features"}
        self.parameters, self.flops, self.bytes, self.step = _costs(fusion)

    def row(self, points: Iterable[int]) -> str:
        """Its line in the table of its family; ``points`` of the contract hold, by ``NUMBERS``."""
        total = len(CHECKS)
        kit = " ".join("ok" if p == total else f"{p}/{total}" for p in points)
        cells = (
            f"[{self.name}](#{self.name.replace(' ', '-')})",
            "yes" if self.about.needs_time else "",
            count(self.parameters), quantity(self.flops), quantity(self.bytes) + "B",
            f"{self.step * 1e6:.0f}", kit,
        )  # fmt: skip
        return f"| {' | '.join(cells)} |"

    def lines(self) -> Iterator[str]:
        """Its section."""
        yield f"### {self.name}"
        yield ""
        yield f"**{self.about.title}**"
        yield ""
        yield self.about.text
        yield ""
        if self.fields:
            yield f"Reference fields: {', '.join(f'`{k}={v}`' for k, v in self.fields.items())}."
            yield ""


def reference_fields(name: str) -> dict[str, Any]:
    """The fields that ``configs/zoo.py`` gives this method."""
    if name in ("unimodal", "identity"):
        return {"modality": "text"} | ({"features": FEATURES} if name == "unimodal" else {})
    fields = dict(load_config("configs/zoo.py").rows[name].fusion)
    del fields["name"]
    wants = FUSIONS[name].__dataclass_fields__
    return fields | ({"outputs": OUTPUTS} if "outputs" in wants else {})


def _batch(size: int) -> tuple[dict, dict]:
    rng = np.random.default_rng(0)
    tokens = {m: rng.standard_normal((size, *s), np.float32) for m, s in SHAPES.items()}
    return tokens, {m: np.ones((size, *s[:2]), bool) for m, s in SHAPES.items()}


def _costs(fusion: nn.Module) -> tuple[int, int, int, float]:
    """(parameters, FLOPs and kept bytes of an example, seconds of a training step an example)."""
    one, many = _batch(1), _batch(BATCH)
    params = fusion.init(jax.random.key(0), *one, train=False).get("params", {})

    def forward(p, tokens, masks, train=False):
        rngs = {"dropout": jax.random.key(0)} if train else {}
        fused = fusion.apply({"params": p}, tokens, masks, train=train, rngs=rngs)
        return jnp.sum(fused.tokens) + sum(map(jnp.sum, fused.losses.values()))

    step = jax.jit(jax.grad(lambda p, t, m: forward(p, t, m, train=True)))
    jax.block_until_ready(step(params, *many))
    times = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        jax.block_until_ready(step(params, *many))
        times.append(time.perf_counter() - start)
    return (
        cost.count_parameters(params),
        cost.count_flops(forward, params, *one),
        cost.activation_bytes(lambda *args: forward(*args, train=True), params, *one),
        statistics.median(times) / BATCH,
    )


def _kit(name: str, modalities: int) -> int:
    """How many points of the contract hold."""
    fields = reference_fields(name) | {"features": 4}
    return len(examine(build_fusion(name, **fields), modalities=modalities).passed)


def _contract(names: Sequence[str]) -> dict[str, list[int]]:
    """How many points hold for each of ``NUMBERS``, by method; one process a core."""
    tasks = [(name, number) for name in names for number in NUMBERS]
    spawn = multiprocessing.get_context("spawn")  # a process that has JAX cannot be forked
    workers = min(os.cpu_count() or 1, len(names))
    with ProcessPoolExecutor(workers, mp_context=spawn) as pool:
        held = list(pool.map(_kit, *zip(*tasks, strict=True)))
    return {name: held[i * len(NUMBERS) : (i + 1) * len(NUMBERS)] for i, name in enumerate(names)}


def _page(entries: dict[str, Entry]) -> Iterator[str]:
    git, found = git_state(), versions()
    contract = _contract(list(entries))
    yield "# The fusion methods"
    yield ""
    yield (
        f"Written by `python -m experiments.gallery --into=docs/fusions.md` at commit "
        f"{(git['commit'] or 'unknown')[:12]}{' with local changes' if git['dirty'] else ''}, "
        f"jax {found['jax']}, on {jax.local_devices()[0].device_kind} ({platform.machine()})."
    )
    yield ""
    shapes = ", ".join(f"{m} {list(s)}" for m, s in SHAPES.items())
    yield (
        f"{len(entries)} methods. Costs are those of the fusion alone, one example, at "
        f"`features={FEATURES}` and tokens [T, S, D] of {shapes}: parameters; FLOPs of the forward "
        f"pass; bytes that training keeps for the backward pass; time of one training step divided "
        f"by its batch of {BATCH}, in microseconds, the median of {REPEATS}. *Time*: the method "
        f"needs a time axis. *Contract*: the {len(CHECKS)} points of the kit "
        f"({', '.join(CHECKS)}) with {', '.join(map(str, NUMBERS))} modalities."
    )
    for family, title in FAMILIES.items():
        mine = [entry for entry in entries.values() if entry.about.family == family]
        yield from ("", f"## {title}", "")
        yield "| Method | Time | Parameters | FLOPs | Memory | Step (µs) | Contract |"
        yield "|---|---|---:|---:|---:|---:|---|"
        yield from (entry.row(contract[entry.name]) for entry in mine)
        yield ""
        for entry in mine:
            yield from entry.lines()


if __name__ == "__main__":
    cli.run_command(main)
