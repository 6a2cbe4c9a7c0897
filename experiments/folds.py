"""Trains an ablation fold by fold, each in a workdir of its own below that of the pooled table."""

from __future__ import annotations

import contextlib
import io
import sys
from collections.abc import Callable

from experiments import cli
from mmfuse import processes
from mmfuse.ablation import Ablation
from mmfuse.folds import each_fold, pool
from mmfuse.workdir import Workdir, check_workdir, open_workdir


def train(
    ablation: Ablation, path: str, train_fold: Callable[[Ablation, str], int], command: str
) -> int:
    """Trains every fold by ``train_fold(its ablation, its workdir)``, then pools their records.

    What is finished is not trained again. Folds' own tables are in their workdirs and not printed.
    Returns the highest exit code of the folds, or that of the first that was interrupted.
    """
    facts = {"baseline": ablation.baseline, "conditions": ablation.conditions}
    facts |= {"command": command, "baselines": ablation.baselines}
    code, found, identity = 0, {}, ablation.identity()
    processes.told(lambda: check_workdir(path, identity))
    folds = each_fold(ablation)
    for name, fold in folds.items():
        found[name] = Workdir(path).fold(name)
        with contextlib.redirect_stdout(io.StringIO()):
            code = max(code, train_fold(fold, str(found[name].path)))
        if code > cli.SOME_FAILED:
            return code
        print(f"fold {name}: {len(found)} of {len(folds)} done", file=sys.stderr, flush=True)
    with contextlib.ExitStack() as held:
        workdir = processes.told(lambda: held.enter_context(open_workdir(path, identity, **facts)))
        processes.told(lambda: pool(ablation, workdir, found))
    return code
