"""What the commands share: their arguments, their exit codes, the compilation cache."""

from __future__ import annotations

import argparse
import logging
import os
import shlex
import signal
import stat
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

from ml_collections import ConfigDict

from mmfuse.ablation import Ablation, add_defaults, resolve
from mmfuse.checkpoint import NoGoodStepError
from mmfuse.config import apply_override, load_config
from mmfuse.errors import InputError, ReportError, nearest
from mmfuse.lock import WorkdirBusy
from mmfuse.processes import largest
from mmfuse.record import write_atomic
from mmfuse.store import Store

BAD_INPUT, SOME_FAILED = 2, 3


class Parser(argparse.ArgumentParser):
    """An ArgumentParser whose complaints are InputErrors, so that every command fails alike."""

    def __init__(self, prog: str, description: str):
        form = argparse.RawDescriptionHelpFormatter
        super().__init__(
            prog=f"python -m {prog}",
            description=description,
            formatter_class=form,
            allow_abbrev=False,
        )

    def error(self, message: str):
        """Raises instead of printing the usage."""
        raise InputError(message)


def run_command(main: Callable[[list[str]], int]) -> None:
    """Runs ``main(argv)`` and exits with its code; bad input is one line and exit 2."""
    logging.basicConfig(format="%(levelname)s: %(message)s", level=logging.WARNING)
    try:
        code = main(sys.argv[1:])
        sys.stdout.flush()
    except InputError as error:
        for line in error.lines if isinstance(error, ReportError) else ():
            print(line, file=sys.stderr)
        code = _fail(error, BAD_INPUT)
    except (WorkdirBusy, NoGoodStepError) as error:
        code = _fail(error, SOME_FAILED)
    except KeyboardInterrupt:  # before there is anything to save
        code = 128 + signal.SIGINT
    except BrokenPipeError:  # the reader, `head` for one, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 128 + signal.SIGPIPE
    except OSError as error:
        code = _fail(f"{error.strerror or error}: '{error.filename}'", SOME_FAILED)
    sys.exit(code)


def _fail(error, code: int) -> int:
    print(f"error: {error}", file=sys.stderr)
    return code


def parse(parser: Parser, argv: list[str]) -> tuple[argparse.Namespace, list[tuple[str, str]]]:
    """The known flags, and the overrides ``--config.path=value`` in order."""
    args, rest = parser.parse_known_args(argv)
    flags = [name for name in parser._option_string_actions if name.startswith("--")]
    overrides = []
    for item in rest:
        name, equals, value = item.partition("=")
        if name.startswith("--config.") and equals:
            overrides.append((name.removeprefix("--config."), value))
        elif name.startswith("--config."):
            raise InputError(f"'{item}' needs a value: {item}=VALUE")
        elif not item.startswith("-"):
            dashes = f"; did you mean --{item}?" if name.startswith("config") else ""
            raise InputError(f"unexpected argument '{item}'{dashes}")
        else:
            raise InputError(f"unknown flag '{name}'{nearest(name, [*flags, '--config.KEY'])}")
    return args, overrides


def parse_flags(parser: Parser, argv: list[str]) -> argparse.Namespace:
    """The known flags of a command on a workdir, which has its config."""
    args, overrides = parse(parser, argv)
    if overrides:
        raise InputError(f"unknown flag '--config.{overrides[0][0]}': the workdir has its config")
    return args


def load(spec: str, overrides: list[tuple[str, str]]) -> tuple[ConfigDict, Ablation]:
    """The config file with its overrides applied, and what it means."""
    config = load_config(spec)
    add_defaults(config)
    for path, value in overrides:
        apply_override(config, path, value)
    return config, resolve(config)


def page_of_workdirs(
    program: str, doc: str, argv: list[str], make: Callable[[list[str]], Iterable[str]]
) -> int:
    """A command that writes the lines ``make`` returns for workdirs, into a file or to stdout."""
    parser = Parser(prog=program, description=doc)
    parser.add_argument("workdirs", nargs="+", metavar="WORKDIR")
    parser.add_argument("--into", help="the file to write")
    args = parser.parse_args(argv)
    page = "\n".join(make(args.workdirs)) + "\n"
    if args.into:
        write_atomic(args.into, page)
    else:
        sys.stdout.write(page)
    return 0


def command(program: str, argv: list[str], also: tuple[str, ...] = ()) -> str:
    """What people type for a table: the config and its overrides, without paths of a machine.

    ``also`` are other flags that the table depends on.
    """
    kept = [arg for arg in argv if arg.startswith(("--config", *(f"{flag}=" for flag in also)))]
    return shlex.join(["python", "-m", program, *kept])


def interrupted(stop: StopSignals) -> int:
    """Says how to go on after a signal; returns the exit code."""
    print("interrupted: the same command goes on from here", file=sys.stderr)
    return stop.exit_code


def use_compilation_cache() -> Store:
    """Keeps compiled programs between launches, in folders that nobody else can write to."""
    import jax

    base = os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")
    base = Path(os.environ.get("MMFUSE_CACHE", base)) / "mmfuse"
    if jax.config.jax_compilation_cache_dir is None:
        folder = _own_folder(base / "xla")
        if folder is None:
            return Store()
        jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
    return Store(_own_folder(base / "rows"))


def _own_folder(folder: Path) -> Path | None:
    """The folder, made if need be; None, with a warning, if others could put something there."""
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        status = folder.stat()
    except OSError as error:
        logging.warning("no compilation cache: %s", error)
        return None
    if status.st_uid != os.getuid() or status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        logging.warning("no compilation cache: '%s' can be written by others", folder)
        return None
    return folder


class StopSignals:
    """Remembers the first SIGINT or SIGTERM; the second one ends the program at once.

    Several processes ask at the same step, and all stop where one of them has received a signal.
    """

    def __init__(self):
        self.received = self.agreed = 0
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._receive)

    def _receive(self, number: int, _frame) -> None:
        self.received = number
        name = signal.Signals(number).name
        print(f"{name}: saving; once more to leave at once", file=sys.stderr, flush=True)
        signal.signal(number, signal.SIG_DFL)

    def __call__(self) -> bool:
        self.agreed = largest(self.received)
        return bool(self.agreed)

    @property
    def exit_code(self) -> int:
        """130 for SIGINT, 143 for SIGTERM."""
        return 128 + self.agreed
