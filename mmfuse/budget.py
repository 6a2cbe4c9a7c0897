"""Equal budget: the widths at which a row has a given number of parameters, or of FLOPs."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax

from mmfuse import cost
from mmfuse.ablation import Row
from mmfuse.build import build_model, forward_flops
from mmfuse.data.loader import Dataset
from mmfuse.fusion import build_fusion, headed
from mmfuse.model import modalities_read, shipped
from mmfuse.store import Store, shapes_of

SCALED = ("features", "hidden", "width", "rank")  # The fields of a fusion that make it wider.
TOLERANCE = 0.02  # Rows whose cost is within this share of the budget count as equal.
CLOSE = 0.002  # Near enough to stop looking.
LARGEST = 2**13

Fields = dict[str, Any]


def solve(
    cost: Callable[[Fields], int],
    fields: Mapping[str, Any],
    amount: int,
    multiples: Mapping[str, int] | None = None,
) -> Fields:
    """The fields at which ``cost(fields)`` is as near to ``amount`` as it gets.

    First all widths are multiplied by one factor, so that a method keeps its proportions; then one
    width after the other is moved, to get nearer than whole numbers in step allow. ``cost`` must
    not fall when a width grows. Fields other than ``SCALED`` stay as they are.

    Args:
      cost: parameters or FLOPs of the row with these fields; nothing is trained for it.
      fields: of the fusion, with its defaults; a width of 0 (derived from another) is left out of
        the first step, and given a value of its own in the second.
      amount: the budget.
      multiples: ``{width: number}`` of which this width must be a multiple (the heads).
    """
    known: dict[tuple, int] = {}

    def error(trial: Fields) -> int:
        key = tuple(trial[name] for name in widths)
        if key not in known:
            known[key] = cost(trial)
        return known[key] - amount

    fields = dict(fields)
    widths = [name for name in SCALED if type(fields.get(name)) is int]
    if not any(fields[name] for name in widths):
        return fields
    steps = {name: (multiples or {}).get(name, 1) for name in widths}
    best = fields
    for trial in _scaled(error, fields, steps):
        for name in sorted(widths, key=lambda n: n == "features"):
            if abs(error(trial)) > CLOSE * amount:
                trial = _moved(error, trial, name, steps[name])  # noqa: PLW2901
        best = min(best, trial, key=lambda found: abs(error(found)))
    return best


def _scaled(
    error: Callable[[Fields], int], fields: Fields, steps: Mapping[str, int]
) -> list[Fields]:
    """All widths times one factor: the two results around the budget, the nearer one first."""

    def at(power: float) -> Fields:
        wider = {
            name: max(1, round(fields[name] * 2**power / step)) * step
            for name, step in steps.items()
            if fields[name]
        }
        return fields | wider

    low, high = (-1.0, 0.0) if error(fields) > 0 else (0.0, 1.0)
    while error(at(low)) > 0 and at(low) != at(low - 1):
        low, high = low - 1, low
    while error(at(high)) < 0 and max(at(high)[n] for n in steps) < LARGEST:
        low, high = high, high + 1
    while at(low) != at(high) and high - low > 1e-3:
        middle = (low + high) / 2
        low, high = (low, middle) if error(at(middle)) > 0 else (middle, high)
    return sorted([at(low), at(high)], key=lambda trial: abs(error(trial)))


def _moved(error: Callable[[Fields], int], fields: Fields, name: str, step: int) -> Fields:
    """One width moved to where the error changes its sign; the better of both sides."""
    start = (fields[name] or 2 * fields["features"]) // step

    def at(number: int) -> Fields:
        return fields | {name: number * step}

    low, high = max(1, start // 2), 2 * start
    while error(at(high)) < 0 and high < LARGEST:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if error(at(middle)) > 0 else (middle, high)
    return min(fields, at(low), at(high), key=lambda trial: abs(error(trial)))


def equal(row: Row, dataset: Dataset, budget: Mapping[str, int], store: Store | None = None) -> Row:
    """The row with the widths at which it costs what the budget says; itself without a budget.

    ``budget`` is ``{"params": N}``, trained scalars of the whole model, or ``{"flops": N}`` of one
    example's forward pass. A row that no width brings within ``TOLERANCE`` of it is marked. A
    ``store`` keeps what was found for a shipped method, for the next launch.
    """
    if not budget:
        return row
    ((kind, amount),) = budget.items()
    model = build_model(row, dataset)
    fusion = model.fusion
    fields = {
        field.name: getattr(fusion, field.name)
        for field in dataclasses.fields(fusion)
        if field.name not in ("parent", "name")
    }

    def found() -> dict[str, Any]:
        price = _prices(model, dataset)[kind]

        def cost_of(trial: Fields) -> int:
            return price(build_fusion(row.fusion["name"], **trial))

        solved = solve(cost_of, fields, amount, {headed(type(fusion)): fields.get("heads", 1)})
        changed = {name: solved[name] for name in SCALED if solved.get(name) != fields.get(name)}
        return {
            "fusion": changed,
            "missed": abs(cost_of(solved) - amount) > TOLERANCE * amount,
        }

    facts = {
        "budget": dict(budget),
        "model": repr(model),
        "shapes": shapes_of(dataset.batch("train", range(1))),
    }
    solution = (store if store and shipped(model) else Store()).cached(facts, found)
    return dataclasses.replace(
        row, fusion=row.fusion | solution["fusion"], budget_missed=solution["missed"]
    )


def _prices(model: Any, dataset: Dataset) -> dict[str, Callable[[Any], int]]:
    """What a row costs as functions of its fusion; the encoders are counted only once."""
    batch = dataset.batch("train", range(1))
    key = jax.ShapeDtypeStruct((), jax.random.key(0).dtype)
    reads = modalities_read(model.fusion, tuple(model.encoders))
    tokens, masks, encoders = {}, {}, {"params": 0, "flops": 0}
    encoded: dict[str, Any] = {}
    for name in reads:
        module, inputs = model.encoders[name], (batch["inputs"][name], batch["masks"][name])
        params, encoded[name], flops = _counted(module, key, inputs)
        tokens[name], masks[name] = encoded[name]
        encoders["params"] += cost.count_parameters(params)
        encoders["flops"] += flops

    def price(fusion: Any, kind: str) -> int:
        params, fused, flops = _counted(fusion, key, (tokens, masks), kind == "flops")
        inputs = (fused, encoded, batch.get("given"))
        head, _, head_flops = _counted(model.head, key, inputs, kind == "flops")
        found = {"params": cost.count_parameters((params, head)), "flops": flops + head_flops}
        return encoders[kind] + found[kind]

    return {kind: lambda fusion, kind=kind: price(fusion, kind) for kind in encoders}


def _counted(module: Any, key: Any, inputs: tuple, flops: bool = True):
    """(parameters, output, FLOPs) of a module, all but the last as shapes."""
    output, variables = jax.eval_shape(
        lambda k, *x: module.init_with_output(k, *x, train=False), key, *inputs
    )
    params = variables.get("params", {})

    def forward(p: Any, *x: Any) -> Any:
        return module.apply({"params": p}, *x, train=False)

    return params, output, forward_flops(forward, params, *inputs) if flops else 0
