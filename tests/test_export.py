"""Exported models: reloaded by JAX alone they give what the compressed model gives."""

import dataclasses
import json
import lzma
import subprocess
import sys

import jax
import numpy as np
import pytest

from mmfuse import export
from mmfuse.build import build
from mmfuse.compression import forms
from mmfuse.model import model_inputs
from tests import tiny

ENTRIES = {
    "none": {},
    "prune": {"name": "prune"},
    "prune_channels": {"name": "prune_channels"},
    "prune_int8": {"name": "prune_int8"},
    "int8": {"name": "int8"},
    "low_rank": {"name": "low_rank", "keep": 0.4},
}
ALONE = """
import sys
sys.modules["mmfuse"] = sys.modules["flax"] = None  # importing them fails
import lzma
import jax
import numpy as np
from jax import export

for folder in sys.argv[2:]:
    program = export.deserialize(bytearray(lzma.open(f"{folder}/program.xz").read()))
    stored = np.load(f"{folder}/weights.npz")["weights"]
    weights = {name: stored[name] for name in stored.dtype.names}
    given = dict(np.load(f"{sys.argv[1]}"))
    inputs = {k[7:]: v for k, v in given.items() if k.startswith("inputs.")}
    masks = {k[6:]: v for k, v in given.items() if k.startswith("masks.")}
    for size in (1, 5) if folder == sys.argv[2] else (5,):
        few = jax.tree.map(lambda x: x[:size], (inputs, masks))
        np.save(f"{folder}/output{size}.npy", program.call(weights, *few))
"""


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """{name: (Built, compressed parameters)}, the dataset, and five examples."""
    dataset = tiny.dataset(tmp_path_factory)
    config = tiny.config()
    ablation = tiny.resolve(config)
    plain, devices = tiny.built(dataset)
    batch = dataset.batch("valid", range(5))
    params = plain.model.init(jax.random.key(3), *model_inputs(batch), train=False)["params"]
    made = {}
    for name, entry in ENTRIES.items():
        row = dataclasses.replace(ablation.rows[0], compression=entry)
        built = build(row, dataset, devices, ablation)
        made[name] = built, jax.device_get(built.program.compression.after(params))
    return made, dataset, batch


def test_jax_alone_gives_the_output_of_the_compressed_model(models, tmp_path):
    made, dataset, batch = models
    given = {f"inputs.{k}": v for k, v in batch["inputs"].items()}
    given |= {f"masks.{k}": v for k, v in batch["masks"].items()}
    np.savez(tmp_path / "given.npz", **given)
    for name, (built, params) in made.items():
        (tmp_path / name).mkdir()
        for file, content in export.files(built, params, dataset, {"row": name}).items():
            (tmp_path / name / file).write_bytes(content)
    folders = [str(tmp_path / name) for name in made]
    command = [sys.executable, "-c", ALONE, str(tmp_path / "given.npz"), *folders]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for name, (built, params) in made.items():
        wanted = built.model.apply({"params": params}, *model_inputs(batch), train=False)[0]
        for size in (1, 5) if name == "none" else (5,):
            found = np.load(tmp_path / name / f"output{size}.npy")
            np.testing.assert_allclose(found, wanted[:size], rtol=1e-4, atol=1e-5)
        about = json.loads((tmp_path / name / "about.json").read_text())
        assert about["row"] == name and about["task"] == "classification"
        assert about["inputs"]["inputs"]["text"] == ["int32", 8]
        assert about["learned"]["text"]["vocabulary"]


def test_int8_is_stored_as_int8_and_no_bit_of_the_output_changes(models):
    built, params = models[0]["int8"]
    stored = forms.stored(export.packed(built, params))
    kinds = {x.dtype.name for name, x in stored.items() if name.endswith("kernel.values")}
    assert kinds == {"int8"}
    ready = forms.ready(export.packed(built, params))
    jax.tree.map(np.testing.assert_array_equal, ready, params)


def test_equal_models_give_equal_files_that_tell_nothing_of_this_machine(models):
    made, dataset, _ = models
    built, params = made["low_rank"]
    first = export.files(built, params, dataset, {})
    assert first == export.files(built, params, dataset, {})
    assert b".py" not in lzma.decompress(first[export.PROGRAM])


def test_costs_fall_only_where_the_model_is_smaller_or_computes_less(models):
    made, dataset, _ = models
    found = {
        name: export.costs(built, params, dataset.batch("train", range(1)))
        for name, (built, params) in made.items()
    }
    base = found["none"]
    built, params = made["none"]
    size = sum(x.size for x in jax.tree.leaves(params))
    assert base["size_bytes"] == 4 * size and base["sparsity"] == 0
    assert base["effective_flops"] == built.flops
    for name in ("prune", "int8", "prune_int8"):
        assert found[name]["effective_flops"] == built.flops
    assert found["prune"]["sparsity"] == pytest.approx(0.8, abs=0.005)
    sizes = {name: cost["size_bytes"] for name, cost in found.items()}
    assert sizes["prune_int8"] < sizes["prune"] < sizes["int8"] < sizes["low_rank"] < 4 * size
    for name in ("prune_channels", "low_rank"):
        assert found[name]["effective_flops"] < built.flops


def test_half_the_channels_have_half_the_products(models):
    made, dataset, _ = models
    built, params = made["prune_channels"]
    facts, example = built.program.compression.facts, dataset.batch("train", range(1))
    assert facts.whole == (("head", "affine"),) and ("fusion", "hidden") in facts.layers
    times = {f"encoders_{m}": mask.shape[1] for m, mask in example["masks"].items()}
    saved = 0
    for path in facts.layers:
        if path not in facts.whole:
            rows, width = params[path[0]][path[1]]["kernel"].shape
            saved += times.get(path[0], 1) * (2 * rows + 1) * (width // 2)  # products and biases
    assert export.costs(built, params, example)["effective_flops"] == built.flops - saved


def test_latency_is_that_of_a_call(models):
    made, dataset, _ = models
    built, params = made["none"]
    seconds = export.latency(export.files(built, params, dataset, {}), dataset)
    assert 0 < seconds < 1
