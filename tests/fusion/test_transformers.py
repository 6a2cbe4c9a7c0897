"""Self-attention transformers against their equations, and their limits."""

import jax
import numpy as np
import pytest

from mmfuse.errors import InputError
from mmfuse.fusion import build_fusion
from tests.reference import (
    ORDER,
    SHAPES,
    F,
    all_subsets,
    applied,
    average,
    block,
    every,
    expect,
    held_steps,
    interaction,
    linear,
    make_batch,
    normed_mean,
    positioned,
    run,
    silent,
)

batch = pytest.fixture(scope="module")(make_batch)
FIELDS = {"features": F, "heads": 2}


def stacked(p, x, name, layers):
    """``layers`` self-attention blocks of that name."""
    for layer in range(layers):
        x = block(p[f"{name}_{layer}"], x, None, 2)
    return x


def positions(steps):
    """The positions of these steps, ``[N, F]``."""
    t = np.asarray(steps)[:, None] / 30 ** (2 * np.arange(F // 2) / F)[None]
    return np.sqrt(2) * np.stack([np.sin(t), np.cos(t)], axis=-1).reshape(-1, F)


def only(batch, m):
    """The batch with one modality."""
    return tuple({m: part[m]} for part in batch)


def unimodal(p, project, joint, norm, m="text"):
    """Parameters as those of ``mbt`` without bottlenecks for one modality."""
    return {f"project_{m}": project, f"norm_{m}": norm, f"{m}_0": p[f"{joint}_0"]}


def test_early_transformer_is_its_equation(batch):
    tokens, masks = batch
    masks = {m: x.copy() for m, x in masks.items()}
    # Only the picture has something at the first step of example 1: that is no step in time.
    masks["text"][1, 0] = masks["audio"][1, 0] = False
    masks["text"][1, 3] = True
    fused, p = run(build_fusion("early_transformer", **FIELDS, layers=2), (tokens, masks))
    rows = []
    for b in range(3):
        held, counts = held_steps((tokens, masks), b)
        steps = []
        for t in range(5):
            parts = []
            for m in ORDER:
                there = held[m][t] is not None
                parts.append(np.append(held[m][t] if there else np.zeros(SHAPES[m][2]), there))
            steps.append(np.concatenate(parts))
        x = linear(p["project"], np.array(steps)) + positions(range(5))
        rows.append(normed_mean(p["norm"], stacked(p, x[np.array(counts)], "joint", 2)))
    expect(fused, [*rows, None])
    assert set(fused.weights) == {"joint<-joint"}
    assert np.all(fused.weights["joint<-joint"][1, :, :, 0] == 0)


def test_early_transformer_of_one_modality_is_its_transformer(batch):
    text = only(batch, "text")
    early = build_fusion("early_transformer", **FIELDS, layers=1)
    fused, p = run(early, text)
    kernel, bias = p["project"]["kernel"], p["project"]["bias"]
    # The presence bit is 1 at every step that counts, so that its row is a bias.
    project = {"kernel": kernel[:-1], "bias": bias + kernel[-1]}
    mbt = build_fusion("mbt", **FIELDS, layers=1, bottlenecks=0)
    expected = applied(mbt, unimodal(p, project, "joint", p["norm"]), text)
    np.testing.assert_allclose(fused.tokens[:3, 0, 0], expected[:3], atol=1e-5)


def test_late_transformer_is_its_equation_and_a_sum_of_modalities(batch):
    fusion = build_fusion("late_transformer", **FIELDS, layers=2, hidden=5)
    fused, p = run(fusion, batch)
    rows = []
    for b in range(3):
        parts = [normed_mean(p[f"norm_{m}"], stacked(p, x, f"own_{m}", 2) if len(x) else x)
                 for m, x in every(positioned(p, batch, b)).items()]  # fmt: skip
        rows.append(linear(p["out"], np.concatenate(parts)))
    expect(fused, [*rows, None])
    assert p["own_text_1"]["up"]["kernel"].shape == (F, 5)
    many, subsets = all_subsets(batch)
    np.testing.assert_allclose(interaction(applied(fusion, p, many), subsets), 0, atol=1e-5)


def test_late_transformer_of_one_modality_is_its_transformer(batch):
    text = only(batch, "text")
    fused, p = run(build_fusion("late_transformer", **FIELDS, layers=1), text)
    mbt = build_fusion("mbt", **FIELDS, layers=1, bottlenecks=0)
    vector = applied(mbt, unimodal(p, p["project_text"], "own_text", p["norm_text"]), text)
    np.testing.assert_allclose(fused.tokens[:3, 0, 0], linear(p["out"], vector)[:3], atol=1e-5)


@pytest.mark.parametrize(("fusion_layer", "hidden"), [(0, 5), (1, 0)])
def test_merged_transformer_is_its_equation(batch, fusion_layer, hidden):
    fields = {"layers": 2, "fusion_layer": fusion_layer, "hidden": hidden}
    merged = build_fusion("merged_transformer", **FIELDS).clone(**fields)
    fused, p = run(merged, batch)
    rows = []
    for b in range(3):
        xs = {m: stacked(p, x, f"own_{m}", fusion_layer) + p[f"mark_{m}"]
              for m, x in positioned(p, batch, b).items()}  # fmt: skip
        y = stacked(p, np.concatenate(list(xs.values())), "joint", 2 - fusion_layer)
        ends = np.cumsum([len(x) for x in xs.values()])[:-1]
        rows.append(average([normed_mean(p["norm"], part) for part in np.split(y, ends)]))
    expect(fused, [*rows, None])
    assert p["joint_0"]["up"]["kernel"].shape == (F, hidden or 2 * F)
    assert set(fused.weights) == {f"{m}<-{n}" for m in ORDER for n in ORDER}
    assert np.all(fused.weights["text<-audio"][2] == 0)
    total = sum(fused.weights[f"text<-{n}"][0].sum(axis=-1) for n in ORDER)
    np.testing.assert_allclose(total, 1, rtol=1e-5)


def test_merged_transformer_interacts_and_with_equal_keys_attends_to_all_alike(batch):
    merged = build_fusion("merged_transformer", **FIELDS, layers=1)
    many, subsets = all_subsets(batch)
    both = tuple({m: np.concatenate([batch[i][m], many[i][m]]) for m in ORDER} for i in range(2))
    _, p = run(merged, both)
    apply = jax.jit(lambda p: merged.apply({"params": p}, *both, train=False))
    tokens = apply(p).tokens[4:, 0, 0]
    assert np.abs(interaction(tokens, subsets)).max() > 1e-3
    key = p["joint_0"]["attention"]["key"]
    key["kernel"] = np.zeros_like(key["kernel"])
    for name, a in apply(p).weights.items():
        count = sum(both[1][m].sum(axis=(1, 2)) for m in ORDER)
        there = both[1][name.split("<-")[1]].reshape(len(a), 1, 1, -1)
        expected = there / np.maximum(count, 1)[:, None, None, None]
        np.testing.assert_allclose(a, np.broadcast_to(expected, a.shape), atol=1e-6)


def test_merged_transformer_needs_a_joint_layer(batch):
    with pytest.raises(InputError, match=r"fusion_layer=2 with layers=2 leaves no joint layer"):
        run(build_fusion("merged_transformer", **FIELDS, layers=2, fusion_layer=2), batch)


@pytest.fixture(scope="module")
def one_to_multi(batch):
    return run(build_fusion("hierarchical_one_to_multi", **FIELDS), batch)


def test_one_to_multi_is_its_equation(batch, one_to_multi):
    fused, p = one_to_multi
    rows = []
    for b in range(3):
        xs = positioned(p, batch, b)
        ends = np.cumsum([len(x) for x in xs.values()])[:-1]
        y = stacked(p, np.concatenate([x + p[f"mark_{m}"] for m, x in xs.items()]), "joint", 1)
        parts = dict(zip(xs, np.split(y, ends), strict=True))
        vectors = [normed_mean(p[f"norm_{m}"], stacked(p, parts[m], f"own_{m}", 1))
                   if m in parts else np.zeros(F) for m in ORDER]  # fmt: skip
        rows.append(linear(p["out"], np.concatenate(vectors)))
    expect(fused, [*rows, None])
    assert np.all(fused.weights["text<-audio"][2] == 0)


def test_one_to_multi_without_layers_of_their_own_is_merged(batch, one_to_multi):
    fusion, p = build_fusion("hierarchical_one_to_multi", **FIELDS), one_to_multi[1]
    quiet = {name: silent(x) if name.startswith("own_") else x for name, x in p.items()}
    quiet |= {f"norm_{m}": p["norm_text"] for m in ORDER}
    quiet["out"] = {"kernel": np.tile(np.eye(F), (3, 1)) / 3, "bias": np.zeros(F)}
    shared = {k: v for k, v in p.items() if k.split("_")[0] in ("project", "mark", "joint")}
    merged = build_fusion("merged_transformer", **FIELDS, layers=1)
    expected = applied(merged, shared | {"norm": p["norm_text"]}, batch)
    np.testing.assert_allclose(applied(fusion, quiet, batch)[:2], expected[:2], atol=1e-5)


@pytest.mark.parametrize("split_layer", [0, 2])
def test_one_to_multi_needs_both_kinds_of_layers(batch, split_layer):
    with pytest.raises(InputError, match=rf"split_layer={split_layer} with layers=2"):
        run(build_fusion("hierarchical_one_to_multi", **FIELDS, split_layer=split_layer), batch)


def test_one_modality_has_no_mark(batch):
    for name in ("merged_transformer", "hierarchical_one_to_multi"):
        shapes = jax.eval_shape(
            lambda key, name=name: build_fusion(name, **FIELDS).init(
                key, *only(batch, "text"), train=False
            ),
            jax.random.key(0),
        )
        assert not [x for x in shapes["params"] if x.startswith("mark")]


NAMES = (
    "early_transformer late_transformer merged_transformer hierarchical_one_to_multi crossmodal"
    " mult cross_pairwise cross_concat cross_hierarchical bbfn almt mbt"
)


@pytest.mark.parametrize("name", NAMES.split())
def test_hidden_is_the_width_of_all_blocks(batch, name):
    fusion = build_fusion(name, **FIELDS, hidden=5)
    params = jax.eval_shape(lambda key: fusion.init(key, *batch, train=False), jax.random.key(0))
    leaves = jax.tree_util.tree_leaves_with_path(params["params"])
    widths = {x.shape[-1] for path, x in leaves if "'up'" in jax.tree_util.keystr(path)}
    assert widths == {5}
