"""Every new task and decoder, in the one trainer: a handful of examples is learnt by heart."""

import jax
import numpy as np
import optax
import pytest

from mmfuse.decoding import frames, greedy, scorer
from mmfuse.encoders import build_encoder
from mmfuse.fusion import build_fusion
from mmfuse.model import FusionModel
from mmfuse.train import Program
from tests.tasks import examples

B, STEPS = 4, 250
SMALL = {"features": 16}
HEADS = {  # task, head: (fields of the head, the loss after STEPS)
    ("vector", "pooled"): ({}, 1e-3),
    ("multilabel", "pooled"): ({}, 0.05),
    ("ranking", "pooled"): ({}, 0.05),
    ("links", "complex"): (SMALL, 0.05),
    ("links", "distmult"): (SMALL, 0.05),
    ("links", "transe"): (SMALL, 0.05),
    ("pointing", "pointer"): ({"hidden": 16}, 0.05),
    ("matching", "matching"): (SMALL | {"embed": 8}, 0.05),
    ("words", "lstm"): (SMALL | {"embed": 8}, 0.1),
    ("words", "transformer"): (SMALL | {"layers": 1}, 0.1),
    ("picture", "cnn"): ({"blocks": (8,)}, 0.2),
    ("sound", "lstm"): (SMALL, 2e-3),
    ("sound", "transformer"): (SMALL | {"layers": 1}, 2e-3),
    ("sound", "recurrent"): (SMALL, 2e-3),
}


def batch_of(name, task):
    rng = np.random.default_rng(5)
    columns = examples.columns(name, B, rng)
    if name == "picture":
        columns["label"] = [255 * (pixels > 127) for pixels in columns["label"]]  # no grey
    if name == "links":  # one answer a question
        columns["label_answers"] = [np.zeros(2, np.uint8)] * B
    if name == "matching":  # no two candidates alike
        columns["candidates"] = [[[2 + k, 2 + (b + k) % 4, 1] for k in range(3)] for b in range(B)]
    inputs = {"dots": rng.normal(size=(B, 4, 3)), "tone": rng.normal(size=(B, 6))}
    batch = {
        "inputs": {key: x.astype(np.float32) for key, x in inputs.items()},
        "masks": {"dots": np.ones((B, 4), bool), "tone": np.ones((B, 1), bool)},
        "label": task.labels(columns),
    }
    given = task.given(columns)
    return batch if given is None else batch | {"given": given}


def trained(name, head, fields):
    task = examples.task(name)
    encoders = {m: build_encoder("mlp", features=12, hidden=16) for m in ("dots", "tone")}
    fusion = build_fusion("concat", features=16, hidden=24)
    model = FusionModel(encoders, fusion, task.head({"name": head} | fields))
    program = Program(model, optax.adam(1e-2), task)
    batch = batch_of(name, task)
    order = np.tile(np.arange(B, dtype=np.int32), (STEPS, 1, 1))
    one = jax.tree.map(lambda x: x[:1], batch)
    state = program.init(np.array([3], np.uint32), one, axis_name=None)
    train = jax.jit(lambda *args: program.train_chunk(*args, axis_name=None))
    state = train(state, batch, order, np.ones(STEPS, bool))
    weighed = batch | {"weight": np.ones(B, np.float32)}
    sums, kept = jax.jit(lambda *args: program.evaluate(*args, axis_name=None))(
        state.params, weighed
    )
    scores = task.finalise(jax.tree.map(lambda x: x[0], jax.device_get(sums)))
    return model, jax.tree.map(lambda x: x[0], state.params), batch, scores, kept


@pytest.mark.parametrize(("name", "head"), HEADS)
def test_a_handful_of_examples_is_learnt(name, head):
    fields, limit = HEADS[name, head]
    model, params, batch, scores, kept = trained(name, head, fields)
    assert scores["loss"] < limit
    assert all(leaf.shape[:2] == (1, B) for leaf in jax.tree.leaves(kept))
    best = {"r2": 1, "frame_accuracy": 1, "f1_micro": 1, "mrr": 1, "hits1": 1, "recall1": 1}
    best |= {"word_accuracy": 1, "exact": 1, "perplexity": 1}
    for metric in best.keys() & scores.keys():
        assert scores[metric] == pytest.approx(best[metric], abs=0.03), metric
    score = scorer(model, params, batch) if name in ("words", "sound") else None
    if name == "words":
        said = jax.jit(lambda: greedy(score, B, 5, end=1))()
        np.testing.assert_array_equal(said, batch["label"])
    if name == "sound":
        made = np.asarray(jax.jit(lambda: frames(score, B, (6, 3)))())
        error = (made - batch["label"]["value"])[batch["label"]["mask"]]
        assert np.sqrt(np.mean(error**2)) < 0.15
