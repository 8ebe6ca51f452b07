"""Leakage between two splits, counted: for every pair of tasks, how many records of the one have a twin in the other.

Classes of twins, each counted on its own: `exact`, `reverse_complement` (DNA and RNA only; a sequence that is its own
reverse complement counts as exact), `containment` (a shorter in a longer, either way round, either strand), and `cluster`
(same cluster of near duplicates; it includes the others).

Records with two inputs are counted per input, and as a pair: both inputs have a twin in the same training record, in
either order.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data_convert.splits.pool import DEV, SPLITS, TEST, TRAIN, Ints, Pool, matches, pair_inputs

CLASSES = ("exact", "reverse_complement", "containment", "cluster")
PAIR = "pair"
ANY = "any task"


@dataclass(frozen=True)
class Twins:
    """How a class finds twins: a side's keys, and the key under which every side is known."""

    side: Ints
    key: Ints
    """The keys under which side `side` is sought."""
    counts: NDArray[np.bool_]
    """Whether such a match alone is of the class; pairs also need the matches that are not."""
    known: Ints
    """[sides]"""


def twins(pool: Pool, contained: Ints, cluster: Ints) -> dict[str, Twins]:
    """Class -> how it finds twins.

    Args:
        contained: [places, 4] of `contain.contained`.
        cluster: [nodes].
    """
    every, yes = np.arange(len(pool.node)), np.ones(len(pool.node), dtype=bool)
    spelling = 2 * pool.node + pool.strand
    dna = pool.node < len(pool.spaces[0])
    turned = np.flatnonzero(dna)
    either = np.unique(np.concatenate([contained[:, :2], contained[:, 1::-1]]), axis=0)
    row, place = matches(either[:, 0], pool.node)

    def beside(known: Ints, side: Ints, key: Ints) -> Twins:
        """All sides by the key under which they are known, which alone is no match of the class, and some by another."""
        counts = np.concatenate([~yes, np.ones(len(side), dtype=bool)])
        return Twins(np.concatenate([every, side]), np.concatenate([known, key]), counts, known)

    return {
        "exact": Twins(every, spelling, yes, spelling),
        "reverse_complement": beside(spelling, turned, spelling[turned] ^ 1),
        "containment": beside(pool.node, row, either[place, 1]),
        "cluster": Twins(every, cluster[pool.node], yes, cluster[pool.node]),
    }


def leakage(pool: Pool, split: Ints, ways: dict[str, Twins], tested: int, against: int = TRAIN) -> list[dict[str, Any]]:
    """One row per task of split `tested`, input of it, and task of split `against` with a twin; and a row over all tasks.

    Args:
        split: [records] the split to be judged, -1 where a record was left out.

    Returns:
        rows with test_task, input, train_task, n (records of the test task), and per class `records` (with a twin),
        `compared` (those whose labels can be compared: same task, or the same label names) and `equal` (those whose
        label is the one that most of the twins bear; of k labels that tie, the right one counts 1/k).
    """
    comparable = comparable_tasks(pool)
    pairs = np.array(pair_inputs(pool.cards))
    owner = pool.side_record
    found: dict[tuple[int, str, int], dict[str, Any]] = {}
    for name, way in ways.items():
        wanted = (split[owner[way.side]] == tested) & way.counts
        side, key = way.side[wanted], way.key[wanted]
        known = np.flatnonzero(split[owner] == against)
        inputs = side - pool.sides[owner[side]]
        for number in np.unique(inputs):
            mine = inputs == number
            hits = joined(owner[side[mine]], key[mine], way.known[known], pool.task[owner[known]], pool.label[owner[known]])
            _tally(pool, found, name, int(number), hits, comparable, pairs)
        hits = joined(*_pair_keys(pool, split, way, pairs, tested, against))
        _tally(pool, found, name, None, hits, comparable, pairs)
    totals = np.bincount(pool.task[split == tested], minlength=len(pool.cards))
    rows = []
    for (test_task, place, train_task), classes in sorted(found.items(), key=lambda item: (item[0][0], item[0][1], item[0][2])):
        train_name = pool.cards[train_task].id if train_task >= 0 else ANY
        counts = {name: classes.get(name, {"records": 0, "compared": 0, "equal": 0}) for name in CLASSES}
        rows.append(
            {"test_task": pool.cards[test_task].id, "input": place, "train_task": train_name, "n": int(totals[test_task]), **counts}
        )
    return rows


def summary(pool: Pool, split: Ints, ways: dict[str, Twins]) -> dict[str, list[dict[str, Any]]]:
    """Leakage of test and dev against train, and of test against dev."""
    return {f"{SPLITS[a]} against {SPLITS[b]}": leakage(pool, split, ways, a, b) for a, b in ((TEST, TRAIN), (DEV, TRAIN), (TEST, DEV))}


@dataclass(frozen=True)
class Hits:
    """The label that most twins of a test record in a task bear; where several tie, a row for each."""

    record: Ints
    task: Ints
    label: Ints
    weight: NDArray[np.float64]
    """The rows of a record and task add up to 1."""


def joined(record: Ints, key: Ints, known: Ints, task: Ints, label: Ints) -> Hits:
    """Join test keys with the keys of training; twins of a record in a task are taken together."""
    if not len(record) or not len(known):
        none = np.zeros(0, dtype=np.int64)
        return Hits(none, none, none, np.zeros(0))
    tasks, labels = int(task.max()) + 1, int(label.max()) + 1
    packed, times = np.unique((known * tasks + task) * labels + label, return_counts=True)
    keys = packed // labels // tasks
    row, place = matches(keys, key)
    # (record, task, label) with the number of twins; a record may reach a train record by more than one key, never with the same one
    together, inverse = np.unique(record[row] * (tasks * labels) + packed[place] % (tasks * labels), return_inverse=True)
    if not len(together):
        return joined(record[:0], key, known, task, label)
    counts = np.bincount(inverse, weights=times[place])
    group, label_of = together // labels, together % labels
    first = np.flatnonzero(np.diff(group, prepend=-1))
    of = np.repeat(np.arange(len(first)), np.diff(first, append=len(group)))
    most = counts == np.maximum.reduceat(counts, first)[of]
    weight = 1 / np.add.reduceat(most.astype(np.int64), first)[of]
    return Hits(group[most] // tasks, group[most] % tasks, label_of[most], weight[most])


def _tally(
    pool: Pool, found: dict, name: str, number: int | None, hits: Hits, comparable: NDArray[np.bool_], pairs: NDArray[np.bool_]
) -> None:
    """Add the counts of one class and one input to the rows."""
    test_task = pool.task[hits.record]
    for task in np.unique(test_task):
        card = pool.cards[task]
        place = PAIR if number is None else card.inputs[number].name if number < len(card.inputs) else str(number)
        mine = test_task == task
        labelled = number is None or not pairs[task]  # of a pair, one input does not tell the label
        for other in [-1, *np.unique(hits.task[mine]).tolist()]:
            here = mine & (hits.task == other) if other >= 0 else mine
            compared = here & comparable[task, hits.task] if labelled and other >= 0 else np.zeros(len(here), dtype=bool)
            equal = compared & (hits.label == pool.label[hits.record])
            found.setdefault((int(task), place, int(other)), {})[name] = {
                "records": len(np.unique(hits.record[here])),
                "compared": round(float(hits.weight[compared].sum())),
                "equal": round(float(hits.weight[equal].sum()), 1),
            }


def comparable_tasks(pool: Pool) -> NDArray[np.bool_]:
    """[tasks, tasks] Same task, or two classification tasks with the same label names."""
    names = [frozenset(label.name for label in card.labels.values()) if card.answers.one_label else None for card in pool.cards]
    return np.array([[i == j or (a is not None and a == b) for j, b in enumerate(names)] for i, a in enumerate(names)], dtype=bool)


def _pair_keys(
    pool: Pool, split: Ints, way: Twins, pairs: NDArray[np.bool_], tested: int, against: int
) -> tuple[Ints, Ints, Ints, Ints, Ints]:
    """The arguments of `joined` for pairs: (test record, its pairs of keys) and the pairs of training."""
    whole = pairs[pool.task] & (np.diff(pool.sides) == 2)
    records = np.flatnonzero(whole & (split == tested))
    order = np.argsort(way.side, kind="stable")
    side, key, counts = way.side[order], way.key[order], way.counts[order]
    # every key of the first input with every key of the second
    row, first = matches(side, pool.sides[records])
    again, second = matches(side, pool.sides[records[row]] + 1)
    row, first = row[again], first[again]
    kept = counts[first] | counts[second]
    row, first, second = row[kept], first[kept], second[kept]
    base = int(max(way.key.max(initial=0), way.known.max(initial=0))) + 1
    trained = np.flatnonzero(whole & (split == against))
    known = _unordered(way.known[pool.sides[trained]], way.known[pool.sides[trained] + 1], base)
    both = np.unique(np.stack([records[row], _unordered(key[first], key[second], base)], axis=1), axis=0)
    return both[:, 0], both[:, 1], known, pool.task[trained], pool.label[trained]


def _unordered(a: Ints, b: Ints, base: int) -> Ints:
    return np.minimum(a, b) * base + np.maximum(a, b)
