"""Dev and test of a task's own, cut from its train rows so that no cluster stands on two sides: `group` of `convert tasks`."""

from __future__ import annotations

from collections.abc import Iterable

from data_convert.splits.assign import Split
from data_convert.splits.audit import clusters, mended
from data_convert.splits.grouping import Grouping
from data_convert.splits.pool import SPLITS, Ints, pool_of
from data_convert.tasks.cards import TaskCard
from data_convert.tasks.examples import Example


def grouped_split(card: TaskCard, examples: Iterable[Example], split: Ints, how: Grouping, seed: int) -> Split:
    """A leak-controlled split of the rows of one file.

    Args:
        split: [rows] 0 train, 1 dev, 2 test: the sizes and the balance of classes that the result follows.
    """
    modality = {item.name: item.modality for item in card.inputs}
    records = (
        (
            example.row,
            {
                "id": str(number),
                "task": card.id,
                "split": SPLITS[side],
                "label": example.label,
                "inputs": [{"name": name, "modality": modality[name], "letters": letters} for name, letters in example.inputs.items()],
            },
        )
        for number, (example, side) in enumerate(zip(examples, split.tolist(), strict=True))
    )
    pool = pool_of([card], records)
    return mended(pool, clusters(pool, how)[1], how, seed)[1]
