"""What one training program computes: the state, one step, a chunk of steps, an evaluation.

Everything here is a pure function, written for one replica (seed) and vmapped over the leading axis
``R``; keys come from ``fold_in(seed, step)``, so a replica does not depend on its neighbours or on
when the run was interrupted.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import optax

from mmfuse import optim
from mmfuse.compression import NONE as UNCOMPRESSED
from mmfuse.compression import Compression, Teacher
from mmfuse.errors import InputError
from mmfuse.model import model_inputs
from mmfuse.objectives.apply import NONE, Objectives, on_model
from mmfuse.tasks import AUXILIARY, Sums, Task
from mmfuse.transforms import Transform
from mmfuse.transforms.apply import EVALUATION, apply, places

LAST = "last"


@dataclasses.dataclass(frozen=True)
class TrainSettings:
    """The budget and the optimiser of a row; the same for all rows of a fair table.

    ``select`` is the validation metric that chooses the epoch, or "last": the epochs are fixed in
    advance, for data whose validation split says nothing.
    """

    epochs: int = 10
    batch: int = 64
    optimizer: str = "adamw"
    lr: float = 1e-3
    schedule: str = "cosine"
    warmup: int = 0
    momentum: float = 0.9
    weight_decay: float = 0.0
    clip_norm: float = 1.0
    label_smoothing: float = 0.0
    select: str = "accuracy"
    patience: int = 0
    eval_batch: int = 512
    steps_per_dispatch: int = 200
    checkpoint_seconds: float = 30.0


@flax.struct.dataclass
class TrainState:
    """Everything that changes while training; every leaf has a leading replica axis R.

    ``sums`` are the training metrics of the running epoch; ``diverged_at`` is the first step whose
    loss or gradient was not finite, or -1; ``objectives`` is what each of them keeps; ``teacher``
    are the parameters of a finished row that this one learns from, which do not change.
    """

    step: jax.Array
    seed: jax.Array
    params: Any
    opt_state: Any
    sums: Sums
    diverged_at: jax.Array
    objectives: Any = flax.struct.field(default_factory=dict)
    teacher: Any = flax.struct.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Program:
    """The pure functions of one row: a model, its optimiser, its task, what befalls its input, and
    what it aims at besides the task; how the model is compressed, maybe by learning from another.
    """

    model: nn.Module
    optimizer: optax.GradientTransformation
    task: Task
    label_smoothing: float = 0.0
    train_transforms: tuple[Transform, ...] = ()
    eval_transforms: tuple[Transform, ...] = ()
    own: Mapping[str, tuple[float, ...]] = dataclasses.field(default_factory=dict, hash=False)
    objectives: Objectives = NONE
    compression: Compression = UNCOMPRESSED
    teacher: Teacher | None = dataclasses.field(default=None, hash=False)

    def init(self, seeds: jax.Array, batch: dict, *, axis_name: str | None) -> TrainState:
        """The state of the seeds, uint32 [R], for batches like ``batch`` (leaves [B, ...])."""
        del axis_name
        if self.compression.taught and self.teacher is None:
            raise InputError("a row with a teacher is trained by experiments.ablate, after it")

        def one(seed, own, teacher):
            key = jax.random.fold_in(jax.random.key(seed), 2**31)  # apart from every step's key
            # In training mode, so that the fusion's auxiliary losses are there.
            (output, fused), variables = self.model.init_with_output(
                {"params": key, "dropout": key}, *model_inputs(batch), train=True
            )
            params, kept, losses = variables["params"], {}, fused.losses
            if self.objectives:
                params, kept, losses = self.objectives.init(
                    self.model, self.task, params, batch, key
                )
            return TrainState(
                step=jnp.int32(0),
                seed=seed,
                params=params,
                opt_state=optim.begin(self.optimizer, params, own),
                sums=self._zero_sums(output, losses | self._taught(teacher, output, batch), batch),
                diverged_at=jnp.int32(-1),
                objectives=kept,
                teacher=teacher,
            )

        own = {name: jnp.asarray(values, jnp.float32) for name, values in self.own.items()}
        return jax.vmap(one)(seeds, own, self.teacher.params if self.teacher else {})

    def _zero_sums(self, output: jax.Array, losses: dict, batch: dict) -> Sums:
        """Empty metric sums, for outputs, auxiliary losses and batches like these."""
        examples = jax.tree.leaves(batch["label"])[0].shape[:1]
        batch = batch | {"weight": jax.ShapeDtypeStruct(examples, jnp.float32)}
        shapes = jax.eval_shape(lambda o, a, b: self.score(o, a, b)[1], output, losses, batch)
        return jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes)

    def score(
        self, output: jax.Array, losses: dict, batch: dict, smoothing: float = 0.0
    ) -> tuple[jax.Array, Sums]:
        """Summed loss and metric sums of the model's output for a batch.

        An example that was mixed of two counts as its two labels, each with its share.
        """
        label, weight = batch["label"], batch["weight"]
        if "mixed" not in batch:
            return self._score_labels(output, losses, label, weight, smoothing)
        own, other = weight * batch["mixed"]["share"], batch["mixed"]["label"]
        parts = [(label, own), (other, weight - own)]
        return jax.tree.map(
            jnp.add, *(self._score_labels(output, losses, *part, smoothing) for part in parts)
        )

    def _score_labels(
        self, output: jax.Array, losses: dict, label: Any, weight: jax.Array, smoothing: float
    ) -> tuple[jax.Array, Sums]:
        """Sums over examples with these labels and weights [B].

        The loss that is minimised is the task's plus all auxiliary ones; each has its own sum.
        """
        loss = jnp.sum(self.task.loss(output, label, smoothing=smoothing) * weight)
        auxiliary = {
            f"{AUXILIARY}{name}": jnp.sum(optim.auxiliary(value, label) * weight)
            for name, value in sorted(losses.items())
        }
        sums = self.task.sums(output, label, weight)
        sums |= {"loss": loss, "count": jnp.sum(weight)} | auxiliary
        return sum(auxiliary.values(), loss), sums

    def _forward(self, params, batch: dict, key=None) -> tuple[jax.Array, dict]:
        """The output [B, ...] and the auxiliary losses; with a key, as in training (dropout on)."""
        train = key is not None
        rngs = {"dropout": key} if train else None
        output, fused = self.model.apply(
            {"params": params}, *model_inputs(batch), train=train, rngs=rngs
        )
        return output, fused.losses

    def _trained(self, state: TrainState, params, learned: dict, batch: dict, key, axis_name):
        """As ``_forward`` for what is learned of a batch, with the objectives' losses and sums."""
        if not self.objectives:
            return (*self._forward(params, learned, key), {})
        how = {"smoothing": self.label_smoothing, "axis_name": axis_name}
        return self.objectives.forward(
            self.model, self.task, params, state.objectives, learned, batch, key, **how
        )

    def _taught(self, teacher: Any, output: jax.Array, batch: dict) -> dict[str, jax.Array]:
        """The auxiliary loss [B] of a model that learns from a teacher's output, else nothing."""
        if self.teacher is None:
            return {}
        shown = self.teacher.model.apply({"params": teacher}, *model_inputs(batch), train=False)
        return {"distil": self.compression.loss(output, shown[0])}

    def _used(self, params: Any, step: jax.Array) -> Any:
        """The parameters that the forward pass of a training step uses."""
        if not self.compression.trains:
            return params
        return on_model(lambda p: self.compression.during(p, step), params)

    def compressed(self, params: Any) -> Any:
        """The compressed parameters of all replicas, leaves [R, ...]: what is measured and kept."""
        return on_model(jax.vmap(self.compression.after), params)

    def train_step(self, state: TrainState, batch: dict, *, axis_name: str | None) -> TrainState:
        """One step of one replica: gradient of local_sum / global_count, summed over devices."""
        key = everywhere = jax.random.fold_in(jax.random.key(state.seed), state.step)
        if axis_name is not None and jax.lax.axis_size(axis_name) > 1:
            key = jax.random.fold_in(key, jax.lax.axis_index(axis_name))
        learned = self.objectives.learned(batch)
        count = _psum(jnp.sum(learned["weight"]), axis_name)

        def loss_fn(params):
            used = self._used(params, state.step)
            output, losses, told = self._trained(state, used, learned, batch, key, axis_name)
            losses = losses | self._taught(state.teacher, output, learned)
            total, sums = self.score(output, losses, learned, self.label_smoothing)
            return total / jnp.maximum(count, 1), (sums, told)

        grads, (sums, told) = jax.grad(loss_fn, has_aux=True)(state.params)
        grads, sums, told = _psum((grads, sums, told), axis_name)
        grads, kept = self.objectives.after(grads, told, state.objectives, state.step, everywhere)
        updates, opt_state = self.optimizer.update(grads, state.opt_state, state.params)
        finite = jnp.isfinite(sums["loss"]) & jnp.isfinite(optax.tree.norm(grads))
        first = (state.diverged_at < 0) & ~finite
        return state.replace(
            step=state.step + 1,
            params=optax.apply_updates(state.params, updates),
            opt_state=opt_state,
            sums=jax.tree.map(jnp.add, state.sums, sums),
            diverged_at=jnp.where(first, state.step, state.diverged_at),
            objectives=kept,
        )

    def train_chunk(self, state, data, order, live, *, axis_name) -> TrainState:
        """As many steps as ``order`` has, in one program.

        ``data`` leaves [N, ...] are whole on every device, ``order`` int32 [steps, R, B] indexes
        them (-1 = padding, weight 0), ``live`` bool [steps] is False for steps that only fill up
        the chunk and leave the state as it is.
        """

        def gather(index):
            return jax.tree.map(lambda x: jnp.take(x, jnp.maximum(index, 0), axis=0), data), index

        return self._scan(state, order, live, gather, axis_name)

    def train_batches(self, state, data, order, live, *, axis_name) -> TrainState:
        """As ``train_chunk``, for ``data`` that already lies in the order: [steps, R, B, ...]."""
        return self._scan(state, (data, order), live, lambda step: step, axis_name)

    def _scan(self, state, steps, live, batch_of, axis_name) -> TrainState:
        """A scan over steps; ``batch_of(a step) -> (batch of every replica, its order [R, B])``."""

        def step(state, now):
            batch, index = batch_of(now)
            batch = dict(batch, weight=(index >= 0).astype(jnp.float32), index=index)
            # Padding has no modality, so that statistics of a batch can leave it out.
            real = index >= 0
            batch["masks"] = jax.tree.map(
                lambda x: x & real.reshape(real.shape + (1,) * (x.ndim - real.ndim)), batch["masks"]
            )
            if self.train_transforms:
                batch = jax.vmap(lambda s, b: self._transformed(s, b, axis_name))(state, batch)
            return jax.vmap(lambda s, b: self.train_step(s, b, axis_name=axis_name))(state, batch)

        def body(state, xs):
            now, alive = xs
            return jax.lax.cond(alive, step, lambda s, _: s, state, now), None

        return jax.lax.scan(body, state, (steps, live))[0]

    def _transformed(self, state: TrainState, batch: dict, axis_name: str | None) -> dict:
        """The batch of one replica after the training transforms, keyed by seed, step and place."""
        key = jax.random.fold_in(jax.random.key(state.seed), state.step)
        who = places(len(batch["weight"]), axis_name)
        return apply(self.train_transforms, key, batch, who, axis_name=axis_name)

    def evaluate(self, params, batch: dict, *, axis_name: str | None) -> tuple[Sums, Any]:
        """Metric sums of one batch (leaves [B, ...]) for ``params`` [R, ...], and what is kept.

        That is what the task keeps of the outputs, leaves [R, B, ...].

        ``batch["index"]`` int32 [B], each example's place in its split, keys the transforms.
        """
        if self.eval_transforms:
            key = jax.random.key(EVALUATION)
            batch = apply(self.eval_transforms, key, batch, batch["index"], axis_name=axis_name)

        def one(replica):
            output, losses = self._forward(replica, batch)
            sums = self.score(output, losses, batch)[1]
            return sums, self.task.kept_output(output, batch["label"])

        sums, outputs = jax.vmap(one)(params)
        if axis_name is not None:
            outputs = jax.lax.all_gather(outputs, axis_name, axis=1, tiled=True)
        return _psum(sums, axis_name), outputs


def _psum(tree, axis_name: str | None):
    return tree if axis_name is None else jax.lax.psum(tree, axis_name)


def make_schedule(settings: TrainSettings, steps_per_epoch: int) -> optax.Schedule:
    """The learning rate by step, over all the epochs."""
    steps = settings.epochs * steps_per_epoch
    return optim.make_schedule(settings.schedule, settings.lr, steps, settings.warmup)


@functools.cache
def learning_rates(settings: TrainSettings, steps_per_epoch: int) -> tuple[float, ...]:
    """The learning rate of the last step of every epoch."""
    last = np.arange(1, settings.epochs + 1) * steps_per_epoch - 1
    rates = jax.jit(jax.vmap(make_schedule(settings, steps_per_epoch)))(last)
    return tuple(np.asarray(rates).tolist())


def make_program(
    model: nn.Module,
    task: Task,
    settings: TrainSettings,
    steps_per_epoch: int,
    own: Mapping[str, tuple[float, ...]] | None = None,
    objectives: Objectives = NONE,
    **transforms: tuple[Transform, ...],
) -> Program:
    """The program of a row; the schedule runs over ``epochs * steps_per_epoch`` steps.

    ``own``: settings of ``optim.PER_REPLICA``, one value per replica; ``transforms``: both lists.
    """

    def make(lr, weight_decay, momentum):
        schedule = make_schedule(dataclasses.replace(settings, lr=lr), steps_per_epoch)
        rest = {"clip_norm": settings.clip_norm, "momentum": momentum}
        return optim.make_optimizer(settings.optimizer, schedule, weight_decay=weight_decay, **rest)

    shared = {name: getattr(settings, name) for name in optim.PER_REPLICA}
    optimizer = optim.per_replica(make, shared) if own else make(**shared)
    more = {"own": own or {}, "objectives": objectives} | transforms
    return Program(model, optimizer, task, settings.label_smoothing, **more)
