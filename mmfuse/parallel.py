"""The only file that knows of devices: one function, compiled once, over all of them.

A *parallel function* is written for one shard: ``fn(*args, axis_name)``, where ``axis_name`` is the
device axis to ``lax.psum`` over, or None when there is none. ``Devices.compile`` turns it into an
executable on global arrays, in one of two modes:

``pmap``  a jitted, pmapped function: batch arguments are split over the devices, everything else is
          copied to each, collectives are explicit.
``jit``   the function is compiled once for a mesh (Auto axes) with sharded batch arguments and XLA
          inserts the collectives. Needed with several processes (`processes`): each then passes
          its own share of the batch arguments, and everything else whole.

Executables are compiled ahead of time, so a row compiles each of its functions exactly once, and
the compile time is known; arguments are placed as the executable wants them before the call.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import time
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np
from jax.experimental import serialize_executable
from jax.experimental.compilation_cache.compilation_cache import reset_cache
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from mmfuse.errors import InputError, nearest
from mmfuse.store import Store

AXIS = "batch"
# On the CPU backend LLVM's higher levels double the compile time of a training step and leave its
# run time as it is (measured on the helpdesk rows; GPUs and TPUs compile otherwise).
CPU_OPTIONS = {"xla_backend_optimization_level": 1}
MODES = ("pmap", "jit")


class Devices:
    """``count`` devices (0 = all of them, those of other processes too) used in ``mode``.

    ``store`` is where compiled programs are kept between launches of one process; several keep
    none.
    """

    def __init__(self, mode: str = "pmap", count: int = 0, store: Store | None = None):
        if mode not in MODES:
            allowed = ", ".join(MODES)
            raise InputError(
                f"unknown parallel.mode '{mode}'; allowed: {allowed}{nearest(mode, MODES)}"
            )
        self._several = jax.process_count() > 1
        if mode == "pmap" and self._several:
            raise InputError("parallel.mode 'pmap' is for one host; use 'jit' with several hosts")
        found = _all_devices(count) if self._several else jax.local_devices()
        if count > len(found):
            raise InputError(f"parallel.devices is {count}, but this host has {len(found)}")
        self.mode = mode
        self.devices = found[: count or len(found)]
        self._mesh = Mesh(np.array(self.devices), (AXIS,), axis_types=(AxisType.Auto,))
        self.compilations = 0
        self.store = Store() if self._several or store is None else store

    @property
    def count(self) -> int:
        """Number of devices in use."""
        return len(self.devices)

    @property
    def kind(self) -> str:
        """What the devices are, e.g. ``cpu`` or ``NVIDIA H100``."""
        return self.devices[0].device_kind

    @property
    def memory_bytes(self) -> int:
        """Memory of one device; of the machine where the devices are simulated on its processor."""
        stats = jax.local_devices()[0].memory_stats() or {}
        machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        return stats.get("bytes_limit", machine)

    def replicate(self, tree: Any) -> Any:
        """Copies every leaf to all devices."""
        whole = NamedSharding(self._mesh, PartitionSpec())
        if not self._several:
            return jax.device_put(tree, whole)
        return jax.tree.map(lambda x: _everywhere(x, whole), tree)

    def _split(self, tree: Any, axis: int) -> Any:
        """Splits ``axis`` of every leaf over the devices: in place for jit, in front for pmap."""

        def leaf(x):
            local = self.count // jax.process_count()
            if x.shape[axis] % local:
                raise InputError(f"batch {x.shape[axis]} is not divisible by {local} devices")
            if self.mode == "jit":
                split = NamedSharding(self._mesh, PartitionSpec(*[None] * axis, AXIS))
                if self._several:
                    return jax.make_array_from_process_local_data(split, np.asarray(x))
                return jax.device_put(x, split)
            parts = np.stack(np.split(np.asarray(x), self.count, axis))
            return jax.device_put(parts, NamedSharding(self._mesh, PartitionSpec(AXIS)))

        return jax.tree.map(leaf, tree)

    def place(self, args: tuple, batch_axes: tuple[int | None, ...]) -> tuple:
        """Puts each argument where a compiled function wants it (see ``compile``)."""
        return tuple(
            self.replicate(arg) if axis is None else self._split(arg, axis)
            for arg, axis in zip(args, batch_axes, strict=True)
        )

    def compile(self, fn: Callable, args: tuple, batch_axes: tuple[int | None, ...]) -> Compiled:
        """Compiles ``fn(*args, axis_name)`` for arguments like ``args``.

        ``batch_axes`` names, per argument, the axis that is split over the devices, or None for an
        argument that every device sees whole. Results must be equal on all devices.
        """
        start = time.perf_counter()
        placed = self.place(args, batch_axes)
        if self.mode == "pmap" and any(axis is not None for axis in batch_axes):
            jitted = jax.pmap(
                lambda *a: fn(*a, axis_name=AXIS),
                axis_name=AXIS,
                in_axes=tuple(None if axis is None else 0 for axis in batch_axes),
                out_axes=None,
                devices=self.devices,
            )
        else:
            out = NamedSharding(self._mesh, PartitionSpec())
            jitted = jax.jit(lambda *a: fn(*a, axis_name=None), out_shardings=out)
        options = CPU_OPTIONS if self.devices[0].platform == "cpu" else None
        executable = jitted.lower(*placed).compile(compiler_options=options)
        self.compilations += 1
        return Compiled(self, executable, batch_axes, time.perf_counter() - start)

    def revive(self, dumped: tuple) -> Compiled:
        """The program that ``Compiled.dump`` has written down, for the same devices."""
        start = time.perf_counter()
        program, inputs, outputs, batch_axes = dumped
        executable = serialize_executable.deserialize_and_load(
            program, inputs, outputs, execution_devices=self.devices
        )
        return Compiled(self, executable, batch_axes, time.perf_counter() - start)


def over_devices(tree: Any, axis_name: str | None) -> Any:
    """The sums of the leaves over all shards, inside a parallel function."""
    return tree if axis_name is None else jax.lax.psum(tree, axis_name)


def _all_devices(count: int) -> list[jax.Device]:
    """The devices of all processes, those of a process side by side."""
    found = sorted(jax.devices(), key=lambda device: (device.process_index, device.id))
    if count not in (0, len(found)):
        raise InputError(
            f"parallel.devices is {count}, but several processes use all of their {len(found)}; "
            "leave it at 0"
        )
    if len(found) != jax.local_device_count() * jax.process_count():
        raise InputError("every process must have the same number of devices")
    return found


def _everywhere(x: Any, whole: NamedSharding) -> jax.Array:
    """An array that every process holds, on all devices; nothing is sent between them."""
    if isinstance(x, jax.Array) and x.sharding == whole:
        return x
    x = np.asarray(x)
    return jax.make_array_from_callback(x.shape, whole, lambda index: x[index])


@contextlib.contextmanager
def compiled_here() -> Iterator[None]:
    """Inside, no program is taken from JAX's persistent cache, and none is put there.

    XLA's CPU programs can be written down once only: of a program that was itself loaded,
    ``Compiled.dump`` misses functions, and what is revived from it fails when it runs.
    """
    before = jax.config.jax_enable_compilation_cache
    jax.config.update("jax_enable_compilation_cache", False)
    reset_cache()  # JAX remembers whether there is a cache
    try:
        yield
    finally:
        jax.config.update("jax_enable_compilation_cache", before)
        reset_cache()


@dataclasses.dataclass(frozen=True)
class Compiled:
    """An executable and the seconds its compilation took; call it with whole arguments."""

    devices: Devices
    executable: Any
    batch_axes: tuple[int | None, ...]
    seconds: float

    def __call__(self, *args):
        return self.executable(*self.devices.place(args, self.batch_axes))

    def dump(self) -> tuple:
        """The program as data that can be pickled, see ``Devices.revive`` and ``compiled_here``."""
        return (*serialize_executable.serialize(self.executable), self.batch_axes)

    def place(self, *args, first: int = 0) -> tuple:
        """Arguments, from number ``first`` on, in the form that ``run`` takes as they are."""
        return self.devices.place(args, self.batch_axes[first : first + len(args)])

    def run(self, placed: tuple):
        """Calls the executable on arguments from ``place``."""
        return self.executable(*placed)
