"""Which group goes to which split.

Groups are drawn in an order that the seed and their letters give, those first that touch the task with the largest share
outside train: its places would be taken by others' groups. A group goes to test while every task and label it
touches still has places there, then to dev, else to train. A group may take at most a tenth of a split's places of any
task or label in the first round; what is short after that takes what fits whole in a second. So a group that is larger
than a split goes to train, and a task that is one group has no test set: it is named, never filled up from elsewhere.
"""

import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from data_convert.splits.grouping import Policy
from data_convert.splits.pool import DEV, SPLITS, TEST, TRAIN, Ints, Pool, pair_inputs
from data_convert.splits.union import Parents

LEAST_ROWS = 20
"""A label with fewer records in all is not balanced on its own."""
ROUNDS = (0.1, 1.0)
"""Largest share of a split's places that one group may take."""
SHORT = 0.9
"""A split below this share of the official one is named."""
MIXED = "its inputs belong to different splits"
TURNED = "the reverse complement of a record that left train"


@dataclass(frozen=True)
class Split:
    """A leak-controlled split."""

    split: Ints
    """[records] 0 train, 1 dev, 2 test, -1 left out."""
    group: Ints
    """[nodes] The group of each node: its smallest member."""
    notes: dict[str, list[str]]
    """Task -> what must be said."""
    report: list[dict[str, Any]]
    """Per task: sizes and class balance before and after, groups, the share of the largest."""


def leak_controlled(pool: Pool, cluster: Ints, policy: Policy, seed: int) -> Split:
    """A split in which no group stands on two sides.

    Args:
        cluster: [nodes] clusters of near duplicates, containment included.
        policy: `join`: the inputs of a record are one group. `unseen`: they are not; a record whose inputs fall on different
            sides is left out.
    """
    parents = Parents(pool.nodes)
    parents.join(np.stack([cluster, np.arange(pool.nodes)], axis=1))
    if policy == "join":
        first = pool.node[pool.sides[:-1]]
        parents.join(np.stack([first[pool.side_record], pool.node], axis=1))
    group = parents.roots()
    item_group, item_stratum, targets = _items(pool, group, policy)
    order = _order(pool, group, seed)
    urgent = np.zeros(pool.nodes)
    np.maximum.at(urgent, item_group, np.round(1 - targets[TRAIN] / targets.sum(axis=0).clip(1), 2)[item_stratum])
    order = order[np.argsort(-urgent[order], kind="stable")]
    side_of = _draw(group, item_group, item_stratum, targets, order)
    sides = side_of[group[pool.node]]
    first, owner = sides[pool.sides[:-1]], pool.side_record
    mixed = np.zeros(len(pool.task), dtype=bool)
    mixed[owner[sides != first[owner]]] = True
    split = np.where(mixed | (pool.turned & (first != TRAIN)), -1, first)  # evaluation asks once
    report = [_report(pool, place, split, group) for place in range(len(pool.cards))]
    return Split(split, group, {row["task"]: _notes(row) for row in report}, report)


def _items(pool: Pool, group: Ints, policy: Policy) -> tuple[Ints, Ints, Ints]:
    """(group, stratum) of what is counted, and the places of each stratum in train, dev and test [3, strata].

    Records are counted, by task and label, and not again as their reverse complements. Under `unseen` the records of a pair task
    are drawn by their sequences, whose shares are as the roots of the records' shares: a pair is in test when both its sequences are.
    """
    tasks = len(pool.cards)
    once = ~pool.turned
    official = np.stack([np.bincount(pool.task[once & (pool.split == side)], minlength=tasks) for side in (TRAIN, DEV, TEST)])
    shares = official / official.sum(axis=0).clip(1)
    by_sequence = np.array(pair_inputs(pool.cards)) & (policy == "unseen")
    classes = np.array([card.answers.one_label for card in pool.cards])
    # stratum: task and label, or the task alone
    records = np.flatnonzero(once & ~by_sequence[pool.task])
    label = np.where(classes[pool.task], pool.label + 1, 0)
    packed = pool.task * (len(pool.labels) + 1) + label
    rows = np.bincount(packed)
    packed = np.where(rows[packed] < LEAST_ROWS, pool.task * (len(pool.labels) + 1), packed)
    groups, strata = group[pool.node[pool.sides[records]]], packed[records]
    side_records = np.flatnonzero(by_sequence[pool.task[pool.side_record]])
    if len(side_records):
        both = np.unique(np.stack([pool.node[side_records], pool.task[pool.side_record[side_records]]], axis=1), axis=0)
        groups = np.concatenate([groups, group[both[:, 0]]])
        strata = np.concatenate([strata, both[:, 1] * (len(pool.labels) + 1)])
        roots = np.sqrt(shares)
        shares = np.where(by_sequence, roots / roots.sum(axis=0).clip(1e-9), shares)
    names, stratum = np.unique(strata, return_inverse=True)
    places = np.rint(shares[:, names // (len(pool.labels) + 1)] * np.bincount(stratum)).astype(np.int64)
    return groups, stratum.astype(np.int64), places


def _order(pool: Pool, group: Ints, seed: int) -> Ints:
    """Groups by a hash of the seed and the letters of their first node: the rest of the data does not move it."""
    roots = np.unique(group)
    keys = []
    for space in pool.spaces:
        mine = roots[(roots >= space.first) & (roots < space.first + len(space))] - space.first
        for row in mine.tolist():
            letters = space.codes[space.starts[row] : space.starts[row + 1]].tobytes()
            keys.append(
                hashlib.blake2b(
                    letters, digest_size=8, salt=seed.to_bytes(8, "little", signed=True), person=space.alphabet.name.encode()
                ).digest()
            )
    return roots[np.argsort(np.frombuffer(b"".join(keys), dtype=">u8"), kind="stable")]


def _draw(group: Ints, item_group: Ints, item_stratum: Ints, places: Ints, order: Ints) -> Ints:
    """[nodes] The split of each group, by the number of the group; other entries are of no meaning."""
    packed, counts = np.unique(item_group * places.shape[1] + item_stratum, return_counts=True)
    begins = np.searchsorted(packed // places.shape[1], np.arange(len(group) + 1))
    side_of = np.full(len(group), TRAIN, dtype=np.int64)
    _fill(order, begins, packed % places.shape[1], counts, places.copy(), np.array(ROUNDS), side_of)
    return side_of


@njit(cache=True, nogil=True)
def _fill(order, begins, strata, counts, places, rounds, side_of):
    left = places.copy()
    for limit in rounds:
        for group in order:
            if side_of[group] != 0:
                continue
            for side in (2, 1):
                fits = begins[group] < begins[group + 1]
                for row in range(begins[group], begins[group + 1]):
                    most = max(1.0, limit * places[side, strata[row]])
                    if counts[row] > left[side, strata[row]] or counts[row] > most:
                        fits = False
                        break
                if fits:
                    for row in range(begins[group], begins[group + 1]):
                        left[side, strata[row]] -= counts[row]
                    side_of[group] = side
                    break


def _report(pool: Pool, place: int, split: Ints, group: Ints) -> dict[str, Any]:
    mine = np.flatnonzero(pool.task == place)
    own = group[pool.node[pool.sides[mine]]]  # of the first input; under `join` of all
    _, sizes = np.unique(own, return_counts=True)
    card = pool.cards[place]

    def count(of: Ints, side: int) -> int:
        return int((of[mine] == side).sum())

    def balance(of: Ints, side: int) -> dict[str, int] | None:
        if not card.answers.one_label:
            return None
        labels, counts = np.unique(pool.label[mine][of[mine] == side], return_counts=True)
        return {pool.labels[label].strip('"'): int(number) for label, number in zip(labels, counts, strict=True)}

    return {
        "task": card.id,
        "official": {name: count(pool.split, side) for side, name in enumerate(SPLITS)},
        "leak_controlled": {name: count(split, side) for side, name in enumerate(SPLITS)},
        "left_out": count(split, -1),
        "left_out_turned": int((pool.turned[mine] & (split[mine] < 0)).sum()),
        "balance": {
            name: {"official": balance(pool.split, side), "leak_controlled": balance(split, side)} for side, name in enumerate(SPLITS)
        },
        "groups": len(sizes),
        "largest_group": int(sizes.max(initial=0)) / max(1, len(mine)),
    }


def _notes(row: dict[str, Any]) -> list[str]:
    notes = []
    for name in ("dev", "test"):
        before, now = row["official"][name], row["leak_controlled"][name]
        if before and not now:
            notes.append(
                f"cannot be split: no {name} record is free of kin in train (largest group {row['largest_group']:.1%} of the task)"
            )
        elif now < SHORT * before:
            why = "" if row["left_out"] else ": no other group fits"
            notes.append(f"{name} has {now:,} of the official {before:,} records{why}")
    turned = row["left_out_turned"]
    notes += [f"{n:,} records are left out: {why}" for n, why in ((row["left_out"] - turned, MIXED), (turned, TURNED)) if n]
    return notes


def crossing(pool: Pool, split: Split) -> NDArray[np.bool_]:
    """[nodes] Whether a group stands on two sides; none does, which `rewrite` checks before it writes."""
    owner = pool.side_record
    kept = split.split[owner] >= 0
    both = np.unique(np.stack([split.group[pool.node[kept]], split.split[owner[kept]]], axis=1), axis=0)
    groups, sides = np.unique(both[:, 0], return_counts=True)
    return np.isin(split.group, groups[sides > 1])
