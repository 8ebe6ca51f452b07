"""All sequences of one or several records folders, each distinct one once, and which record holds which.

A *node* is a distinct sequence: DNA and RNA (as T) on whichever strand reads first, so that a sequence and its reverse
complement are one node; a protein as it is. Nodes are numbered DNA first, longest first, then by letters: the numbers
depend on the sequences alone, never on the order of the rows.

Memory: the letters of each distinct sequence twice while reading, once afterwards; about 20 bytes per record.
"""

import itertools
import json
from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from artefacts.errors import UserError, at
from artefacts.folder import parsed_json
from data_convert.tasks.cards import TaskCard, read_cards
from data_convert.tasks.kinds import is_text
from data_convert.tasks.mixing import SPLITS
from data_convert.tasks.records import REVERSED, problem_of_inputs
from sequences.alphabets import COMPLEMENT, DNA, NUCLEOTIDES, PROTEIN, RESIDUES, Alphabet

TRAIN, DEV, TEST = range(3)
Ints = NDArray[np.int64]
_COMPLEMENT = bytes(COMPLEMENT.get(code, code) for code in range(256))
_TEXTS = "id", "task", "split"
_FIELDS = (*_TEXTS, "label", "inputs")


@dataclass(frozen=True)
class Space:
    """Distinct sequences of one alphabet."""

    alphabet: Alphabet
    first: int
    """Number of its first node."""
    codes: NDArray[np.uint8]
    """[letters] Places in the alphabet, all sequences one after the other."""
    starts: Ints
    """[nodes + 1]"""

    def __len__(self) -> int:
        return len(self.starts) - 1

    @property
    def lengths(self) -> Ints:
        return np.diff(self.starts)

    def letters(self, node: int) -> str:
        """Letters of a node, by its number in the pool."""
        row = node - self.first
        return "".join(self.alphabet.letters[code] for code in self.codes[self.starts[row] : self.starts[row + 1]])


@dataclass(frozen=True)
class Pool:
    """Records folders as arrays. Records are numbered train, dev, test, each file from its top, folder after folder; those without a
    sequence have no number."""

    cards: list[TaskCard]
    spaces: list[Space]
    task: Ints
    """[records] Place in `cards`."""
    split: Ints
    """[records] 0 train, 1 dev, 2 test."""
    label: Ints
    """[records] Place in `labels`."""
    labels: list[str]
    """Distinct labels as JSON; a list of labels is sorted."""
    sides: Ints
    """[records + 1] Number of each record's first side (input)."""
    node: Ints
    """[sides] The sequence."""
    strand: Ints
    """[sides] 1 where the record holds the node's reverse complement."""
    turned: NDArray[np.bool_]
    """[records] Whether the conversion added it to train as the reverse complement of another record."""
    plain: dict[str, dict[str, int]]
    """Task -> split -> records without a sequence, which are counted and set aside; tasks that have some."""

    @property
    def nodes(self) -> int:
        return sum(len(space) for space in self.spaces)

    @property
    def side_record(self) -> Ints:
        """[sides] The record of each side."""
        return np.repeat(np.arange(len(self.task)), np.diff(self.sides))

    @property
    def lengths(self) -> Ints:
        """[nodes] Letters."""
        return np.concatenate([space.lengths for space in self.spaces])


def stream(*folders: Path) -> Iterator[tuple[Path, int, dict[str, Any]]]:
    """Every record with its file and line, in the order of the pool.

    Raises:
        UserError: file:line of what is no record.
    """
    for folder, split in itertools.product(folders, SPLITS):
        path = folder / f"{split}.jsonl"
        if not path.is_file():
            continue
        with path.open("rb") as handle:
            for number, line in enumerate(handle, 1):
                if not line.strip():
                    continue
                try:
                    record = parsed_json(line)
                    absent = [name for name in _FIELDS if name not in record or (name in _TEXTS and not is_text(record[name]))]
                except (ValueError, TypeError):
                    raise UserError(f"{at(path, number)}: not a record; convert the tasks again") from None
                problem = f"no '{absent[0]}', or it is no text" if absent else problem_of_inputs(record)
                if not problem and record["split"] != split:
                    problem = f"split '{record['split']}' in the file of {split}"
                if problem:
                    raise UserError(f"{at(path, number)}: {problem}; convert the tasks again")
                yield path, number, record


def read_pool(*folders: Path) -> Pool:
    """Read folders of `llama-gene convert tasks`.

    Raises:
        UserError: no records folder, no record with a sequence in them, a line that is no record, a task without a card or in two folders,
            a repeated id, or a letter outside the alphabet of its input.
    """
    cards = [(folder, card) for folder in folders for card in read_cards(folder)]
    homes = {card.id: folder for folder, card in cards}
    if twice := next(((folder, card.id) for folder, card in cards if homes[card.id] != folder), None):
        raise UserError(f"{homes[twice[1]]}: task '{twice[1]}' stands in {twice[0]} too; give each task once")
    pool = pool_of([card for _, card in cards], ((at(path, number), record) for path, number, record in stream(*folders)))
    if not len(pool.task):
        raise UserError(f"{', '.join(map(str, folders))}: holds no record with a sequence, and sequences are compared here")
    return pool


def pool_of(cards: list[TaskCard], records: Iterable[tuple[str, dict[str, Any]]]) -> Pool:
    """The same of records with the place where each was found (for messages): `id`, `task`, `split`, `label` and `inputs`."""
    places = {card.id: place for place, card in enumerate(cards)}
    nodes: dict[Alphabet, dict[bytes, int]] = {DNA: {}, PROTEIN: {}}
    task, split, label, sides, node, space, strand, turned = (array("q") for _ in range(8))
    sides.append(0)
    labels: dict[str, int] = {}
    ids: set[bytes] = set()
    plain: dict[str, dict[str, int]] = {}
    for where, record in tqdm(records, desc="read", unit="record", unit_scale=True, disable=None):
        if record["task"] not in places:
            raise UserError(f"{where}: task '{record['task']}' is not in cards.json; convert the tasks again")
        if (name := record["id"].encode()) in ids:
            raise UserError(f"{where}: id '{record['id']}' stands in the folder twice; ids must be unique")
        ids.add(name)
        if not record["inputs"]:
            own = plain.setdefault(record["task"], dict.fromkeys(SPLITS, 0))
            own[record["split"]] += 1
            continue
        task.append(places[record["task"]])
        split.append(SPLITS.index(record["split"]))
        turned.append(record["id"].endswith(REVERSED))
        value = sorted(record["label"], key=json.dumps) if isinstance(record["label"], list) else record["label"]
        label.append(labels.setdefault(json.dumps(value, ensure_ascii=False), len(labels)))
        for item in record["inputs"]:
            alphabet = PROTEIN if item["modality"] == "protein" else DNA
            letters = item["letters"].upper()
            if alphabet is DNA:
                letters = letters.replace("U", "T")
            if (foreign := alphabet.first_foreign(letters)) >= 0 or not letters:
                what = f"'{letters[foreign]}' is no letter of {item['modality']}" if letters else f"empty {item['name']}"
                raise UserError(f"{where}: {what}; convert the tasks again")
            key = letters.encode()
            other = key.translate(_COMPLEMENT)[::-1] if alphabet is DNA else key
            known = nodes[alphabet]
            node.append(known.setdefault(min(key, other), len(known)))
            space.append(alphabet is PROTEIN)
            strand.append(other < key)
        sides.append(len(node))
    numbers = np.frombuffer(node, dtype=np.int64).copy()
    spaces, first = [], 0
    for place, (alphabet, letters_of) in enumerate(nodes.items()):
        found, rank = space_of(alphabet, letters_of, first)
        mine = np.frombuffer(space, dtype=np.int64) == place
        numbers[mine] = rank[numbers[mine]] + first
        spaces.append(found)
        first += len(found)
        letters_of.clear()
    return Pool(
        cards,
        spaces,
        task=np.frombuffer(task, np.int64),
        split=np.frombuffer(split, np.int64),
        label=np.frombuffer(label, np.int64),
        labels=list(labels),
        sides=np.frombuffer(sides, np.int64),
        node=numbers,
        strand=np.frombuffer(strand, np.int64),
        turned=np.frombuffer(turned, np.int64) == 1,
        plain=plain,
    )


def space_of(alphabet: Alphabet, nodes: dict[bytes, int], first: int) -> tuple[Space, Ints]:
    """The sorted space, and the rank of each node in it."""
    ordered = sorted(nodes, key=lambda letters: (-len(letters), letters))
    rank = np.zeros(len(ordered), dtype=np.int64)
    rank[[nodes[letters] for letters in ordered]] = np.arange(len(ordered))
    codes = np.full(256, 255, dtype=np.uint8)
    for code, letter in enumerate(NUCLEOTIDES if alphabet is DNA else RESIDUES):
        codes[ord(letter)] = code
    text = codes[np.frombuffer(b"".join(ordered), dtype=np.uint8)]
    starts = np.concatenate(([0], np.cumsum([len(letters) for letters in ordered], dtype=np.int64))).astype(np.int64)
    return Space(alphabet, first, text, starts), rank


def matches(keys: Ints, wanted: Ints) -> tuple[Ints, Ints]:
    """(place in `wanted`, place in `keys`) of every two that are equal; `keys` are ascending."""
    begin = np.searchsorted(keys, wanted, "left")
    counts = np.searchsorted(keys, wanted, "right") - begin
    row = np.repeat(np.arange(len(begin)), counts)
    return row, np.arange(int(counts.sum())) - np.repeat(np.cumsum(counts) - counts, counts) + begin[row]


def pair_inputs(cards: Sequence[TaskCard]) -> list[bool]:
    """Whether each task has two inputs."""
    return [len(card.inputs) == 2 for card in cards]
