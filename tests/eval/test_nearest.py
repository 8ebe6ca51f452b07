"""The nearest neighbour: whose answer is copied, for every kind of task, for pairs, and where nothing is alike."""

from __future__ import annotations

import random
import shutil
from typing import Any

import pytest

from eval.baselines.nearest import nearest
from eval.baselines.split import Task
from sequences.alphabets import reverse_complement

DNA, PROTEIN = "ACGT", "ACDEFGHIKLMNPQRSTVWY"


def drawn(rng: random.Random, letters: str = DNA, length: int = 120) -> str:
    return "".join(rng.choices(letters, k=length))


def changed(sequence: str, share: float, rng: random.Random, letters: str = DNA) -> str:
    """That share of the letters drawn again."""
    return "".join(rng.choice(letters) if rng.random() < share else letter for letter in sequence)


def record(number: int, split: str, kind: str, label: Any, *sequences: str, modality: str = "dna") -> dict[str, Any]:
    inputs = [{"name": f"s{i}", "modality": modality, "letters": letters} for i, letters in enumerate(sequences)]
    choices = ["a", "b", "c"] if kind == "multiclass" else []
    fields = {"task": "t", "split": split, "kind": kind, "choices": choices, "inputs": inputs}
    return {"id": f"{split}/{number}", "label": label, **fields}


def task_of(kind: str, train: list[dict[str, Any]], test: list[dict[str, Any]]) -> Task:
    return Task("t", kind, test[0]["choices"], train, [], test)


LABELS = {"multiclass": list("abc"), "regression": [0.1, 0.5, 0.9], "text": ["one", "two", "three"], "set": [["x"], ["y", "z"], ["x", "z"]]}


@pytest.mark.parametrize(
    ("kind", "modality", "search"),
    [
        ("multiclass", "dna", "builtin"),
        ("regression", "protein", "builtin"),
        ("text", "protein", "builtin"),
        ("set", "dna", "builtin"),
        ("multiclass", "dna", "mmseqs"),
        ("regression", "protein", "mmseqs"),
    ],
)
def test_the_answer_of_the_relative_is_copied(kind: str, modality: str, search: str) -> None:
    if search == "mmseqs" and shutil.which("mmseqs") is None:
        pytest.skip("no mmseqs on PATH")
    rng, letters = random.Random(0), PROTEIN if modality == "protein" else DNA
    parents = [drawn(rng, letters) for _ in range(12)]
    train = [record(i, "train", kind, LABELS[kind][i % 3], parent, modality=modality) for i, parent in enumerate(parents)]
    relatives = [changed(parent, 0.15, rng, letters) for parent in parents]
    if modality == "dna":  # on either strand
        relatives[1::2] = map(reverse_complement, relatives[1::2])
    test = [record(i, "test", kind, LABELS[kind][i % 3], relative, modality=modality) for i, relative in enumerate(relatives)]
    for place, line in enumerate(nearest(task_of(kind, train, test), search)):
        assert line["predicted"] == LABELS[kind][place % 3]
        assert line["nearest"]["id"] == f"train/{place}"
        assert 0.75 < line["nearest"]["identity"] < 0.99
        if kind == "set":
            assert list(line["item_scores"]) == line["predicted"]
            assert list(line["item_scores"].values()) == pytest.approx([line["nearest"]["identity"]] * len(line["predicted"]), abs=1e-3)


def test_where_nothing_is_alike_the_majority_answers() -> None:
    rng = random.Random(1)
    train = [record(i, "train", "multiclass", "b" if i < 5 else "a", drawn(rng)) for i in range(8)]
    (line,) = nearest(task_of("multiclass", train, [record(0, "test", "multiclass", "a", "A" * 60 + "C" * 60)]))
    assert (line["predicted"], line["nearest"]) == ("b", None)


def test_equally_near_records_vote_and_numbers_are_averaged() -> None:
    sequence = drawn(random.Random(2))
    labels = ["a", "c", "c"]
    train = [record(i, "train", "multiclass", label, sequence) for i, label in enumerate(labels)]
    (line,) = nearest(task_of("multiclass", train, [record(0, "test", "multiclass", "a", reverse_complement(sequence))]))
    assert (line["predicted"], line["nearest"]) == ("c", {"id": "train/0", "identity": 1.0})
    train = [record(i, "train", "regression", value, sequence) for i, value in enumerate([0.0, 0.5, 1.0])]
    (line,) = nearest(task_of("regression", train, [record(0, "test", "regression", 0.0, sequence)]))
    assert line["predicted"] == 0.5


def test_of_a_pair_both_members_count() -> None:
    """One member alone points at the wrong pair: it is identical there, and its partner is a stranger."""
    rng = random.Random(3)
    one, two, stranger = drawn(rng), drawn(rng), drawn(rng)
    relatives = changed(one, 0.1, rng), changed(two, 0.1, rng)
    train = [record(0, "train", "multiclass", "a", one, stranger), record(1, "train", "multiclass", "b", *relatives)]
    (line,) = nearest(task_of("multiclass", train, [record(0, "test", "multiclass", "b", one, two)]))
    assert (line["predicted"], line["nearest"]["id"]) == ("b", "train/1")
    (line,) = nearest(task_of("multiclass", train, [record(0, "test", "multiclass", "b", one, drawn(rng))]))
    assert (line["predicted"], line["nearest"]) == ("a", {"id": "train/0", "identity": 0.5})
