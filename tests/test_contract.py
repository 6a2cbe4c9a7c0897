import os
import subprocess
import sys
from pathlib import Path

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmfuse.contract import CHECKS, check_fusion
from mmfuse.contract.subject import Subject
from mmfuse.fusion import Fused, build_fusion
from mmfuse.fusion.base import any_present, dense, masked_mean, names, one_token, pooled
from tests.fusion.fields import FIELDS


@pytest.mark.parametrize(
    ("name", "modalities"),
    [("gmu", 2), ("tfn", 1), ("early_lstm", 1), ("crossmodal", 1)],
)
def test_other_numbers_of_modalities(name, modalities):
    fields = {"dropout": 0.1} if name == "crossmodal" else {}
    fusion = build_fusion(name, **FIELDS[name], **fields)
    assert check_fusion(fusion, modalities=modalities) == []


def test_attention_to_a_single_token_is_no_dead_parameter():
    """The fifth modality has one token: queries and keys of attention to it get no gradient."""
    fusion = build_fusion("late_transformer", **FIELDS["late_transformer"])
    assert Subject(fusion, 5, 0).has_single
    assert not Subject(fusion, 4, 0).has_single
    assert check_fusion(fusion, modalities=5) == []
    assert {failure.check for failure in check_fusion(StopsGradient(), modalities=5)} == {
        "gradient"
    }


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


class CastsDown(Plain):
    def done(self, x, present, train):
        return one_token(x.astype(jnp.bfloat16), present)


class Float64Constant(Plain):
    """Cut to float32 in silence, unless JAX is allowed float64."""

    def done(self, x, present, train):
        return one_token((x * np.linspace(0, 1, x.shape[-1])[None]).astype(x.dtype), present)

    def pool(self, tokens, masks):
        means, present = pooled(tokens, masks)
        return {m: x * np.ones((1, x.shape[-1])) for m, x in means.items()}, present


class Float64Carry(Plain):
    def done(self, x, present, train):
        def body(_, total):
            return (total + x).astype(jnp.float32)

        total = jax.lax.fori_loop(0, 2, body, jnp.zeros(x.shape))
        return one_token(total.astype(x.dtype), present)


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


class TrainOnlyParameter(Plain):
    def done(self, x, present, train):
        if train:
            x = dense(self.features, x, "decoder")(x)
        return one_token(x[:, : self.features], present)


class RandomWeights(Plain):
    def done(self, x, present, train):
        w = jax.random.normal(jax.random.key(0), (x.shape[-1], self.features), x.dtype)
        return one_token(x @ w, present)


class NumpyRandom(Plain):
    """Another matrix in every process, and in every trace."""

    def done(self, x, present, train):
        w = np.random.default_rng().standard_normal((x.shape[-1], self.features))
        return one_token(x @ w.astype(x.dtype), present)


class SeedFromGlobalState(Plain):
    """Noise in training from a key that no seed decides."""

    def done(self, x, present, train):
        if train:
            key = jax.random.key(np.random.randint(2**31))  # noqa: NPY002
            x = x + 0.1 * jax.random.normal(key, x.shape, x.dtype)
        return super().done(x, present, train)


class InitialisedFromGlobalState(Plain):
    def done(self, x, present, train):
        def draw(key, shape):
            return np.random.default_rng().standard_normal(shape).astype(np.float32)

        return one_token(x @ self.param("w", draw, (x.shape[-1], 4)).astype(x.dtype), present)


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


class StopsGradient(Plain):
    """The layer before is used, and never trained."""

    def done(self, x, present, train):
        return super().done(jax.lax.stop_gradient(x), present, train)


class StopsEncoder(Plain):
    """All its own parameters are trained, but not the encoder of the text."""

    def pool(self, tokens, masks):
        return pooled(tokens | {"text": jax.lax.stop_gradient(tokens["text"])}, masks)


class IgnoresModality(Plain):
    def order(self, vectors):
        return [m for m in names(vectors) if m != "audio"]


class WithLoss(Plain):
    """A sound fusion with an auxiliary loss; the broken ones override it."""

    outputs: int = 3

    @nn.compact
    def __call__(self, tokens, masks, *, train):
        fused = super().__call__(tokens, masks, train=train)
        losses = self.losses(fused, tokens, masks)
        return fused.replace(losses=losses if train else {})

    def losses(self, fused, tokens, masks):
        x = masked_mean(tokens["text"], masks["text"], (1, 2))
        return {"mine": jnp.square(dense(1, x, "critic")(x)[:, 0])}


class LossSeesPadding(WithLoss):
    def losses(self, fused, tokens, masks):
        return {"mine": jnp.square(tokens["text"]).mean(axis=(1, 2, 3))}


class LossOfNothing(WithLoss):
    def losses(self, fused, tokens, masks):
        present = masks["text"].any((1, 2)).astype(jnp.float32)
        return {"mine": jnp.log(present)}


class LossMeanOverBatch(WithLoss):
    def losses(self, fused, tokens, masks):
        return {"mine": super().losses(fused, tokens, masks)["mine"].mean()}


class LossOfOtherClasses(WithLoss):
    def losses(self, fused, tokens, masks):
        return {"mine": fused.tokens[:, 0, 0]}  # 4 features, 3 classes


class LossesInATuple(WithLoss):
    def losses(self, fused, tokens, masks):
        return (fused.tokens[:, 0, 0, 0],)


class LossFollowsTheDict(WithLoss):
    def losses(self, fused, tokens, masks):
        first = next(iter(tokens))
        return {"mine": masked_mean(tokens[first], masks[first], (1, 2)).sum(axis=-1)}


class LossInEvaluation(Plain):
    def done(self, x, present, train):
        return super().done(x, present, train).replace(losses={"mine": jnp.square(x[:, 0])})


class OnlyInEvaluation(Plain):
    """Sound in training, where the kit looks first; the broken ones are wrong with train=False."""

    @nn.compact
    def __call__(self, tokens, masks, *, train):
        return super().__call__(tokens, masks if train else self.seen(tokens, masks), train=train)

    def seen(self, tokens, masks):
        return masks


class ReadsPaddingInEvaluation(OnlyInEvaluation):
    def seen(self, tokens, masks):
        start = masks["text"].any((1, 2))[:, None, None]
        return masks | {"text": jnp.broadcast_to(start, masks["text"].shape)}


class ReadsTheAbsentInEvaluation(OnlyInEvaluation):
    def seen(self, tokens, masks):
        there = masks["text"].any((1, 2))[:, None, None]
        return masks | {"text": jnp.where(there, masks["text"], True)}


class LeaksInEvaluation(Plain):
    def done(self, x, present, train):
        x = x if train else x - x.mean(axis=0, keepdims=True)
        return super().done(x, present, train)


class NotFiniteInEvaluation(Plain):
    def done(self, x, present, train):
        x = x if train else x / present[:, None].astype(x.dtype)
        return super().done(x, present, train)


class DecidesTwice(Plain):
    def done(self, x, present, train):
        fused = super().done(x, present, train)
        twice = jnp.concatenate([fused.tokens, fused.tokens], axis=1)
        mask = jnp.concatenate([fused.mask, fused.mask], axis=1)
        return Fused(twice, mask, decided=True)


class DecidesOverFeatures(Plain):
    outputs: int = 3

    def done(self, x, present, train):
        return super().done(x, present, train).replace(decided=True)


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
        (TrainOnlyParameter, "registered", "decoder"),
        (CastsDown, "dtype", "go in as float32 and come out as bfloat16"),
        (Float64Constant, "dtype", "tokens are float64"),
        (Float64Carry, "dtype", "fails where JAX allows float64"),
        (SeedFromGlobalState, "repeat", "global Python or numpy state"),
        (InitialisedFromGlobalState, "repeat", "initialisations of w with the same key differ"),
        (StopsGradient, "gradient", "map_text/kernel is zero in 3 draws: the result depends on it"),
        (StopsEncoder, "gradient", "tokens['text'] is zero in 3 draws: the result depends on it"),
        (IgnoresModality, "gradient", "tokens['audio'] is zero in 3 draws: the modality is never"),
        (LossSeesPadding, "mask", "masked tokens of 'text' change the losses"),
        (LossOfNothing, "absent", "the loss is not finite when 'text' is absent"),
        (LossMeanOverBatch, "shape", "losses['mine'] must be [B]"),
        (LossOfOtherClasses, "shape", "[B, C] with B=3 and C=3, got (3, 4)"),
        (LossesInATuple, "shape", "losses must be a dict of arrays, got tuple"),
        (LossFollowsTheDict, "order", "sorted names"),
        (LossInEvaluation, "shape", "losses with train=False"),
        (DecidesTwice, "shape", "one token an example, [B, 1, 1, C]"),
        (DecidesOverFeatures, "shape", "C=3, got (3, 1, 1, 4)"),
        (DictOrder, "order", "sorted names"),
        (CountsReplicas, "vmap", "replica"),
        (ReadsPaddingInEvaluation, "evaluation", "masked tokens of 'text' change the output"),
        (ReadsTheAbsentInEvaluation, "evaluation", "the absent modality 'text' change the output"),
        (LeaksInEvaluation, "evaluation", "changing example 0 changes the others"),
        (NotFiniteInEvaluation, "evaluation", "all modalities are absent and train=False"),
    ],
)
def test_a_broken_fusion_fails_by_the_right_check(broken, check, cause):
    failures = check_fusion(broken())
    assert failures, "nothing was found"
    assert failures[0].check == check
    assert any(cause in failure.message for failure in failures if failure.check == check)
    assert all("\n" not in str(failure) for failure in failures)


@pytest.mark.parametrize(
    ("sound", "modalities"), [(Plain, 3), (Plain, 6), (WithLoss, 3), (Plain, ("b", "a"))]
)
def test_the_sound_bases_pass(sound, modalities):
    assert check_fusion(sound(), modalities=modalities) == []


class OnlyLosses(Plain):
    """Decides by what has no gradient; all it learns it learns by its losses."""

    def done(self, x, present, train):
        scores = dense(self.features, x, "out")(x)
        vote = jax.nn.one_hot(jnp.argmax(scores, axis=-1), self.features, dtype=x.dtype)
        losses = {"own": -jax.nn.log_softmax(scores)} if train else {}
        return one_token(vote, present).replace(losses=losses, decided=True)


def test_what_only_losses_train_is_trained():
    assert check_fusion(OnlyLosses()) == []


class NoParameters(nn.Module):
    def reads(self, modalities):
        return ("text",)

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
    source = (
        "import flax.linen as nn\nclass Mine(nn.Module):\n  x: int\n"
        "  def __call__(self, tokens, masks, *, train): ...\n"
    )
    (tmp_path / "mine.py").write_text(source)
    result = check_command("mine:Mine", cwd=tmp_path)
    assert result.returncode == 2
    assert result.stderr == "error: fusion 'mine:Mine' needs a value for: x\n"
    result = check_command("mine:Mind", cwd=tmp_path)
    assert (result.returncode, result.stdout) == (2, "")
    assert "did you mean 'Mine'" in result.stderr
