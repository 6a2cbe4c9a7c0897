"""Objectives by name: in a config, in a record, in a list, and from elsewhere."""

import re
import sys

import pytest

from experiments import list as listing
from mmfuse.ablation import resolve
from mmfuse.build import build
from mmfuse.errors import InputError
from mmfuse.fusion.about import about
from mmfuse.objectives import OBJECTIVES, build_objectives
from mmfuse.parallel import Devices
from mmfuse.transforms import TRANSFORMS
from mmfuse.workdir import Workdir
from tests import tiny

pytest_plugins = ["tests.commands"]
PLUG_IN = """
import jax.numpy as jnp
import flax.linen as nn
from mmfuse.objectives import Objective, Told


class Small(Objective):
    weight: float = 0.1

    @nn.compact
    def __call__(self, seen):
        scale = self.param("scale", nn.initializers.ones, ())
        return Told(self.weight * scale**2 * jnp.sum(seen.output**2, axis=-1))


class Other:
    pass
"""


@pytest.fixture
def plug_in(tmp_path, monkeypatch):
    (tmp_path / "small_objective.py").write_text(PLUG_IN)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield "small_objective:Small"
    sys.modules.pop("small_objective", None)


def refused(entries, said):
    config = tiny.config()
    config.rows["text only"].objectives = entries
    with pytest.raises(InputError) as caught:
        resolve(config)
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith("row 'text only': ")
    assert re.search(said, str(caught.value)), caught.value


def test_mistakes_are_one_line_with_the_nearest_match(plug_in):
    refused({"contrastiv": {}}, "unknown objective 'contrastiv'; .*did you mean 'contrastive'")
    refused({"mine": {"name": "mfn"}}, "unknown objective 'mfn'; .*did you mean 'mfm'")
    refused({"contrastive": {"temprature": 1.0}}, "'contrastive' has no field 'temprature'.*'temp")
    refused({"contrastive": {"temperature": -1}}, "'contrastive': temperature must be a number >=")
    refused({"deep_cca": {"features": 0}}, "features must be an integer >= 1, got 0")
    refused({"ogm_ge": {"noise": "yes"}}, "noise must be True or False")
    refused({"modality_dropout": {"p": 2}}, "p must be a number in 0..1")
    refused({"a": {"name": "small_objective:Smal"}}, "no 'Smal'; did you mean 'Small'")
    refused({"a": {"name": "small_objective:Other"}}, "not a class derived from mmfuse.objectives")
    refused({"a": {"name": "small_objectiv:Small"}}, "cannot import 'small_objectiv'")
    refused({"a/b": {"name": "contrastive"}}, "must not hold '/'")


@pytest.mark.parametrize("name", ["contrastive", "deep_cca", "gradient_blending", "ogm_ge",
                                  "modality_dropout"])  # fmt: skip
def test_what_compares_modalities_needs_two(name, tmp_path_factory):
    config = tiny.config()
    config.objectives = {name: {}}
    ablation = resolve(config)
    dataset = tiny.dataset(tmp_path_factory)
    with pytest.raises(InputError, match=f"row 'text only': objective '{name}': needs two"):
        build(ablation.rows[1], dataset, Devices("pmap", 1), ablation)


def test_a_dropped_modality_must_be_one_that_is_read():
    drops = OBJECTIVES["modality_dropout"](modalities=("txt",))
    with pytest.raises(InputError, match="no modality 'txt'; did you mean 'text'"):
        drops.fits(("audio", "text"), ())
    named = build_objectives({"modality_dropout": {"p": 0.25, "modalities": ["text"]}}, "x")
    drop = TRANSFORMS["drop_modality"]
    assert named.transforms(("audio", "text")) == (drop("text", 0.25, keep_one=True),)
    every = build_objectives({"modality_dropout": {}}, "x").transforms(("audio", "text"))
    assert every == tuple(drop(m, 0.2, keep_one=True) for m in ("audio", "text"))


def test_each_tells_its_title_equation_and_paper(capsys):
    for kind in OBJECTIVES.values():
        told = about(kind)
        assert told.equation
        assert re.search(r"(19|20)\d\d", told.title)
    assert listing.main(["objectives"]) == 0
    out = capsys.readouterr().out
    assert re.search(r"ogm_ge +On-the-fly gradient .*\n +grad_m <- .*\n +Peng et al\. 2022", out)
    assert all(f"  {name} " in out for name in OBJECTIVES)


def test_a_row_says_what_it_costs(tmp_path_factory):
    config = tiny.config()
    config.rows["with"] = {"fusion": config.rows.concat.fusion.to_dict(),
                           "objectives": {"unimodal_heads": {}}}  # fmt: skip
    ablation, dataset = resolve(config), tiny.dataset(tmp_path_factory)
    plain, other = (build(ablation.rows[i], dataset, Devices("pmap", 1), ablation) for i in (0, 2))
    assert other.objective_parameters == 2 * (8 * 8 + 8)  # a head for each of two modalities
    assert other.parameters - plain.parameters == other.objective_parameters
    assert plain.objective_parameters == 0
    assert other.flops == plain.flops
    assert other.activation_bytes > plain.activation_bytes


def test_one_from_elsewhere_is_trained_beside_a_plain_row(command, plug_in, tmp_path):
    body = f"""config.seeds = (0,)
    config.train.epochs = 1
    del config.rows["text only"]
    config.rows["concat + small"] = {{
        "fusion": config.rows.concat.fusion.to_dict(),
        "objectives": {{"mine": {{"name": "{plug_in}", "weight": 0.3}}, "contrastive": {{}}}},
    }}"""
    code, out, err = command(body=body)
    assert code == 0, err
    assert "| concat + small" in out
    plain, row = sorted(Workdir(tmp_path / "work").records(), key=lambda r: r["row"])
    assert row["objective_parameters"] == 1 + 2 * (8 * 32 + 32)
    assert row["parameters"] - plain["parameters"] == row["objective_parameters"]
    assert row["config"]["objectives"]["mine"]["weight"] == 0.3
    assert "objectives" not in plain["config"]
    told = row["curves"]["train"][0]
    assert told["auxiliary/objective/mine"] > 0 and told["auxiliary/objective/contrastive"] > 0
    assert not [name for name in row["metrics"]["test"] if "objective" in name]
