"""Benchmarks to records: every row is kept or accounted for, ids are unique, splits say what they are."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest
from test_cards import write

from artefacts.errors import UserError
from artefacts.folder import fingerprint, read_manifest
from artefacts.recipe import load
from data_convert.tasks.cards import read_cards
from data_convert.tasks.convert import TaskEntry, TasksRecipe, convert
from data_convert.tasks.records import read_records


def table(path: Path, rows: list[str], header: str = "seq,label") -> None:
    path.write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")


@pytest.fixture
def source(tmp_path) -> Path:
    folder = tmp_path / "data"
    folder.mkdir()
    table(folder / "train.csv", [f"{'ACGT'[i % 4] * (1 + i // 4)},{i % 2}" for i in range(32)])
    table(folder / "dev.csv", ["AAC,0", "CCA,1", "TTTTTTTTAC,1"])
    table(folder / "test.csv", ["A,0", "acgn,1", "GGT,0"])
    return folder


FILES = {"train": "train.csv", "dev": "dev.csv", "test": "test.csv"}


def run(tmp_path: Path, source: Path, card: Path, out: str = "out", seed: int = 0, max_broken: float = 0.5, **entry) -> Path:
    tasks = [TaskEntry(card=str(card), source=source, **entry)]
    convert(TasksRecipe(out=tmp_path / out, seed=seed, tasks=tasks, max_broken=max_broken), overwrite=True)
    return tmp_path / out


def lines(folder: Path, split: str) -> list[dict]:
    return [json.loads(line) for line in (folder / f"{split}.jsonl").read_text(encoding="utf-8").splitlines()]


def test_a_whole_record(tmp_path, source):
    out = run(tmp_path, source, write(tmp_path, files=FILES))
    assert lines(out, "test")[1] == {
        "id": "x/toy/test/3",
        "task": "x/toy",
        "split": "test",
        "kind": "binary",
        "prompt": [{"role": "user", "content": "Say off, on for <dna>ACGN</dna>"}],
        "completion": [{"role": "assistant", "content": "on"}],
        "label": "on",
        "choices": ["off", "on"],
        "inputs": [{"name": "sequence", "modality": "dna", "letters": "ACGN"}],
        "source": "test.csv:3",
    }
    assert {record["prompt"][0]["content"].split(" ", 2)[0] for record in lines(out, "train")} == {"Is"}
    assert {record["prompt"][0]["content"].rpartition("? ")[2] for record in lines(out, "train")} == {"off, on", "on, off"}
    for split, rows in (("train", 32), ("dev", 3), ("test", 3)):
        assert read_records(out / f"{split}.jsonl") == lines(out, split)
        assert len(lines(out, split)) == rows
    (card,) = read_cards(out)
    assert (card.n, card.split_note, card.files.dev) == ({"train": 32, "dev": 3, "test": 3}, "made up", "dev.csv")
    counts = read_manifest(out, "tasks")["counts"]["x/toy"]
    assert counts["inputs_also_in_train"] == {"dev": 0, "test": 1}
    assert counts["files"]["dev"]["cropped"] == 1
    assert lines(out, "dev")[2]["inputs"][0]["letters"] == "TTTTTTTA"  # the middle eight of ten


def test_same_recipe_same_bytes(tmp_path, source):
    card = write(tmp_path, files=FILES)
    first, again, other = (run(tmp_path, source, card, out, seed) for out, seed in (("a", 0), ("b", 0), ("c", 1)))
    assert fingerprint(first) == fingerprint(again) != fingerprint(other)


def test_bad_rows_are_set_aside_with_file_and_line(tmp_path, source):
    rows = ["AC,0", "AXG,1", ",1", "CC,", "GG,2", "TT,1,9", "AT", "", "GC,1", "CG,0", "TA,1", "GA,0", "AG,1", "CA,0"]
    table(source / "train.csv", rows)
    out = run(tmp_path, source, write(tmp_path, files=FILES))
    ledger = read_manifest(out)["counts"]["x/toy"]["files"]["train"]
    path = source / "train.csv"
    assert (ledger["read"], ledger["written"]) == (13, 7)
    assert ledger["examples"] == {
        "letter outside dna": [f"{path}:3 (sequence: 'X' at position 2)"],
        "empty sequence": [f"{path}:4 (sequence)"],
        "no label": [f"{path}:5"],
        "unknown label": [f"{path}:6 ('2'; the card knows 0, 1)"],
        "more or fewer fields than the header has": [f"{path}:7", f"{path}:8"],
    }
    assert [record["id"].rpartition("/")[2] for record in lines(out, "train")] == ["2", "10", "11", "12", "13", "14", "15"]


def test_ids_of_the_file_are_kept_and_repeats_set_aside(tmp_path, source):
    table(source / "test.csv", ["a1,AC,0", "a2,AC,0", "a1,GG,1"], header="id,seq,label")
    out = run(tmp_path, source, write(tmp_path, files=FILES))
    assert [record["id"] for record in lines(out, "test")] == ["x/toy/test/a1", "x/toy/test/a2"]
    assert read_manifest(out)["counts"]["x/toy"]["files"]["test"]["reasons"] == {"duplicated id": 1}


def test_spreadsheet_csv_quotes_byte_order_mark_and_gz(tmp_path, source):
    (source / "test.csv").write_bytes(gzip.compress('\ufeffseq,"label"\r\n"ACGT","1"\r\n'.encode()))
    out = run(tmp_path, source, write(tmp_path, files=FILES))
    assert [(record["label"], record["inputs"][0]["letters"]) for record in lines(out, "test")] == [("on", "ACGT")]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"sequence,label\nA,0\n", "test.csv:1: no column 'seq'; columns found: sequence, label"),
        (b"", "test.csv:1: no header: the file is empty"),
        (b"seq,label\n", "not one usable row of x/toy: none was found"),
        (
            b"seq,label\nMKL,0\nMLV,1\nA,1\n",
            "2 of 3 rows of x/toy cannot be used, more than max_broken=",
        ),
        (b"seq,label\nA\xff,0\n", "not UTF-8"),
        (gzip.compress(b"seq,label\n" + b"ACGT,1\n" * 4000, mtime=0)[:-9], "the gz data is cut short"),
    ],
)
def test_files_that_will_not_do(tmp_path, source, content, words):
    (source / "test.csv").write_bytes(content)
    with pytest.raises(UserError) as error:
        run(tmp_path, source, write(tmp_path, files=FILES))
    assert words in str(error.value)
    assert not (tmp_path / "out").exists()


def test_long_inputs_are_refused_where_the_card_says_so(tmp_path, source):
    out = run(tmp_path, source, write(tmp_path, files=FILES, crop="refuse"))
    ledger = read_manifest(out)["counts"]["x/toy"]["files"]["dev"]
    assert ledger["examples"] == {"longer than 8 letters": [f"{source / 'dev.csv'}:4 (sequence: 10)"]}
    assert len(lines(out, "dev")) == 2


def test_without_a_dev_file_dev_is_cut_from_train(tmp_path, source):
    table(source / "train.csv", [f"{letters},{i % 2}" for i, letters in enumerate(["AC", "AG", "AT", "CA"] * 5 + ["CC", "GG"] * 10)])
    out = run(tmp_path, source, write(tmp_path), dev=10, test=2)
    train, dev = lines(out, "train"), lines(out, "dev")
    assert len(train) + len(dev) == 40
    assert 10 <= len(dev) < 20
    letters = [{record["inputs"][0]["letters"] for record in records} for records in (train, dev)]
    assert not letters[0] & letters[1]
    assert {record["split"] for record in dev} == {"dev"}
    (card,) = read_cards(out)
    assert card.split_note == f"made up; dev is {len(dev)} rows cut from train by seed 0; test is a sample of 2 of 3 rows by seed 0"
    assert card.n == {"train": len(train), "dev": len(dev), "test": 2}


def test_row_limits_are_a_seeded_sample(tmp_path, source):
    card = write(tmp_path, files=FILES)
    whole, few, others = (lines(run(tmp_path, source, card, seed=s, train=n), "train") for s, n in ((0, None), (0, 10), (1, 10)))
    assert len(few) == 10
    assert [record["id"] for record in few] != [record["id"] for record in others]
    assert [record for record in whole if record["id"] in {r["id"] for r in few}] == few


def test_regression(tmp_path, source):
    grid = {"low": 0, "high": 1, "step": 0.1}
    prompts = {"train": ["{sequence}!"], "eval": "{sequence}?"}
    card = write(
        tmp_path, files=FILES, kind="regression", labels=None, grid=grid, prompts=prompts, metrics=["spearman"], primary_metric="spearman"
    )
    table(source / "test.csv", ["AC,0.449", "AG,1.7", "AT,nan", "CC,high", "GG,0.0"])
    records = lines(run(tmp_path, source, card), "test")
    assert [(r["label"], r["completion"][0]["content"]) for r in records] == [(0.449, "0.4"), (1.7, "1.0"), (0.0, "0.0")]
    assert records[0]["choices"][:2] == ["0.0", "0.1"]
    assert len(read_records(tmp_path / "out" / "test.jsonl")) == 3
    ledger = read_manifest(tmp_path / "out")["counts"]["x/toy"]["files"]["test"]
    assert (ledger["beyond_grid"], ledger["reasons"]) == (1, {"label is no finite number": 2})


def test_fasta_headers_are_labels_and_two_inputs_are_shown(tmp_path, source):
    (source / "r.fa").write_text(">on\nACGU\nAA\n>off\nGG\n>what\nGG\n")
    out = run(
        tmp_path,
        source,
        write(
            tmp_path,
            format="fasta",
            label=None,
            files={"test": "r.fa"},
            inputs=[{"modality": "rna", "name": "sequence"}],
            labels={"off": {"name": "off", "meaning": ""}, "on": {"name": "on", "meaning": ""}},
        ),
    )
    assert [(r["id"], r["label"], r["inputs"][0]["letters"]) for r in lines(out, "test")] == [
        ("x/toy/test/1", "on", "ACGTAA"),
        ("x/toy/test/4", "off", "GG"),
    ]
    table(source / "pair.csv", ["ACG,MKL,1"], header="d,p,label")
    inputs = [{"column": "d", "modality": "dna", "name": "gene"}, {"column": "p", "modality": "protein", "name": "protein"}]
    prompts = {"train": ["{gene}{protein}"], "eval": "{gene} and {protein}?"}
    out = run(tmp_path, source, write(tmp_path, files={"test": "pair.csv"}, inputs=inputs, prompts=prompts))
    assert lines(out, "test")[0]["prompt"][0]["content"] == "<dna>ACG</dna> and <protein>MKL</protein>?"


def test_overrides_need_a_split_note_and_existing_files(tmp_path, source):
    path = tmp_path / "recipe.yaml"
    card = write(tmp_path, files=FILES)

    def problem(text: str) -> str:
        path.write_text(f"out: {tmp_path / 'out'}\ntasks:\n" + text)
        with pytest.raises(UserError) as error:
            convert(load(TasksRecipe, path))
        return str(error.value)

    one = f"- {{card: {card}, source: {source}"
    assert "say in split_note" in problem(one + ", files: {test: dev.csv}}\n")
    assert "dev2.csv: no such file, the test rows of x/toy" in problem(one + ", files: {test: dev2.csv}, split_note: own}\n")
    assert "in the recipe twice" in problem(one + "}\n" + one + "}\n")
    assert "has no train file" in problem(one + ", files: {test: dev.csv}, split_note: own, train: 5}\n")
    assert "did you mean 'source'" in problem(f"- {{card: {card}, sorce: {source}}}\n")
    assert "no such card" in problem(f"- {{card: x/none, source: {source}}}\n")
    out = run(tmp_path, source, card, files={"test": "dev.csv"}, split_note="own")
    assert (read_cards(out)[0].split_note, len(lines(out, "test")), lines(out, "train")) == ("own", 3, [])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda r: r["completion"].clear(), "the record has no answer (completion)"),
        (lambda r: r["completion"][0].update(content=" "), "the record has no answer (completion)"),
        (lambda r: r.update(label=None), "the record has no answer (label)"),
        (lambda r: r["completion"][0].update(content="maybe"), "'maybe' is not one of its choices"),
        (lambda r: r["prompt"].clear(), "no prompt"),
        (lambda r: r["completion"][0].update(role="user"), "does not end with the assistant's words"),
        (lambda r: r.pop("task"), "no 'task'"),
        (lambda r: r.update(id="x/toy/test/2"), "stands in the file twice"),
        (lambda r: r.update(id=["x"]), "its id is no text"),
        (lambda r: r.update(task=None), "its task is no text"),
        (lambda r: r.update(kind="banana"), "its kind 'banana' is none of binary, "),
        (lambda r: r["prompt"].insert(0, {"role": "system"}), "a message of the prompt has no role or content that is text"),
        (lambda r: r["prompt"][0].update(content=3), "a message of the prompt has no role or content that is text"),
        (lambda r: r["prompt"][0].update(content="half a pair: \ud83e"), "surrogates not allowed"),
        (lambda r: r["completion"].append({"role": "assistant", "content": "on"}), "its completion has several messages"),
        (lambda r: r.update(choices=3), "its choices are no list of texts"),
        (lambda r: r.update(choices="on, off"), "its choices are no list of texts"),
        (lambda r: r.update(label="off"), "its answer 'on' is trained, and its label 'off' would be scored"),
        (lambda r: r.update(kind="multilabel", label=3), "its label is not what multilabel tasks have"),
        (lambda r: r.update(kind="multilabel", label=["on", "of"]), "its label is not among its choices"),
        (lambda r: r.update(kind="regression", label="nan"), "its label is not what regression tasks have"),
        (lambda r: r.update(inputs=["ACGT"]), "its inputs are no list of sequences with name, modality, letters"),
    ],
)
def test_records_that_will_not_do(tmp_path, source, change, words):
    path = run(tmp_path, source, write(tmp_path, files=FILES)) / "test.jsonl"
    records = read_records(path)
    change(records[1])
    path.write_text("\n".join(map(json.dumps, records)))
    with pytest.raises(UserError) as error:
        read_records(path)
    assert f"{path}:2: " in str(error.value)
    assert words in str(error.value)


def test_records_that_are_no_json(tmp_path):
    (tmp_path / "a.jsonl").write_text('\n{"id": 1')
    with pytest.raises(UserError, match=r"a\.jsonl:2: not a JSON line"):
        read_records(tmp_path / "a.jsonl")
    (tmp_path / "a.jsonl").write_text("[" * 100_000)
    with pytest.raises(UserError, match=r"a\.jsonl:1: not a JSON line"):
        read_records(tmp_path / "a.jsonl")
    with pytest.raises(UserError, match="no such records"):
        read_records(tmp_path / "b.jsonl")
    with pytest.raises(UserError, match=r"no cards\.json"):
        read_cards(tmp_path)
