"""Reading a config file and the overrides of the command line.

A config file defines ``get_config() -> ConfigDict`` (or ``get_config(argument)`` for
``FILE:argument``). What its entries mean is checked by ``ablation.resolve``. Every mistake is one
InputError; only the files that the user names are run.
"""

from __future__ import annotations

import ast
import importlib.util
import inspect
import os
import sys
import traceback
from pathlib import Path

from ml_collections import ConfigDict

from mmfuse.errors import InputError, listed, nearest


def load_config(spec: str) -> ConfigDict:
    """Runs ``get_config`` of ``FILE`` or ``FILE:argument``."""
    path, _, argument = spec.partition(":")
    if not Path(path).is_file():
        folder = Path(path).parent if Path(path).parent.is_dir() else Path("configs")
        others = sorted(str(p) for p in folder.glob("*.py") if p.name != "__init__.py")
        raise InputError(f"no config file '{path}'{nearest(path, others)}{listed(others)}")
    if not path.endswith(".py"):
        raise InputError(f"config file '{path}' must be Python and end in .py")
    if os.getcwd() not in sys.path:  # configs import each other, plug-ins lie beside them
        sys.path.insert(0, os.getcwd())
    module_spec = importlib.util.spec_from_file_location(f"mmfuse_config_{Path(path).stem}", path)
    module = importlib.util.module_from_spec(module_spec)
    try:
        module_spec.loader.exec_module(module)
        if not hasattr(module, "get_config"):
            raise InputError(f"config file '{path}' has no get_config()")
        if argument and not inspect.signature(module.get_config).parameters:
            raise InputError(f"config file '{path}' takes no argument, but got ':{argument}'")
        config = module.get_config(argument) if argument else module.get_config()
    except InputError:
        raise
    except (Exception, SystemExit) as error:
        raise InputError(f"config file {_user_line(error, path)}") from error
    if not isinstance(config, ConfigDict):
        raise InputError(f"get_config() of '{path}' must return a ConfigDict, got {type(config)}")
    return config


def _user_line(error: BaseException, path: str) -> str:
    """``FILE:LINE: Error: message`` of the deepest line inside the user's file."""
    if isinstance(error, SyntaxError):
        return f"{error.filename}:{error.lineno}: SyntaxError: {error.msg}"
    frames = [f for f in traceback.extract_tb(error.__traceback__) if f.filename.endswith(path)]
    line = frames[-1].lineno if frames else "?"
    return f"{path}:{line}: {type(error).__name__}: {' '.join(str(error).split())}"


def apply_override(config: ConfigDict, path: str, text: str) -> None:
    """Sets ``config.<path>`` from the command line, keeping the type of the value it replaces."""
    *parents, last = path.split(".")
    node, where = config, "config"
    for key in parents:
        node = _child(node, key, where, config)
        where += f".{key}"
        if not isinstance(node, ConfigDict):
            raise InputError(f"'{where}' is a value, not a section; it has no key '{last}'")
    free = len(parents) > 0 and (
        parents[-1] in ("fusion", "builder")
        or parents[-2:-1] in (["encoders"], ["preprocess"], ["objectives"])
        or (parents[0] == "kinds" and len(parents) == 3)
    )
    if last not in node and free:
        node[last] = _literal(text)
        return
    old = _child(node, last, where, config)
    with node.unlocked(), node.ignore_type():
        node[last] = _converted(text, old, f"{where}.{last}")


def _child(node: ConfigDict, key: str, where: str, root: ConfigDict):
    if key in node:
        return node[key]
    hint = nearest(key, node.keys())
    if not hint:
        leaves = {path.rpartition(".")[2]: path for path in _leaves(root)}
        close = nearest(key, leaves)
        hint = f"; did you mean '{leaves[close.split(chr(39))[1]]}'?" if close else ""
    raise InputError(f"unknown key '{key}' in {where}{hint}{listed(sorted(node.keys()))}")


def _leaves(node: ConfigDict, prefix: str = "") -> list[str]:
    found = []
    for key, value in node.items():
        inner = _leaves(value, f"{prefix}{key}.") if isinstance(value, ConfigDict) else []
        found += inner or [f"{prefix}{key}"]
    return found


def _literal(text: str):
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def _converted(text: str, old, where: str):
    """``text`` as a value of the type of ``old``."""
    if isinstance(old, ConfigDict):
        raise InputError(f"{where} is a section; set one of its keys: {', '.join(old.keys())}")
    if isinstance(old, str):
        return text
    value = _literal(text)
    if isinstance(old, bool):
        value = {"true": True, "false": False}.get(text.lower(), value)
        kind = bool
    elif isinstance(old, int):
        kind = int
    elif isinstance(old, float):
        value = _number(text, value)
        kind = float
    elif isinstance(old, (tuple, list)):
        value = (value,) if isinstance(value, (int, float)) else value
        kind = (tuple, list)
    else:
        return value
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        name = "a list such as (0,1,2)" if isinstance(kind, tuple) else kind.__name__
        raise InputError(f"{where}: expected {name}, got '{text}'")
    return type(old)(value)


def _number(text: str, value):
    try:
        return float(text)  # also nan and inf, which the range check then names
    except ValueError:
        return value
