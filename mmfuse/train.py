"""What one training program computes: the state, one step, a chunk of steps.

Everything here is a pure function, written for one replica (seed) and vmapped over the leading axis
``R``; keys come from ``fold_in(seed, step)``, so a replica does not depend on its neighbours or on
when the run was interrupted.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
import optax

from mmfuse import evaluation, optim
from mmfuse.compression import NONE as UNCOMPRESSED
from mmfuse.compression import Compression, Teacher
from mmfuse.errors import InputError
from mmfuse.model import model_inputs
from mmfuse.objectives.apply import NONE, Objectives, on_model
from mmfuse.parallel import over_devices
from mmfuse.settings import TrainSettings, make_optimizer
from mmfuse.tasks import Sums, Task
from mmfuse.transforms import Transform
from mmfuse.transforms.apply import apply, places


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
            losses = losses | self._taught(teacher, output, batch)
            return TrainState(
                step=jnp.int32(0),
                seed=seed,
                params=params,
                opt_state=optim.begin(self.optimizer, params, own),
                sums=evaluation.zero_sums(self.task, output, losses, batch),
                diverged_at=jnp.int32(-1),
                objectives=kept,
                teacher=teacher,
            )

        own = {name: jnp.asarray(values, jnp.float32) for name, values in self.own.items()}
        return jax.vmap(one)(seeds, own, self.teacher.params if self.teacher else {})

    def _trained(self, state: TrainState, params, learned: dict, batch: dict, key, axis_name):
        """As ``evaluation.forward``, with the objectives' losses and sums; of what is learned."""
        if not self.objectives:
            return (*evaluation.forward(self.model, params, learned, key), {})
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
        count = over_devices(jnp.sum(learned["weight"]), axis_name)

        def loss_fn(params):
            used = self._used(params, state.step)
            output, losses, told = self._trained(state, used, learned, batch, key, axis_name)
            losses = losses | self._taught(state.teacher, output, learned)
            total, sums = evaluation.score(self.task, output, losses, learned, self.label_smoothing)
            return total / jnp.maximum(count, 1), (sums, told)

        grads, (sums, told) = jax.grad(loss_fn, has_aux=True)(state.params)
        grads, sums, told = over_devices((grads, sums, told), axis_name)
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

    def evaluate(self, params: Any, batch: dict, *, axis_name: str | None) -> tuple[Sums, Any]:
        """As :func:`evaluation.evaluate`: of ``params`` [R, ...] and one batch, leaves [B, ...]."""
        how = {"transforms": self.eval_transforms, "axis_name": axis_name}
        return evaluation.evaluate(self.model, self.task, params, batch, **how)


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

    ``own`` as in ``make_optimizer``; ``transforms``: both lists.
    """
    optimizer = make_optimizer(settings, steps_per_epoch, own)
    more = {"own": own or {}, "objectives": objectives} | transforms
    return Program(model, optimizer, task, settings.label_smoothing, **more)
