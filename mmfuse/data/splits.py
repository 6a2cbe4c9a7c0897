"""How examples are divided where upstream does not: seeded, stratified, repeats together."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np


def stratified(
    labels: np.ndarray,
    shares: dict[str, float],
    seed: int,
    groups: np.ndarray | None = None,
) -> np.ndarray:
    """Draws a split for every example, class by class, whole groups at a time.

    The groups of a class (that of a group's first example) are shuffled and laid end to end; the
    split of a group is the share in which its first example falls. Without groups every class is
    cut at exactly ``rint(cumulative share * examples of the class)``.

    Args:
      labels: [N].
      shares: {split: its share of every class}; they sum to 1.
      seed: of the shuffle.
      groups: [N], equal where examples must stay together; None = each on its own.

    Returns:
      [N] names of splits.
    """
    groups = np.arange(len(labels)) if groups is None else groups
    _, first, group = np.unique(groups, return_index=True, return_inverse=True)
    sizes, kinds = np.bincount(group), np.asarray(labels)[first]
    order = np.random.default_rng(seed).permutation(len(first))
    chosen = np.empty(len(first), int)
    for kind in np.unique(kinds):
        members = order[kinds[order] == kind]
        ends = np.cumsum(sizes[members])
        cuts = np.rint(np.cumsum(list(shares.values())) * ends[-1])
        chosen[members] = np.searchsorted(cuts[:-1], ends - sizes[members], side="right")
    return np.array(list(shares))[chosen[group]]


def duplicate_groups(*columns: Sequence[Hashable]) -> np.ndarray:
    """Numbers groups [N]: examples that agree in any column share one, also through others.

    Groups are numbered in order of their first example.
    """
    leader = list(range(len(columns[0])))

    def find(i: int) -> int:
        while leader[i] != i:
            leader[i] = leader[leader[i]]
            i = leader[i]
        return i

    for column in columns:
        seen: dict[Hashable, int] = {}
        for i, value in enumerate(column):
            a, b = find(seen.setdefault(value, i)), find(i)
            leader[max(a, b)] = min(a, b)
    return np.unique([find(i) for i in range(len(leader))], return_inverse=True)[1]
