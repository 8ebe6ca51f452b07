"""The majority, which never reads the sequence, and the nearest neighbour: that of the training record most alike.

What a homology search knows, and on UniProt-style text more than fine-tuned language models do (RAPM, arXiv 2505.20354). The
search is that of the split audit, both strands of DNA, or MMseqs2. Where nothing alike is found, the answer is the most
frequent one of train, or the mean: the majority baseline. Of a pair, the mean identity of both members counts, each with its own
of the training pair.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from data_convert.splits.mmseqs import mmseqs_hits
from data_convert.splits.near import hits
from data_convert.splits.pool import Ints, Space, space_of
from eval.baselines.split import Record, Task, classified, predicted
from sequences.alphabets import DNA, PROTEIN, reverse_complement

MOST_ITEMS = 100
"""Items that are scored; rarer ones never decide Fmax."""


def majority(task: Task) -> Iterator[Record]:
    """What the labels of train alone are worth: the most frequent class with log class frequencies (each count plus one), the mean, or
    the most frequent text or set.

    Ties between texts, and between sets, go to the one met first. Items of sets are scored by their share of the train records,
    CAFA's naive method.
    """
    if task.answers.one_label:
        counts = np.bincount(task.codes(task.train), minlength=len(task.choices)) + 1
        return classified(task, np.tile(np.log(counts / counts.sum()), (len(task.test), 1)))
    labels = [record["label"] for record in task.train]
    constants = [task.answers.typical(labels)] * len(task.test)
    if not task.answers.several:
        return predicted(task, constants)
    items = Counter(item for label in labels for item in dict.fromkeys(label))  # in their order: that of a set is another in each process
    shares = {item: times / len(labels) for item, times in items.most_common(MOST_ITEMS)}
    return predicted(task, constants, [shares] * len(task.test))


Search = Callable[[Space, Ints, Ints], list[dict[int, float]]]
"""(space, queries, targets) -> target -> identity, of each query."""
SEARCHES: dict[str, Search] = {"builtin": hits, "mmseqs": mmseqs_hits}


def nearest(task: Task, search: str = "builtin") -> Iterator[Record]:
    """Predictions, each with `nearest`: the training record and the identity, or null where nothing alike was found.

    Equally alike records: the answer that most of them have; then the first.
    """
    sides = [_hits(task, place, SEARCHES[search]) for place in range(len(task.test[0]["inputs"]))]
    fallback = [line["predicted"] for line in majority(task)]
    best = [_best([side[place] for side in sides]) for place in range(len(task.test))]
    values = [fallback[place] if not rows else _answer(task, rows) for place, (rows, _) in enumerate(best)]
    scores = None
    if task.answers.several:  # an item is as likely as its bearer is near
        scores = [dict.fromkeys(value, identity or 0.0) for value, (_, identity) in zip(values, best, strict=True)]
    for line, (rows, identity) in zip(predicted(task, values, scores), best, strict=True):
        yield {**line, "nearest": {"id": task.train[rows[0]]["id"], "identity": round(identity, 4)} if rows else None}


def _hits(task: Task, place: int, search: Search) -> list[dict[int, float]]:
    """Train record -> identity of its input at this place, for each test record."""
    alphabet = PROTEIN if task.test[0]["inputs"][place]["modality"] == "protein" else DNA
    train, test = ([_key(record, place) for record in records] for records in (task.train, task.test))
    number: dict[bytes, int] = {}
    for letters in [*train, *test]:
        number.setdefault(letters, len(number))
    space, rank = space_of(alphabet, number, 0)
    bearers: dict[int, list[int]] = defaultdict(list)
    for row, letters in enumerate(train):
        bearers[int(rank[number[letters]])].append(row)
    queries = np.unique([rank[number[letters]] for letters in test])
    found = dict(zip(queries.tolist(), search(space, queries, np.array(sorted(bearers))), strict=True))
    of_test = [found[int(rank[number[letters]])] for letters in test]
    return [{row: identity for node, identity in own.items() for row in bearers[node]} for own in of_test]


def _key(record: Record, place: int) -> bytes:
    """Letters of one input; DNA and RNA on whichever strand reads first."""
    item = record["inputs"][place]
    letters = item["letters"].upper()
    if item["modality"] == "protein":
        return letters.encode()
    letters = letters.replace("U", "T")
    return min(letters, reverse_complement(letters)).encode()


def _best(sides: Sequence[dict[int, float]]) -> tuple[list[int], float]:
    """The training records most alike over all inputs, and their mean identity."""
    total: dict[int, float] = defaultdict(float)
    for side in sides:
        for row, identity in side.items():
            total[row] += identity / len(sides)
    if not total:
        return [], 0.0
    most = max(total.values())
    return sorted(row for row, identity in total.items() if identity > most - 1e-9), most


def _answer(task: Task, rows: list[int]):
    labels = [task.train[row]["label"] for row in rows]
    return labels[0] if task.answers.several else task.answers.typical(labels)
