"""Objectives that ask every modality alone for the answer, by heads beside the model's own."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp

from mmfuse.decoders import Regularised
from mmfuse.errors import InputError
from mmfuse.fusion.base import Array, Fused
from mmfuse.objectives.base import Objective, Seen, Told, several, unit_uniform
from mmfuse.transforms.base import Transform, number

HELD_OUT = 0  # the seed that chooses the held-out examples: the same ones in every row and run


def own_heads(objective: Objective, seen: Seen) -> dict[str, nn.Module]:
    """A head of the model's kind for each modality, which the objective trains as its own."""
    return {m: seen.model.head.clone(parent=objective, name=m) for m in sorted(seen.tokens)}


def alone(heads: dict[str, nn.Module], seen: Seen, *, train: bool) -> dict[str, Array]:
    """The task's loss of each modality's own head, ``{m: [B]}``; 0 where it is absent.

    A penalty that heads of this kind add in training (``Regularised``) is left to the model's own:
    each head's is the task's loss alone, as those that blending measures.
    """
    losses, given = {}, seen.batch.get("given")
    for m, head in heads.items():
        tokens, mask = seen.tokens[m], seen.masks[m]
        output = head(Fused(tokens, mask), {m: (tokens, mask)}, given, train=train)
        output = output.output if isinstance(output, Regularised) else output
        losses[m] = jnp.where(jnp.any(mask, axis=(1, 2)), seen.loss(output), 0)
    return losses


class UnimodalHeads(Objective):
    """Unimodal auxiliary heads, multi-task late fusion (MLF, Yu et al. 2020, ACL).

    ``L_i = weight * sum over the present m of L_task(head_m(h_mi), y_i)``: a head of the model's
    kind reads the encoded tokens of one modality alone, and has the task's own loss, smoothing
    included.

    Differs from the paper (2020.acl-main.343): the label is that of the example, where theirs has
    one for every modality; the model's head and fusion stay whatever they are.
    """

    weight: float = 0.3

    def check(self) -> None:
        """Ranges of the fields."""
        number("weight", self.weight, 0)

    @nn.compact
    def __call__(self, seen: Seen) -> Told:
        """See the class."""
        losses = alone(own_heads(self, seen), seen, train=True)
        return Told(self.weight * sum(losses.values()))


class GradientBlending(Objective):
    """Gradient blending, G-Blend (Wang, Tran & Feiszli 2020, CVPR, arXiv:1905.12681).

    ``L = sum_k w_k L_k``, ``w_k = (G_k / O_k^2) / sum_j (G_j / O_j^2)`` over k, the model and a
    head of its kind for each modality: with the loss ``T_k`` of the examples that are trained on
    and ``V_k`` of those held out, ``G_k = V_k(start) - V_k(now)`` is what k has learned that
    generalises, and ``O_k = (V_k - T_k)(now) - (V_k - T_k)(start)`` what it has overfitted since.

    A ``share`` of the training examples is held out of training altogether (validation only chooses
    the epoch). T and V are means over an epoch of the losses before each step, as the model
    evaluates; "start" is the first epoch, in which all w_k are equal, and the weights are set anew
    at the end of every later one. A head that did not improve (G_k <= 0) weighs nothing; if none
    did, the weights stay. To ``O_k^2`` is added ``smooth^2``, since O_k may be 0 by chance.

    ``auxiliary/objective/...`` is ``L`` less the task's own loss, and may be negative. Differs from
    the paper: all heads are trained at once, where the paper estimates each weight by a run with
    this head alone; the estimate is online but always since the start.
    """

    share: float = 0.1
    smooth: float = 0.05

    def check(self) -> None:
        """Ranges of the fields."""
        number("share", self.share, 0.01, 0.9)
        number("smooth", self.smooth, 1e-4)

    def fits(self, modalities: tuple[str, ...], transforms: tuple[Transform, ...]) -> None:
        """Two modalities, and no transform that would mix held-out examples into others."""
        several(modalities)
        if any(transform.paired for transform in transforms):
            raise InputError(
                "holds examples out of training; transforms of two examples (mixup, swap) would "
                "bring them back"
            )

    def held_out(self, index: Array) -> Array:
        """A ``share`` of all examples, chosen by their index."""
        return (index >= 0) & (unit_uniform(index, HELD_OUT) < self.share)

    def begin(self, modalities: tuple[str, ...]) -> dict[str, Array]:
        """Equal weights; nothing is known."""
        heads = len(modalities) + 1
        empty = {name: jnp.zeros((2, heads)) for name in ("start", "loss", "count")}
        return empty | {"weights": jnp.full(heads, 1 / heads), "started": jnp.zeros((), bool)}

    @nn.compact
    def __call__(self, seen: Seen) -> Told:
        """See the class; the order of the weights is that of the modalities, the model is last."""
        heads, weights = own_heads(self, seen), seen.state["weights"]
        each = [*alone(heads, seen, train=True).values(), seen.loss(seen.output)]
        loss = sum(weights[k] * x for k, x in enumerate(each)) - each[-1]
        return Told(loss, self._measured(heads, seen))

    def _measured(self, heads: dict[str, nn.Module], seen: Seen) -> dict[str, Array]:
        """Sums and counts of every head's loss, [trained on or held out, head]."""
        now = seen.measured()
        losses = [*alone(heads, now, train=False).values(), now.loss(now.output)]
        real, ones = now.batch["weight"], jnp.ones_like(now.batch["weight"])
        there = [jnp.any(now.masks[m], axis=(1, 2)) for m in heads]
        counts = jnp.stack([*there, ones]) * real[None]
        losses = jnp.where(counts > 0, jax.lax.stop_gradient(jnp.stack(losses)), 0)
        held = self.held_out(now.batch["index"])
        groups = jnp.stack([~held, held]).astype(ones.dtype)
        return {"loss": groups @ (losses * counts).T, "count": groups @ counts.T}

    def update(
        self, state: dict[str, Array], sums: dict[str, Array], *, epoch_ends: Array
    ) -> dict[str, Array]:
        """Adds up the losses of an epoch, and at its end sets the weights."""
        loss, count = state["loss"] + sums["loss"], state["count"] + sums["count"]
        now, known = loss / jnp.maximum(count, 1), jnp.all(count > 0)
        weights = blended(state["start"], now, state["weights"], self.smooth)
        later, first = state["started"] & known, ~state["started"] & known
        ended = {
            "start": jnp.where(first, now, state["start"]),
            "weights": jnp.where(later, weights, state["weights"]),
            "started": state["started"] | known,
            "loss": jnp.zeros_like(loss),
            "count": jnp.zeros_like(count),
        }
        running = state | {"loss": loss, "count": count}
        return {name: jnp.where(epoch_ends, ended[name], running[name]) for name in running}


def blended(start: Array, now: Array, before: Array, smooth: float) -> Array:
    """The weights of the heads from mean losses [trained on or held out, head]; see the class."""
    gained = start[1] - now[1]
    overfitted = (now[1] - now[0]) - (start[1] - start[0])
    ratio = jnp.maximum(gained, 0) / (jnp.square(overfitted) + smooth**2)
    total = jnp.sum(ratio)
    return jnp.where(total > 0, ratio / jnp.where(total > 0, total, 1), before)
