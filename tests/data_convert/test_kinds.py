"""Kinds of answers: all that is said of one stands in its class, and a new kind is a new class."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from test_cards import CARD

from data_convert.tasks.cards import TaskCard
from data_convert.tasks.examples import Example
from data_convert.tasks.kinds import KINDS, Multiclass
from data_convert.tasks.parse import Parsed
from data_convert.tasks.records import RecordWriter, read_records
from eval.baselines.nearest import majority
from eval.baselines.split import scored_tasks
from eval.judge.answers import METRICS, Answers, metrics_of, value

ROOT = Path(__file__).parents[2]


def comparisons(tree: ast.AST) -> Iterator[ast.Compare]:
    """What compares with the name of a kind of answers."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Compare):
            sides = [node.left, *node.comparators]
            named = [side for side in sides if "kind" in ast.unparse(side).rpartition(".")[2]]
            texts = [part.value for side in sides for part in ast.walk(side) if isinstance(part, ast.Constant)]
            if named and any(text in KINDS for text in texts if isinstance(text, str)):
                yield node


def test_no_file_but_kinds_asks_for_the_name_of_a_kind() -> None:
    rooms = ("data_convert", "instruct", "eval", "pretrain", "artefacts")
    files = [path for room in rooms for path in (ROOT / room).rglob("*.py") if path.name not in ("kinds.py", "test_kinds.py")]
    found = [
        f"{path.relative_to(ROOT)}:{node.lineno}: {ast.unparse(node)}"
        for path in files
        for node in comparisons(ast.parse(path.read_text()))
    ]
    assert found == []
    assert len(files) > 100
    assert list(comparisons(ast.parse('if record["kind"] in ("set", "multilabel"): pass'))), "this test sees them"


class Grade(Multiclass):
    """A toy: labels in an order, answered as `3 of 5`, and an error that knows how far off an answer is."""

    name = "grade"
    metrics = ("accuracy", "steps_off")
    primary = by_length = "accuracy"
    loss = None

    def parse(self, text: str, choices: Sequence[str]) -> Parsed:
        return super().parse(text.partition(" of ")[0], choices)


@pytest.fixture
def grade(monkeypatch: pytest.MonkeyPatch) -> None:
    def steps_off(answers: Answers):
        said = [answers.codes[p] for p in answers.predicted]
        off_n = np.abs(np.array(said) - answers.gold_codes)
        return lambda weights_rn: (weights_rn @ off_n) / weights_rn.sum(axis=1)

    monkeypatch.setitem(KINDS, Grade.name, Grade())
    monkeypatch.setitem(METRICS, "steps_off", steps_off)


def test_a_new_kind_is_one_class(grade: None, tmp_path: Path) -> None:
    """From its card over records to a baseline, an answer that is read, and its own metric."""
    labels = {str(number): {"name": str(number), "meaning": f"grade {number}"} for number in range(1, 6)}
    card = TaskCard.model_validate(CARD | {"kind": "grade", "labels": labels, "metrics": ["steps_off"], "primary_metric": "steps_off"})
    writer = RecordWriter(card, "held-out", 0)
    for split in ("train", "test"):
        lines = []
        for number in range(10):
            label, answer, _ = card.answers.read(card, str(1 + number % 3))
            example = Example(str(number), number, {"sequence": "ACGT"}, label, answer, {})
            lines += [writer.line(record) for record in writer.records(example, split)]
        (tmp_path / f"{split}.jsonl").write_text("".join(lines), encoding="utf-8")
    records = read_records(tmp_path / "test.jsonl")
    assert {record["kind"] for record in records} == {"grade"}
    (task,) = scored_tasks(tmp_path)
    assert {line["predicted"] for line in majority(task)} == {"1"}
    parsed = [card.answers.parse("3 of 5", record["choices"]) for record in records]
    assert set(parsed) == {Parsed("3", "valid")}
    answers = Answers("grade", records[0]["choices"], [record["label"] for record in records], [one.value for one in parsed])
    assert metrics_of("grade", answers.gold) == ["accuracy", "steps_off"]
    assert value("steps_off", answers) == pytest.approx((2 * 4 + 1 * 3) / 10)


def test_a_kind_that_nobody_knows_is_refused_with_those_known() -> None:
    with pytest.raises(ValueError, match="'grade' is no kind of answer; known: binary, multiclass, multilabel, regression, text, set"):
        TaskCard.model_validate(CARD | {"kind": "grade"})


@pytest.mark.parametrize("name", KINDS)
def test_every_metric_of_a_kind_is_computed_somewhere(name: str) -> None:
    kind = KINDS[name]
    assert kind.name == name
    assert set(kind.metrics) <= METRICS.keys()
    assert {kind.primary, kind.by_length, *kind.head_metrics} <= set(kind.metrics) | {"macro_f1"}
