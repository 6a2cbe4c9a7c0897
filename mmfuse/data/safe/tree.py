"""Nested containers of arrays as one ``.npz``: how a child process hands over what it read.

The arrays are members ``0``, ``1``, ...; the member ``tree`` is JSON that says where each belongs.
Nothing in the file can run: reading it back takes `arrays.read_npz` and a few lists.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from mmfuse.data.safe.arrays import KINDS, read_npz
from mmfuse.data.safe.limits import DataError, size_text

MAX_DEPTH = 32
MAX_NODES = 1_000_000
Tree = Any  # None, bool, int, float, str, bytes, array, and lists, tuples, dicts of these


def write(path: str | Path, tree: Tree, max_bytes: int, label: str) -> None:
    """Writes a tree.

    An array of Python objects becomes a list (of lists) of what it holds; a numpy scalar an array
    without axes.

    Raises:
      DataError: for any other type, by name; more than 32 levels or a million values (a few bytes
        of pickle can refer to one list again and again); more than ``max_bytes`` of data.
    """
    packer = _Packer(max_bytes, label)
    text = json.dumps(packer.pack(tree, 0)).encode()
    arrays = {str(index): array for index, array in enumerate(packer.arrays)}
    np.savez(path, tree=np.frombuffer(text, np.uint8), **arrays)


def read(path: str | Path, max_bytes: int) -> Tree:
    """Reads what `write` wrote."""
    arrays = read_npz(path, max_bytes=2 * max_bytes)  # the JSON takes some, too
    return _unpack(json.loads(arrays["tree"].tobytes()), arrays)


class _Packer:
    def __init__(self, max_bytes: int, label: str):
        self._left, self._label, self._nodes = max_bytes, label, 0
        self._max_bytes = max_bytes
        self._places: dict[int, int] = {}
        self.arrays: list[np.ndarray] = []

    def pack(self, node: Tree, depth: int) -> Any:
        self._nodes += 1
        if depth > MAX_DEPTH or self._nodes > MAX_NODES:
            raise DataError(
                f"{self._label}: more than {MAX_DEPTH} levels or {MAX_NODES} values; "
                "it may refer to itself"
            )
        if node is None or isinstance(node, (bool, float)):
            return node
        if isinstance(node, int):
            return self._whole(node)
        if isinstance(node, (str, bytes)):
            return self._text(node)
        if isinstance(node, (np.ndarray, np.generic)):
            return self._array(node, depth)
        if isinstance(node, dict):
            # `node.items` may be another: a pickle can put an attribute in front of the method
            return ["dict", [self._pair(*pair, depth + 1) for pair in dict.items(node)]]
        if type(node) in (list, tuple):
            return [type(node).__name__, [self.pack(item, depth + 1) for item in node]]
        raise DataError(
            f"{self._label}: holds a {type(node).__name__}; allowed are numbers, text, arrays, "
            "lists, tuples and dicts"
        )

    def _pair(self, key: Any, value: Tree, depth: int) -> list:
        if isinstance(key, np.generic):
            key = key.item()
        parts = key if type(key) is tuple else (key,)
        if not all(isinstance(part, str | bytes | int | float | None) for part in parts):
            raise DataError(
                f"{self._label}: a dict has a key of type {type(key).__name__}; allowed are "
                "numbers and text, and tuples of them"
            )
        return [self.pack(key, depth), self.pack(value, depth)]

    def _whole(self, number: int) -> int:
        if not -(2**63) <= number < 2**64:
            raise DataError(f"{self._label}: a whole number of more than 64 bits")
        return number

    def _text(self, text: str | bytes) -> Any:
        self._spend(len(text))
        return ["bytes", text.decode("latin1")] if isinstance(text, bytes) else text

    def _array(self, array: np.ndarray | np.generic, depth: int) -> Any:
        if array.dtype.kind == "O":
            self._nodes += array.size
            return self.pack(array.tolist() if array.size <= MAX_NODES else None, depth + 1)
        if array.dtype.kind not in KINDS:
            raise DataError(f"{self._label}: holds an array of dtype {array.dtype}")
        if id(array) not in self._places:
            self._spend(array.nbytes)
            self._places[id(array)] = len(self.arrays)
            self.arrays.append(np.asarray(array))
        return ["array", self._places[id(array)]]

    def _spend(self, count: int) -> None:
        self._left -= count
        if self._left < 0:
            raise DataError(f"{self._label}: holds more than {size_text(self._max_bytes)} of data")


def _unpack(node: Any, arrays: dict[str, np.ndarray]) -> Tree:
    if not isinstance(node, list):
        return node
    kind, value = node
    if kind == "array":
        return arrays[str(value)]
    if kind == "bytes":
        return value.encode("latin1")
    if kind == "dict":
        return {_unpack(key, arrays): _unpack(item, arrays) for key, item in value}
    return {"list": list, "tuple": tuple}[kind](_unpack(item, arrays) for item in value)
