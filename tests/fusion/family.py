"""What every method of a family has to pass: the contract kit, and learning a task it can solve."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax

from mmfuse.contract import CHECKS, examine
from mmfuse.contract.subject import Subject
from mmfuse.contract.traced import check_trace
from mmfuse.data.datasets import make_builder, prepare
from mmfuse.data.loader import Dataset
from mmfuse.decoders import PooledHead
from mmfuse.fusion import FUSIONS, build_fusion
from mmfuse.fusion.about import about
from mmfuse.optim import auxiliary
from mmfuse.tasks.classification import cross_entropy
from tests import tiny
from tests.fusion.fields import FIELDS

EXAMPLES, STEPS, LR = 512, 120, 8e-3


def of(family):
    """The names of the methods of a family."""
    return [name for name, kind in FUSIONS.items() if about(kind).family == family]


def keeps_the_contract(name):
    """The whole kit with three modalities of unequal T and S."""
    report = examine(build_fusion(name, **FIELDS[name]))
    assert report.failures == []
    assert report.passed == list(CHECKS)
    assert (report.parameters > 0) == (name != "identity")


def takes(name, modalities):
    """What can be seen without compiling, with another number of modalities.

    ``experiments.gallery`` runs the whole kit with 1, 2, 3 and 6.
    """
    fusion = build_fusion(name, **FIELDS[name])
    assert check_trace(Subject(fusion, modalities, seed=0)) == []


@functools.cache
def redundant(folder):
    """``helpdesk/redundant`` as tokens without learned encoders, its labels, and its chance.

    Words through a fixed random table, log-mel frames as they are: ([2N, T, 1, D], masks, label).
    """
    sizes = {"variant": "redundant", "n_train": 2 * EXAMPLES, "n_valid": 8, "n_test": 8}
    builder = make_builder("helpdesk", sizes, data_dir=folder, raw_data=None)
    prepare(builder)
    data = Dataset(builder, tiny.PREPROCESS, resident_bytes=2**31).train_arrays()
    table = np.random.default_rng(0).standard_normal((1000, 8), np.float32)
    tokens = {"text": table[data["inputs"]["text"]], "audio": data["inputs"]["audio"]}
    tokens = {m: x[:, :, None] for m, x in tokens.items()}
    masks = {m: data["masks"][m][:, :, None] for m in tokens}
    return tokens, masks, data["label"], builder.info.metadata["optima"]["chance"]


def learns(name, folder):
    """Above chance on new examples after a few steps of AdamW, auxiliary losses included."""
    fields = dict(FIELDS[name])
    fields |= {key: 8 for key in ("features", "hidden", "width") if fields.get(key)}
    tokens, masks, label, chance = redundant(folder)
    classes = int(label.max()) + 1
    if "outputs" in fields:
        fields["outputs"] = classes
    fusion, head = build_fusion(name, **fields), PooledHead(classes)
    first, second = slice(0, EXAMPLES), slice(EXAMPLES, None)

    def part(rows):
        return jax.tree.map(lambda x: x[rows], (tokens, masks)), jnp.asarray(label[rows])

    def forward(params, batch, train):
        rngs = {"dropout": jax.random.key(1)} if train else {}
        fused = fusion.apply({"params": params["fusion"]}, *batch, train=train, rngs=rngs)
        return head.apply({"params": params["head"]}, fused), fused

    def loss(params):
        batch, y = part(first)
        output, fused = forward(params, batch, True)
        extra = [jnp.mean(auxiliary(value, y)) for value in fused.losses.values()]
        return sum(extra, jnp.mean(cross_entropy(output, y)))

    optimizer = optax.adamw(LR)

    def step(state, _):
        updates, opt = optimizer.update(jax.grad(loss)(state[0]), state[1], state[0])
        return (optax.apply_updates(state[0], updates), opt), None

    @jax.jit
    def run(params):
        state, _ = jax.lax.scan(step, (params, optimizer.init(params)), length=STEPS)
        batch, y = part(second)
        return jnp.mean(jnp.argmax(forward(state[0], batch, False)[0], -1) == y)

    one = jax.tree.map(lambda x: x[:1], (tokens, masks))
    fused, variables = fusion.init_with_output(jax.random.key(0), *one, train=False)
    params = {
        "fusion": variables.get("params", {}),
        "head": head.init(jax.random.key(1), fused).get("params", {}),
    }
    # Four standard errors of the accuracy of a guess.
    assert run(params) > chance + 4 * (chance * (1 - chance) / EXAMPLES) ** 0.5
