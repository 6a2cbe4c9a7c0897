import os
import subprocess
import sys
from pathlib import Path

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmfuse.contract import CHECKS, check_fusion, examine
from mmfuse.fusion import FUSIONS, Fused, build_fusion
from mmfuse.fusion.base import any_present, dense, masked_mean, names, one_token, pooled
from tests.fusion.fields import FIELDS


@pytest.mark.parametrize("name", FUSIONS)
def test_shipped_fusions_keep_the_contract(name):
    report = examine(build_fusion(name, **FIELDS[name]))
    assert report.failures == []
    assert report.passed == list(CHECKS)
    assert report.parameters > 0


@pytest.mark.parametrize(
    ("name", "modalities"),
    [("gmu", 2), ("tfn", 1), ("early_lstm", 1), ("crossmodal", 1)],
)
def test_other_numbers_of_modalities(name, modalities):
    fields = {"dropout": 0.1} if name == "crossmodal" else {}
    fusion = build_fusion(name, **FIELDS[name], **fields)
    assert check_fusion(fusion, modalities=modalities) == []


class Plain(nn.Module):
    """A sound fusion, the base of the broken ones: each overrides one step."""

    features: int = 4

    @nn.compact
    def __call__(self, tokens, masks, *, train):
        vectors, present = self.pool(tokens, masks)
        parts = [
            dense(self.features, vectors[m], f"map_{m}")(vectors[m]) for m in self.order(vectors)
        ]
        return self.done(nn.relu(jnp.concatenate(parts, axis=-1)), any_present(present), train)

    def order(self, vectors):
        return names(vectors)

    def pool(self, tokens, masks):
        return pooled(tokens, masks)

    def done(self, x, present, train):
        return one_token(dense(self.features, x, "out")(x), present)


class WrongShape(Plain):
    def done(self, x, present, train):
        return Fused(x, present, {})


class WrongType(Plain):
    def done(self, x, present, train):
        return x


class FloatMask(Plain):
    def done(self, x, present, train):
        return Fused(x[:, None, None], present[:, None, None].astype(jnp.float32), {})


class Float32Layers(Plain):
    def done(self, x, present, train):
        return one_token(nn.Dense(self.features)(x), present)


class UnusedParameter(Plain):
    def done(self, x, present, train):
        self.param("orphan", nn.initializers.ones, (3,))
        return super().done(x, present, train)


class HiddenFactors(Plain):
    """The literature's bug: factors in a plain list are never trained."""

    def setup(self):
        self.factors = [jnp.ones((3 * self.features, self.features)) * 0.1]

    def done(self, x, present, train):
        return one_token(x @ self.factors[0].astype(x.dtype), present)


class RandomWeights(Plain):
    def done(self, x, present, train):
        w = jax.random.normal(jax.random.key(0), (x.shape[-1], self.features), x.dtype)
        return one_token(x @ w, present)


class NumpyRandom(Plain):
    def done(self, x, present, train):
        w = np.random.default_rng().standard_normal((x.shape[-1], self.features))
        return one_token(x @ w.astype(x.dtype), present)


class BatchStatistics(Plain):
    def done(self, x, present, train):
        return one_token(nn.BatchNorm(use_running_average=not train)(x), present)


class BatchLeak(Plain):
    def done(self, x, present, train):
        return super().done(x - x.mean(axis=0, keepdims=True), present, train)


class PythonBranch(Plain):
    def done(self, x, present, train):
        return super().done(x if x.sum() > 0 else -x, present, train)


class UnmaskedMean(Plain):
    """The mean over padded time."""

    def pool(self, tokens, masks):
        means, present = pooled(tokens, masks)
        return means | {"text": tokens["text"].mean(axis=(1, 2))}, present


class AttendsPadding(Plain):
    """Fills masked logits with a large number instead of leaving the keys out."""

    def pool(self, tokens, masks):
        means, present = pooled(tokens, masks)
        x = tokens["audio"].reshape(tokens["audio"].shape[0], -1, tokens["audio"].shape[-1])
        logits = jnp.where(masks["audio"].reshape(x.shape[:2]), x.sum(axis=-1), -3.0)
        weights = jax.nn.softmax(logits.astype(jnp.float32), axis=-1).astype(x.dtype)
        return means | {"audio": jnp.einsum("bn,bnd->bd", weights, x)}, present


class FillsWithLargeNegative(AttendsPadding):
    """Exact on padding, but uniform attention over a modality that is absent."""

    def pool(self, tokens, masks):
        means, present = pooled(tokens, masks)
        x = tokens["audio"].reshape(tokens["audio"].shape[0], -1, tokens["audio"].shape[-1])
        logits = jnp.where(masks["audio"].reshape(x.shape[:2]), x.sum(axis=-1), -1e9)
        weights = jax.nn.softmax(logits.astype(jnp.float32), axis=-1).astype(x.dtype)
        return means | {"audio": jnp.einsum("bn,bnd->bd", weights, x)}, present


class DividesByZero(Plain):
    def pool(self, tokens, masks):
        count = masks["image"].sum(axis=(1, 2))[:, None].astype(tokens["image"].dtype)
        means, present = pooled(tokens, masks)
        total = jnp.where(masks["image"][..., None], tokens["image"], 0).sum(axis=(1, 2))
        return means | {"image": total / count}, present


class LyingMap(Plain):
    """The attention map that is shown gives weight to what is masked."""

    def done(self, x, present, train):
        uniform = jnp.full((x.shape[0], 1, 5), 0.2, x.dtype)
        return one_token(dense(self.features, x, "out")(x), present, {"audio<-text": uniform})


class DictOrder(Plain):
    def order(self, vectors):
        return list(vectors)

    def pool(self, tokens, masks):
        means, present = pooled(tokens, masks)
        return {m: means[m] for m in tokens}, present


class CountsReplicas(Plain):
    """Notices vmap: a side effect of tracing, as with code that inspects its arrays."""

    def done(self, x, present, train):
        if "Batch" in type(self.variables["params"]["map_text"]["kernel"]).__name__:
            x = x + 1
        return super().done(x, present, train)


@pytest.mark.parametrize(
    ("broken", "check", "cause"),
    [
        (WrongShape, "shape", "tokens must be"),
        (WrongType, "shape", "must return"),
        (FloatMask, "shape", "mask must be bool"),
        (Float32Layers, "dtype", "bfloat16"),
        (UnusedParameter, "gradient", "orphan"),
        (HiddenFactors, "registered", "HiddenFactors.factors"),
        (RandomWeights, "registered", "random"),
        (NumpyRandom, "repeat", "np.random"),
        (BatchStatistics, "registered", "batch_stats"),
        (BatchLeak, "batch", "example 0"),
        (PythonBranch, "jit", "test_contract.py:"),
        (UnmaskedMean, "mask", "'text'"),
        (AttendsPadding, "mask", "'audio'"),
        (FillsWithLargeNegative, "absent", "'audio'"),
        (DividesByZero, "absent", "'image' is absent"),
        (LyingMap, "mask", "audio<-text"),
        (DictOrder, "order", "sorted names"),
        (CountsReplicas, "vmap", "replica"),
    ],
)
def test_a_broken_fusion_fails_by_the_right_check(broken, check, cause):
    failures = check_fusion(broken())
    assert failures, "nothing was found"
    assert failures[0].check == check
    assert any(cause in failure.message for failure in failures if failure.check == check)
    assert all("\n" not in str(failure) for failure in failures)


def test_the_sound_base_passes():
    assert check_fusion(Plain()) == []


class NoParameters(nn.Module):
    @nn.compact
    def __call__(self, tokens, masks, *, train):
        return one_token(
            masked_mean(tokens["text"], masks["text"], (1, 2)), masks["text"].any((1, 2))
        )


def check_command(*arguments, cwd):
    command = [sys.executable, "-m", "experiments.check", *arguments]
    root = str(Path(__file__).parent.parent)
    environment = {**os.environ, "PYTHONPATH": root}
    return subprocess.run(
        command, capture_output=True, text=True, cwd=cwd, env=environment, check=False
    )


def test_main_prints_a_line_per_check(capsys):
    from experiments.check import main

    assert main(["tests.test_contract:NoParameters"]) == 0
    out = capsys.readouterr().out.splitlines()
    assert out[: len(CHECKS)] == [f"ok {name}" for name in CHECKS]
    assert any("no parameters" in line for line in out)


def test_main_prints_a_line_per_failure(capsys):
    from experiments.check import main

    assert main(["tests.test_contract:WrongShape", "--field", "features=3"]) == 2
    out = capsys.readouterr().out.splitlines()
    assert len(out) == 1
    assert out[0].startswith("FAILED shape: ")


def test_the_command_imports_from_the_current_directory(tmp_path):
    (tmp_path / "mine.py").write_text("import flax.linen as nn\nclass Mine(nn.Module):\n  x: int\n")
    result = check_command("mine:Mine", cwd=tmp_path)
    assert result.returncode == 2
    assert result.stderr == "error: fusion 'mine:Mine' needs a value for: x\n"
    result = check_command("mine:Mind", cwd=tmp_path)
    assert (result.returncode, result.stdout) == (2, "")
    assert "did you mean 'Mine'" in result.stderr
