"""Containment in register: two tasks whose windows are laid around the same sites, so that one stands in the other at one offset.

GUE's core promoters (70 bases) stand at index 216 of its promoters (300 bases); copying their labels answers four fifths
of that test set. Contained sequences elsewhere, repeats mostly, say less about the label.
"""

from typing import Any

import numpy as np

from data_convert.splits.leakage import comparable_tasks, joined
from data_convert.splits.pool import TEST, TRAIN, Ints, Pool, matches, pair_inputs

SLACK = 12
"""Letters on either side of the commonest offset."""


def in_register(pool: Pool, split: Ints, contained: Ints, tested: int = TEST, against: int = TRAIN) -> list[dict[str, Any]]:
    """Per (test task, train task) of one input each with containment on the same strand: the commonest offset, and what stands there.

    Args:
        contained: [places, 4] of `contain.contained`.

    Returns:
        rows with test_task, train_task, `longer` (test or train), `offset` (0-based, in the longer), `records` (test records with
        a twin at most SLACK letters from it), n, `compared` and `equal` as in `leakage.leakage`.
    """
    single = ~np.array(pair_inputs(pool.cards))
    owner, lengths = pool.side_record, pool.lengths
    of_test = np.flatnonzero((split[owner] == tested) & single[pool.task[owner]])
    of_train = np.flatnonzero((split[owner] == against) & single[pool.task[owner]])
    parts = []
    for longer in (0, 1):  # 1: the training sequence
        mine, other = contained[:, 1 - longer], contained[:, longer]
        place, test_side = _sides(mine, of_test, pool.node)
        again, train_side = _sides(other[place], of_train, pool.node)
        place, test_side = place[again], test_side[again]
        kept = contained[place, 3] ^ pool.strand[test_side] ^ pool.strand[train_side] == 0
        place, test_side, train_side = place[kept], test_side[kept], train_side[kept]
        spare = lengths[contained[place, 1]] - lengths[contained[place, 0]]
        turned = pool.strand[train_side if longer else test_side] == 1
        offset = np.where(turned, spare - contained[place, 2], contained[place, 2])
        parts.append(np.stack([owner[test_side], owner[train_side], np.full(len(place), longer), offset], axis=1))
    rows = np.concatenate(parts)
    comparable = comparable_tasks(pool)
    tasks, counts, found = len(pool.cards), np.bincount(pool.task[split == tested], minlength=len(pool.cards)), []
    kinds = pool.task[rows[:, 0]] * tasks + pool.task[rows[:, 1]]
    for kind in np.unique(kinds):
        test_task, train_task = divmod(int(kind), tasks)
        here = rows[kinds == kind]
        (values, times) = np.unique(here[:, 2:], axis=0, return_counts=True)
        longer, offset = values[times.argmax()]
        here = here[(here[:, 2] == longer) & (abs(here[:, 3] - offset) <= SLACK)]
        # a record is its own key here
        hits = joined(here[:, 0], np.arange(len(here)), np.arange(len(here)), pool.task[here[:, 1]], pool.label[here[:, 1]])
        equal = (hits.label == pool.label[hits.record]) & comparable[test_task, train_task]
        found.append(
            {
                "test_task": pool.cards[test_task].id,
                "train_task": pool.cards[train_task].id,
                "longer": "train" if longer else "test",
                "offset": int(offset),
                "n": int(counts[test_task]),
                "records": len(np.unique(hits.record)),
                "compared": len(np.unique(hits.record)) if comparable[test_task, train_task] else 0,
                "equal": round(float(hits.weight[equal].sum()), 1),
            }
        )
    return found


def _sides(nodes: Ints, sides: Ints, node: Ints) -> tuple[Ints, Ints]:
    """(place, side) for every side among `sides` that holds nodes[place]."""
    order = sides[np.argsort(node[sides], kind="stable")]
    place, at = matches(node[order], nodes)
    return place, order[at]
