"""Labels: LucaOne's label.txt in both forms, lists of indices, sets; nothing in a cell is ever run as code."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_cards import CARD

from artefacts.errors import UserError
from data_convert.tasks.cards import TaskCard, load_card
from data_convert.tasks.kinds import Read, Rejected
from data_convert.tasks.labels import read_label_file, resolve_labels

MULTI = {"kind": "multilabel", "metrics": ["micro_f1"], "primary_metric": "micro_f1"}


def read_label(card: TaskCard, cell: Any) -> Read:
    return card.answers.read(card, cell)


def card(**changes: object) -> TaskCard:
    return TaskCard.model_validate({**CARD, **changes})


@pytest.mark.parametrize("text", ["label\nfish\nbird\n", "index,label\n0,fish\n1,bird\n", "\ufefflabel\r\nfish\r\n\r\nbird"])
def test_both_forms_of_the_label_file(tmp_path, text):
    path = tmp_path / "label.txt"
    path.write_bytes(text.encode())
    assert read_label_file(path) == ["fish", "bird"]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"label\n", "no class names"),
        (b"", "no class names"),
        (b"label\nfish\nfish\n", "label.txt:3: a name or an index twice ('fish')"),
        (b"index,label\n0,fish\n2,bird\n", "label.txt: indices are not 0 to 1, each once"),
        (b"index,label\n0,\n", "label.txt:2: no name"),
        (b"label\n\xff\n", "label.txt:2: not UTF-8"),
    ],
)
def test_label_files_that_will_not_do(tmp_path, content, words):
    (tmp_path / "label.txt").write_bytes(content)
    with pytest.raises(UserError) as error:
        read_label_file(tmp_path / "label.txt")
    assert words in str(error.value)


def write(tmp_path, *names: str) -> None:
    (tmp_path / "label.txt").write_text("\n".join(["label", *names]), encoding="utf-8")


def test_the_label_file_decides_the_order(tmp_path):
    named = card(labels={n: {"name": n[:1], "meaning": ""} for n in ("alpha", "beta")}, label_file="label.txt")
    assert [label.name for label in resolve_labels(named, tmp_path)[0].values()] == ["a", "b"]
    assert "card's order" in str(resolve_labels(named, tmp_path)[1])
    write(tmp_path, "beta", "alpha")
    labels, note = resolve_labels(named, tmp_path)
    assert ({index: label.name for index, label in labels.items()}, note) == ({"0": "b", "1": "a"}, None)
    write(tmp_path, "beta", "gamma")
    with pytest.raises(UserError, match=r"its classes \(beta, gamma\) are not the card's \(alpha, beta\)"):
        resolve_labels(named, tmp_path)


def test_cards_of_indices_and_cards_without_labels(tmp_path):
    write(tmp_path, "similar", "variant")
    labels, note = resolve_labels(card(label_file="label.txt"), tmp_path)
    assert ([label.name for label in labels.values()], note) == (["off", "on"], "label.txt names the classes 0 similar, 1 variant")
    write(tmp_path, "1", "0")  # index 0 is called 1: then the name counts
    assert [label.name for label in resolve_labels(card(label_file="label.txt"), tmp_path)[0].values()] == ["on", "off"]
    write(tmp_path, "a", "b", "c")
    with pytest.raises(UserError, match="3 classes, where the card x/toy has 2"):
        resolve_labels(card(label_file="label.txt"), tmp_path)
    unnamed = card(kind="multiclass", labels={}, label_file="label.txt")
    write(tmp_path, "Homo sapiens", "virus, unclassified; of birds")
    labels, _ = resolve_labels(unnamed, tmp_path)
    assert [label.name for label in labels.values()] == ["Homo sapiens", "virus unclassified of birds"]
    (tmp_path / "label.txt").unlink()
    with pytest.raises(UserError, match="only it knows the classes"):
        resolve_labels(unnamed, tmp_path)


def test_several_labels_of_one_row():
    labels = {index: {"name": f"label {index}", "meaning": ""} for index in range(20)}
    many = card(**MULTI, labels=labels)
    assert read_label(many, "[3,17]") == (["label 3", "label 17"], "label 3; label 17", False)
    assert read_label(many, " [ 17 , 3, 3 ] ") == (["label 3", "label 17"], "label 3; label 17", False)
    assert read_label(many, "[]") == ([], "none", False)
    assert len(many.choices) == 20
    for cell, reason in (
        ("[20]", "unknown label"),
        ("3", "label is no list of indices"),
        ("[3", "label is no list of indices"),
        ("", "no label"),
    ):
        with pytest.raises(Rejected) as error:
            read_label(many, cell)
        assert error.value.reason == reason


@pytest.mark.parametrize(
    "cell", ["[__import__('os').system('touch pwned')]", "[[1]]", "[1.5]", "[-1]", "{1}", "[1;2]", "[1" + "0" * 5000 + "]"]
)
def test_code_in_a_cell_is_only_a_bad_label(tmp_path, monkeypatch, cell):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(Rejected):
        read_label(card(**MULTI), cell)
    assert not list(tmp_path.iterdir())


@given(st.lists(st.integers(0, 19), max_size=8))
def test_lists_as_python_prints_them(indices):
    many = card(**MULTI, labels={index: {"name": f"label {index}", "meaning": ""} for index in range(20)})
    assert read_label(many, str(indices))[0] == [f"label {index}" for index in sorted(set(indices))]


def test_sets_keep_their_order_and_lose_repetitions():
    listed = load_card("uniprot/go_process")
    names = ["ATP binding", "binding, ATP; slow", "ATP binding", " "]
    assert read_label(listed, names) == (["ATP binding", "binding, ATP, slow"], "ATP binding; binding, ATP, slow", False)
    assert read_label(listed, "one; two")[0] == ["one", "two"]
    with pytest.raises(Rejected):
        read_label(listed, [" "])
