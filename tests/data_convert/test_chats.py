"""Conversations as records: the three layouts, their tags, the split; and records as parquet with a dataset card."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from datasets import load_dataset

from artefacts.errors import Ledger, UserError
from artefacts.folder import read_manifest
from data_convert.splits.audit import AuditRecipe, audit
from data_convert.tasks.cards import TaskCard, read_cards
from data_convert.tasks.chats import chat_card
from data_convert.tasks.convert import convert, summary
from data_convert.tasks.records import read_records
from data_convert.tasks.task_recipe import TasksRecipe
from eval.baselines.run import BaselinesRecipe
from eval.baselines.run import run as run_baselines
from instruct.tune.encode import encode
from tokenizer.conversations import prompt_ids

Pairs = list[tuple[str, str]]
ENOUGH: list[Pairs] = [[(f"Say {number}: <dna>{'ACGT' * (number + 1)}</dna>", f"It is {number}.")] for number in range(20)]
"""Conversations, of questions and answers, so many that dev and test can be cut from them."""
TWO: Pairs = [("What is <dna>TATAAT</dna>?", "A box."), ("And <protein>MKWV</protein>?", "A peptide, <protein>MK</protein> and more.")]
SYSTEM = "You know genes."


def openai(pairs: Pairs, system: str = "") -> dict[str, Any]:
    turns = [{"role": role, "content": text} for pair in pairs for role, text in zip(("user", "assistant"), pair, strict=True)]
    return {"messages": [*([{"role": "system", "content": system}] if system else []), *turns]}


def sharegpt(pairs: Pairs, system: str = "") -> dict[str, Any]:
    names = {"system": "system", "user": "human", "assistant": "gpt"}
    return {"conversations": [{"from": names[turn["role"]], "value": turn["content"]} for turn in openai(pairs, system)["messages"]]}


def alpaca(pairs: Pairs, system: str = "") -> dict[str, Any]:
    *history, (question, answer) = pairs
    made = {"instruction": question, "input": "", "output": answer, "history": [list(pair) for pair in history]}
    return {**made, "system": system} if system else made


def lines(path: Path, items: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(item) + "\n" for item in items), encoding="utf-8")
    return path


def run(out: Path, *files: Path, **more: Any) -> Path:
    convert(TasksRecipe.model_validate({"out": out, "chats": files, **more}))
    return out


def records(out: Path) -> dict[str, dict[str, Any]]:
    return {record["id"]: record for split in ("train", "dev", "test") for record in read_records(out / f"{split}.jsonl")}


def counts(out: Path, task: str = "chats/mine") -> dict[str, Any]:
    return read_manifest(out)["counts"][task]["files"]["train"]


@pytest.mark.parametrize("layout", [openai, sharegpt, alpaca])
@pytest.mark.parametrize("container", ["lines", "array", "parquet"])
def test_the_layouts_say_the_same(tmp_path: Path, layout: Any, container: str) -> None:
    items = [layout(TWO, SYSTEM), *map(layout, ENOUGH)]
    path = tmp_path / "mine.json"  # whatever it holds
    if container == "lines":
        lines(path, items)
    elif container == "array":
        path.write_text(json.dumps(items), encoding="utf-8")
    else:
        pq.write_table(pa.Table.from_pylist(items), path)
    out = run(tmp_path / "out", path)
    found = records(out)
    first, second = (record for name, record in found.items() if name.rpartition("/")[2] in ("1", "1.2"))
    system, asked, answered = {"role": "system", "content": SYSTEM}, {"role": "user", "content": TWO[0][0]}, TWO[0][1]
    assert first["prompt"] == [system, asked]
    assert first["completion"] == [{"role": "assistant", "content": answered}]
    assert second["prompt"] == [system, asked, {"role": "assistant", "content": answered}, {"role": "user", "content": TWO[1][0]}]
    assert second["completion"] == [{"role": "assistant", "content": TWO[1][1]}]
    assert second["label"] == TWO[1][1]
    assert [(item["modality"], item["letters"]) for item in second["inputs"]] == [("dna", "TATAAT"), ("protein", "MKWV")]
    assert first["split"] == second["split"]
    assert (counts(out)["read"], counts(out)["written"]) == (22, 22)
    (card,) = read_cards(out)
    assert (card.id, card.kind, sum(card.n.values()), card.n["dev"], card.n["test"]) == ("chats/mine", "text", 22, 2, 2)


def test_conversations_have_their_own_ids_where_they_have_any(tmp_path: Path) -> None:
    items = [{"id": "a", **openai(TWO)}, *({"id": f"b{number}", **openai(pairs)} for number, pairs in enumerate(ENOUGH))]
    found = records(run(tmp_path / "out", lines(tmp_path / "mine.jsonl", items)))
    assert {name.rpartition("/")[2] for name in found} == {"a", "a.2", *(f"b{number}" for number in range(20))}


def test_an_alpaca_input_stands_below_its_instruction(tmp_path: Path) -> None:
    item = {"instruction": "Name it.", "input": "<dna>ACGT</dna>", "output": "x"}
    found = records(run(tmp_path / "out", lines(tmp_path / "mine.jsonl", [item, *map(alpaca, ENOUGH)])))
    assert "Name it.\n<dna>ACGT</dna>" in {record["prompt"][0]["content"] for record in found.values()}


TAGS = "a tag that is not closed, closes nothing, or holds other letters"
BROKEN: list[tuple[dict[str, Any], str]] = [
    (openai([("What is <dna>ACGT?", "x")]), TAGS),
    (openai([("What is <dna>ACGT", "x")]), TAGS),
    (openai([("What is <dna>", "x")]), TAGS),
    (openai([("What is ACGT</dna>?", "x")]), TAGS),
    (openai([("What is <dna>ACGT</rna>?", "x")]), TAGS),
    (openai([("What is <dna>ACGJ</dna>?", "x")]), TAGS),
    (openai([("What?", "It is <protein>MK1</protein>.")]), TAGS),
    (openai([("What is <dna></dna>?", "x")]), "empty sequence"),
    (openai([("What is <dna>MKWVRRKHMWKSVRHKMWRS</dna>?", "x")]), "a protein where nucleotides should be"),
    (openai([("What is <protein>" + "ACGT" * 20 + "</protein>?", "x")]), "nucleotides where a protein should be"),
    (openai([("", "x")]), "a turn without text"),
    (openai([("What?", " ")]), "a turn without text"),
    ({"messages": [{"role": "user", "content": None}]}, "a turn without text"),
    ({"messages": [{"role": "user", "content": "\ud800"}]}, "half a surrogate pair, which is no character"),
    ({"messages": [{"role": "tool", "content": "x"}]}, "a role other than system, user and assistant"),
    ({"messages": "x"}, "turns that are no list of messages"),
    ({"messages": ["x"]}, "turns that are no list of messages"),
    ({"messages": []}, "turns other than user and assistant by turns, behind at most one of system"),
    ({"messages": [{"role": "assistant", "content": "x"}]}, "turns other than user and assistant by turns, behind at most one of system"),
    ({**openai(TWO), "tools": [{"name": "x"}]}, "tools, which no record has"),
    ({**openai(TWO), **sharegpt(TWO)}, "not one of messages, conversations, instruction"),
    ({"prompt": "x", "completion": "y"}, "not one of messages, conversations, instruction"),
    ({**alpaca(TWO), "history": "x"}, "a history that is no list of questions with their answers"),
    ({"instruction": 5, "output": "x"}, "a turn without text"),
    ({"instruction": "x"}, "a turn without text"),
    ({"messages": [*openai(TWO)["messages"], {"role": "user", "content": "Thanks"}]}, "a last question without an answer"),
]


@pytest.mark.parametrize(("item", "reason"), BROKEN)
def test_what_cannot_be_a_record_is_counted_with_its_line(tmp_path: Path, item: dict[str, Any], reason: str) -> None:
    out = run(tmp_path / "out", lines(tmp_path / "mine.jsonl", [*map(openai, ENOUGH), item]))
    assert (out / "set_aside.tsv").read_text().splitlines()[1].startswith(f"{tmp_path / 'mine.jsonl'}:21")
    assert counts(out)["reasons"] == {reason: 1}
    assert counts(out)["rejected"] == 1
    assert len(records(out)) == counts(out)["written"] == 20 + 2 * (reason == "a last question without an answer")


def test_a_broken_turn_costs_those_behind_it_alone(tmp_path: Path) -> None:
    item = openai([TWO[0], ("And <dna>ACG1</dna>?", "x"), ("And?", "y")])
    out = run(tmp_path / "out", lines(tmp_path / "mine.jsonl", [item, *map(openai, ENOUGH)]), max_broken=0.2)
    assert counts(out)["reasons"] == {TAGS: 2}
    assert [record["id"].rpartition("/")[2] for record in records(out).values() if record["source"] == "mine.jsonl:1"] == ["1"]


def test_answers_of_weight_0_are_shown_and_not_trained(tmp_path: Path) -> None:
    item = openai(TWO)
    item["messages"][1]["weight"] = 0
    item["messages"][3]["weight"] = 1
    found = records(run(tmp_path / "out", lines(tmp_path / "mine.jsonl", [item, *map(openai, ENOUGH)])))
    (record,) = [record for record in found.values() if record["source"] == "mine.jsonl:1"]
    assert [message["content"] for message in record["prompt"]] == [TWO[0][0], TWO[0][1], TWO[1][0]]


def test_conversations_of_one_beginning_stand_on_one_side(tmp_path: Path) -> None:
    items = [openai([(f"Q{number // 3}", f"A{number}"), ("More?", f"B{number}"), ("More?", "C")], SYSTEM) for number in range(60)]
    out = run(tmp_path / "out", lines(tmp_path / "mine.jsonl", items))
    sides: dict[str, set[str]] = {}
    for record in records(out).values():
        sides.setdefault(record["prompt"][1]["content"], set()).add(record["split"])
    assert all(len(found) == 1 for found in sides.values())
    assert {split for found in sides.values() for split in found} == {"train", "dev", "test"}
    conflicts = read_manifest(out)["counts"]["chats/mine"]["same_input_other_answer"]
    assert sum(conflicts.values()) == 180  # three conversations each begin alike and are answered differently
    alone = run(tmp_path / "alone", lines(tmp_path / "mine.jsonl", items[::3]))
    assert sum(read_manifest(alone)["counts"]["chats/mine"]["same_input_other_answer"].values()) == 0


def test_bare_sequences_are_said(tmp_path: Path) -> None:
    items = [openai([("What is MKWVTFISLLFLFSSAYSRGVFRRDAHKSE?", "x")]), openai([(f"<protein>{'MKWV' * 20}</protein>", "x")])]
    out = run(tmp_path / "out", lines(tmp_path / "mine.jsonl", [*items, *map(openai, ENOUGH)]))
    assert "(1 with 30 capitals in a row outside tags, which are read as English)" in summary(out)


def test_every_answer_is_encoded_behind_its_conversation(chatty: Any, tmp_path: Path) -> None:
    out = run(tmp_path / "out", lines(tmp_path / "mine.jsonl", [openai(TWO, SYSTEM), *map(openai, ENOUGH)]), tokenizer=None)
    for split in ("train", "dev", "test"):
        encoded = encode(chatty, out / f"{split}.jsonl", 4096, Ledger())
        for record, ids, start in zip(encoded.records, encoded.ids, encoded.starts, strict=True):
            assert ids[:start].tolist() == prompt_ids(chatty, record["prompt"])
            assert chatty.decode(ids[start:-1]).strip() == record["completion"][0]["content"]


def test_mixed_with_tasks_and_split_anew(tmp_path: Path) -> None:
    """`convert audit --write-split` moves a conversation with all that was said in it."""
    table = "".join(f"{'ACGTTGCA' * 3}{'ACGT' * number},{number % 2}\n" for number in range(60))
    (tmp_path / "promoter").mkdir()
    for split in ("train", "dev", "test"):
        (tmp_path / "promoter" / f"{split}.csv").write_text("sequence,label\n" + table)
    asked = [openai([(f"Is it <dna>{'GATTACA' * 9}</dna>? {number}", "yes"), ("Sure?", f"I am {number}.")], SYSTEM) for number in range(30)]
    mixed = {"cards": ["sim/promoter"], "source": tmp_path, "mix": {"records": 30}}
    out = run(tmp_path / "out", lines(tmp_path / "mine.jsonl", asked), **mixed)
    found = records(out)
    assert {record["task"] for record in found.values()} == {"sim/promoter", "chats/mine"}
    assert sum(record["split"] == "train" for record in found.values()) == 30
    audit(AuditRecipe(records=[out], out=tmp_path / "audit", write_split=tmp_path / "controlled"))
    before = {(record["source"], record["label"]): record for record in found.values()}
    moved = records(tmp_path / "controlled").values()
    assert any(record["id"] not in found for record in moved if record["task"] == "chats/mine")
    for record in moved:
        old = before[record["source"], record["label"]]
        assert all(record[name] == old[name] for name in ("completion", "inputs"))
        assert record["task"] != "chats/mine" or (record["prompt"], record["texts"]) == (old["prompt"], old["texts"])


def test_baselines_leave_conversations_of_this_and_that_out(tmp_path: Path) -> None:
    out = run(tmp_path / "out", lines(tmp_path / "mine.jsonl", [openai(TWO), *map(openai, ENOUGH), openai([("Who?", "I.")])]))
    run_baselines(BaselinesRecipe(records=out, out=tmp_path / "baselines", systems=["majority", "nearest"]))
    left_out = read_manifest(tmp_path / "baselines")["counts"]["does_not_apply"]
    assert left_out == {
        "nearest": {"chats/mine": "it reads the same kinds of sequences in every record, and the task shows now these and now those"}
    }


def test_a_group_holds_for_conversations_too(tmp_path: Path) -> None:
    """The sequences of a conversation count, whatever it says of them."""
    draw = random.Random(0)
    pieces = ["".join(draw.choices("ACGT", k=80)) for _ in range(20)]
    items = [openai([(f"{number} <dna>{pieces[number // 3]}</dna>", f"{number}")]) for number in range(60)]
    out = run(tmp_path / "out", lines(tmp_path / "mine.jsonl", items), group="cluster")
    sides: dict[str, set[str]] = {}
    for record in records(out).values():
        sides.setdefault(record["inputs"][0]["letters"], set()).add(record["split"])
    assert len(sides) == 20
    assert all(len(found) == 1 for found in sides.values())


def test_a_card_of_conversations_says_what_it_can(tmp_path: Path) -> None:
    card = chat_card(Path("x.json.gz")).model_dump(mode="json", exclude={"n"})
    assert card["id"] == "chats/x"
    for change in ({"texts": ["conversation"]}, {"label": "output"}):
        with pytest.raises(ValueError, match="a chat task has texts"):
            TaskCard.model_validate({**card, **change, "prompts": {"train": ["{conversation}"], "eval": "{conversation}"}})


def test_two_files_of_one_name_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    files = [lines(folder / "mine.jsonl", [*map(openai, ENOUGH)]) for folder in (tmp_path, tmp_path / "a")]
    with pytest.raises(UserError, match="task 'chats/mine' is in the recipe twice"):
        run(tmp_path / "out", *files)


def test_parquet_is_what_the_json_lines_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`load_dataset` gives the splits, without a network."""
    (tmp_path / "stability").mkdir()
    for split in ("train", "dev", "test"):
        (tmp_path / "stability" / f"{split}.csv").write_text("sequence,label\n" + "".join(f"MKWV{'A' * n},0.{n}\n" for n in range(9)))
    mixed = {"cards": ["sim/stability"], "source": tmp_path, "parquet": True}
    out = run(tmp_path / "out", lines(tmp_path / "mine.jsonl", [openai(TWO, SYSTEM), *map(openai, ENOUGH)]), **mixed)
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    found = load_dataset(str(out), cache_dir=str(tmp_path / "cache"))
    assert list(found) == ["train", "dev", "test"]
    for split, rows in found.items():
        written = [json.loads(line) for line in (out / f"{split}.jsonl").read_text(encoding="utf-8").splitlines()]
        assert len(rows) == len(written) > 0
        for row, record in zip(rows, written, strict=True):
            read = {
                name: json.loads(value) if name in ("label", "texts", "meta") else value for name, value in row.items() if value is not None
            }
            assert read == record
    page = (out / "README.md").read_text(encoding="utf-8")
    assert "| sim/stability |" in page
    assert "| chats/mine |" in page


def test_a_split_without_a_record_is_not_published(tmp_path: Path) -> None:
    lines(tmp_path / "mine.jsonl", [*map(openai, ENOUGH)])
    card = chat_card(tmp_path / "mine.jsonl").model_dump(mode="json", exclude={"n", "test_share"}, exclude_none=True)
    (tmp_path / "chats").mkdir()
    (tmp_path / "chats" / "mine.yaml").write_text(yaml.safe_dump(card))
    entry = {"card": str(tmp_path / "chats" / "mine.yaml"), "source": tmp_path}
    convert(TasksRecipe.model_validate({"out": tmp_path / "out", "tasks": [entry], "parquet": True}))
    assert list(load_dataset(str(tmp_path / "out"), cache_dir=str(tmp_path / "cache"))) == ["train", "dev"]
