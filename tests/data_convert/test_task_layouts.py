"""Layouts that benchmarks are published in: parquet and its kin, a folder per class, a file per task, options per row, own wording."""

from __future__ import annotations

import gzip
import json
import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from datasets import Dataset, DatasetDict
from hub_stand_in import COMMIT, HubStandIn
from toy_cards import CARD, toy_card

from artefacts.errors import UserError
from artefacts.folder import read_manifest
from data_convert.tasks.cards import TaskCard, read_cards
from data_convert.tasks.convert import convert
from data_convert.tasks.examples import Example, Reader, TaskLedger
from data_convert.tasks.records import read_records
from data_convert.tasks.task_recipe import TaskEntry, TasksRecipe
from sequences.alphabets import reverse_complement

ROWS = [{"seq": "ACGT" * 3 + "ACGT"[n % 4] * (n % 7 + 1), "label": n % 2} for n in range(2_500)]
OWN = {"train": ["{instruction} {sequence}"], "eval": "{instruction} {sequence}"}


def read(card: TaskCard, folder: Path, file: str, split: str = "") -> tuple[list[Example], TaskLedger]:
    ledger = TaskLedger()
    found = list(Reader(card, folder).read(file, ledger, split))
    counts = ledger.as_dict()
    assert counts["read"] == counts["written"] + counts["rejected"]
    assert counts["written"] == len(found)
    return found, ledger


def write_card(folder: Path, **changes: Any) -> Path:
    path = folder / "x" / "toy.yaml"
    path.parent.mkdir(exist_ok=True)
    card = {key: value for key, value in {**CARD, "max_letters": 200, **changes}.items() if value is not None}
    path.write_text(yaml.safe_dump(card, sort_keys=False), encoding="utf-8")
    return path


def converted(folder: Path, max_broken: float = 0.1, **changes: Any) -> Path:
    """The records of the toy card, changed."""
    entry = TaskEntry(card=str(write_card(folder, **changes)), source=folder)
    convert(TasksRecipe(out=folder / "out", tasks=[entry], max_broken=max_broken), overwrite=True)
    return folder / "out"


def write_parquet(path: Path) -> str:
    pq.write_table(pa.Table.from_pylist(ROWS), path, row_group_size=700)
    return path.name


def write_arrow_file(path: Path) -> str:
    table = pa.Table.from_pylist(ROWS)
    with pa.ipc.new_file(str(path), table.schema) as writer:
        writer.write_table(table, max_chunksize=600)
    return path.name


def write_arrow_stream(path: Path) -> str:
    table = pa.Table.from_pylist(ROWS)
    with pa.ipc.new_stream(str(path), table.schema) as writer:
        writer.write_table(table, max_chunksize=600)
    return path.name


def save_to_disk(path: Path) -> str:
    DatasetDict({"train": Dataset.from_list(ROWS)}).save_to_disk(str(path))
    return f"{path.name}/train"


def copy_of_the_hub(path: Path) -> str:
    """A repository as the Hub lays it out: shards of parquet, and a README that names the configuration."""
    folder = path.parent / "someone" / "some-data"
    (folder / "sets").mkdir(parents=True)
    for number, part in enumerate((ROWS[:1_100], ROWS[1_100:])):
        pq.write_table(pa.Table.from_pylist(part), folder / "sets" / f"train-{number:05}-of-00002.parquet")
    head = "configs:\n- config_name: sets\n  data_files:\n  - split: train\n    path: sets/train-*\n"
    (folder / "README.md").write_text(f"---\n{head}---\n", encoding="utf-8")
    return "hub:someone/some-data:sets:train"


@pytest.mark.parametrize("write", [write_parquet, write_arrow_file, write_arrow_stream, save_to_disk, copy_of_the_hub])
def test_every_kind_of_columnar_data_gives_the_rows_of_the_table(tmp_path, write):
    lines = "".join(f"{row['seq']},{row['label']}\n" for row in ROWS)
    (tmp_path / "train.csv").write_text(f"seq,label\n{lines}", encoding="utf-8")
    wanted, _ = read(toy_card(), tmp_path, "train.csv")
    name = write(tmp_path / "data")
    formats = ["dataset"] if write is write_arrow_stream else ["dataset", "csv", "json"]
    for form in formats:
        found, ledger = read(toy_card(format=form), tmp_path, name)
        assert ledger.read == len(ROWS)
        assert [(one.inputs, one.label, one.line) for one in found] == [(one.inputs, one.label, one.line - 1) for one in wanted]
    out = converted(tmp_path, format="dataset", files={"train": name}, test_share=0.2)
    counts = read_manifest(out, "tasks")["counts"]["x/toy"]
    assert sum(counts["n"].values()) == counts["files"]["train"]["read"] == len(ROWS)


def test_broken_cells_are_counted_by_row_and_a_damaged_file_is_named(tmp_path):
    bad = pa.array([b"ACGT", b"AC\xff", b"AC-G", b"AC"], pa.binary()).view(pa.string())
    pq.write_table(pa.table({"seq": bad, "label": pa.array([1, 0, 1, None])}), tmp_path / "x.parquet")
    found, ledger = read(toy_card(format="dataset"), tmp_path, "x.parquet")
    assert [one.row for one in found] == ["1"]
    places = {reason: where[0].removeprefix(f"{tmp_path}/") for reason, where in ledger.examples.items()}
    assert places == {
        "not UTF-8": "x.parquet:2",
        "letter outside dna": "x.parquet:3 (sequence: '-' at position 3)",
        "no label": "x.parquet:4",
    }
    whole = (tmp_path / "x.parquet").read_bytes()
    (tmp_path / "cut.parquet").write_bytes(whole[: len(whole) // 2])
    for name, words in (("cut.parquet", r"cut.parquet:1: cannot be read \("), ("none.parquet", "no such file")):
        with pytest.raises(UserError, match=words):
            read(toy_card(format="dataset"), tmp_path, name)
    with pytest.raises(UserError, match=r"no column 'target'; columns found: seq, label\. Mend"):
        read(toy_card(format="dataset", label="target"), tmp_path, "x.parquet")
    pq.write_table(
        pa.Table.from_arrays([pa.array(["AC"]), pa.array([1]), pa.array([0])], ["seq", "label", "label"]), tmp_path / "two.parquet"
    )
    with pytest.raises(UserError, match="two columns are called 'label'"):
        read(toy_card(format="dataset"), tmp_path, "two.parquet")
    save_to_disk(tmp_path / "saved")
    with pytest.raises(UserError, match="the splits train lie here; name one of them, saved/train"):
        read(toy_card(format="dataset"), tmp_path, "saved")
    (tmp_path / "plain.txt").write_text("seq,label\nAC,1\n", encoding="utf-8")
    with pytest.raises(UserError, match=r"plain.txt:1: cannot be read"):
        read(toy_card(format="dataset"), tmp_path, "plain.txt")


def test_the_hub_is_asked_by_name_and_says_how_to_do_without(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")  # nobody listens there
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(UserError) as error:
        read(toy_card(format="dataset"), tmp_path, "hub:nobody/nothing:test")
    assert f"bring a copy of it to {tmp_path / 'nobody/nothing'}" in str(error.value)
    with pytest.raises(UserError, match="write hub:owner/name:split"):
        read(toy_card(format="dataset"), tmp_path, "hub:nothing")
    write = copy_of_the_hub(tmp_path / "x")
    with pytest.raises(UserError, match=r"some-data:sets:test:1: cannot be read \(.*test"):
        read(toy_card(format="dataset"), tmp_path, write.replace(":train", ":test"))


def test_a_copy_of_one_configuration_alone_is_enough(tmp_path):
    folder = tmp_path / "nobody" / "nothing" / "sets"
    folder.mkdir(parents=True)
    write_parquet(folder / "train-00000-of-00001.parquet")
    (folder.parent / "manifest.json").write_text("{}", encoding="utf-8")  # of `convert fetch`
    rows, _ = read(toy_card(format="dataset"), tmp_path, "hub:nobody/nothing:sets:train")
    assert len(rows) == len(ROWS)


def test_a_dataset_is_streamed_from_the_hub_at_one_commit(tmp_path):
    """In a process of its own: the Hub's client reads its address when it is imported."""
    hub, data = HubStandIn(tmp_path / "hub", "someone/far-away"), tmp_path / "hub" / "data"
    data.mkdir(parents=True)
    write_parquet(data / "train-00000-of-00001.parquet")
    (tmp_path / "hub" / "README.md").write_text("---\nlicense: mit\n---\n", encoding="utf-8")
    (tmp_path / "hub" / "far-away.py").write_text("raise SystemExit('a script of the dataset ran')", encoding="utf-8")
    path = write_card(tmp_path, format="dataset", files={"train": "hub:someone/far-away:train"}, test_share=0.2)
    command = [sys.executable, "-P", "-m", "llama_gene", "convert", "tasks", "--out", "out", f"tasks=[{{card: {path}, source: .}}]"]
    env = {name: value for name, value in os.environ.items() if not name.startswith("HF_") and not name.lower().endswith("_proxy")}
    env |= {"HF_ENDPOINT": f"http://127.0.0.1:{hub.server_port}", "HF_HOME": str(tmp_path / "home"), "HF_HUB_DISABLE_XET": "1"}
    env["PYTHONPATH"] = str(Path(__file__).parents[2])
    refused = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=300, check=False)
    assert refused.returncode == 2
    assert "scripts are no longer supported" in refused.stderr
    (tmp_path / "hub" / "far-away.py").unlink()
    env["HF_HOME"] = str(tmp_path / "another home")  # the client keeps what it fetched of a commit
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=300, check=False)
    hub.shutdown()
    assert done.returncode == 0, done.stderr
    assert done.stderr.startswith("downloads someone/far-away from the Hub; its licence: not known\n")
    made = read_manifest(tmp_path / "out", "tasks")
    assert made["inputs"] == {"x/toy/train": f"hub:someone/far-away:train@{COMMIT}"}
    assert made["counts"]["x/toy"]["files"]["train"]["read"] == len(ROWS)
    assert read_records(tmp_path / "out" / "test.jsonl")[0]["source"].startswith("hub:someone/far-away:train:")
    assert not list((tmp_path / "another home").rglob("*.parquet")), "streamed, not kept"


def folders(root: Path, rows: dict[str, str]) -> None:
    for name, content in rows.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(content, encoding="utf-8")


def test_a_folder_per_class_with_a_file_per_sequence(tmp_path):
    folders(
        tmp_path,
        {
            "set/train/off/0.txt": "ACGT\n",
            "set/train/off/1.txt": "acga",
            "set/train/on/0.txt": "TTTT",
            "set/train/on/1.txt": "TT-T",
            "set/test/on/0.txt": "GGGG",
            "set/train/more/0.txt": "CCCC",
            "set/train/note.txt": "no class",
        },
    )
    changes = {
        "format": "text",
        "inputs": [{"column": "text", "modality": "dna", "name": "sequence"}],
        "label": "class",
        "labels": {name: {"name": name, "meaning": ""} for name in ("off", "on")},
    }
    found, ledger = read(toy_card(**changes), tmp_path, "set/train/{class}/*.txt")
    assert [(one.row, one.inputs["sequence"], one.label) for one in found] == [
        ("off/0.txt:1", "ACGT", "off"),
        ("off/1.txt:1", "ACGA", "off"),
        ("on/0.txt:1", "TTTT", "on"),
    ]
    assert ledger.examples["letter outside dna"] == [f"{tmp_path}/set/train/on/1.txt:1 (sequence: '-' at position 3)"]
    assert ledger.examples["unknown label"] == [f"{tmp_path}/set/train/more/0.txt:1 ('more'; the card knows off, on)"]
    chosen, ledger = read(toy_card(**changes, where={"class": ["*", "!more", "!off"]}), tmp_path, "set/train/{class}/*.txt")
    assert ([one.label for one in chosen], ledger.read) == (["on"], 2)


def test_a_file_per_class_as_a_table(tmp_path):
    folders(tmp_path, {"off.csv": "id,seq\n1,AC\n2,GG\n", "on.csv": "id,seq\n1,TT\n"})
    changes = {"label": "class", "labels": {name: {"name": name, "meaning": ""} for name in ("off", "on")}}
    found, _ = read(toy_card(**changes), tmp_path, "{class}.csv")
    assert [(one.row, one.label) for one in found] == [("off.csv:1", "off"), ("off.csv:2", "off"), ("on.csv:1", "on")]
    found, ledger = read(toy_card(**changes, row_id=["id"]), tmp_path, "{class}.csv")  # ids that hold across the files
    assert ([one.row for one in found], ledger.reasons) == (["1", "2"], {"duplicated id": 1})


def test_one_card_many_tasks(tmp_path):
    folders(tmp_path, {f"dms/{name}.csv": f"seq,label\nACGT,{number % 2}\nAC{'G' * number},1\n" for number, name in enumerate("abc", 1)})
    out = converted(tmp_path, files={"test": "dms/{assay}.csv"}, task_per="assay")
    cards = {card.id: card for card in read_cards(out)}
    assert sorted(cards) == ["x/toy/a", "x/toy/b", "x/toy/c"]
    assert {card.n["test"] for card in cards.values()} == {2}
    records = read_records(out / "test.jsonl")
    assert {record["source"] for record in records if record["task"] == "x/toy/b"} == {"dms/b.csv:2", "dms/b.csv:3"}
    assert len({record["id"] for record in records}) == 6
    made = read_manifest(out, "tasks")["inputs"]
    assert len(set(made.values())) == 3, "each task knows its own file"
    (tmp_path / "dms" / "a b.csv").write_text("seq,label\nAC,1\n", encoding="utf-8")
    with pytest.raises(UserError, match="'a b' cannot be a task's name"):
        converted(tmp_path, files={"test": "dms/{assay}.csv"}, task_per="assay")


def test_splits_that_a_column_tells(tmp_path):
    rows = [{"seq": "ACGT" + "A" * n, "label": n % 2, "meta": {"chrom": f"chr{n}"}} for n in range(1, 20)]
    (tmp_path / "all.json").write_text(json.dumps(rows), encoding="utf-8")
    split_where = {"test": {"meta.chrom": "chr8"}, "dev": {"meta.chrom": ["chr1", "chr9"]}, "train": {"meta.chrom": ["!chr8", "!chr[19]"]}}
    out = converted(tmp_path, format="json", files=dict.fromkeys(("train", "dev", "test"), "all.json"), split_where=split_where)
    counts = read_manifest(out, "tasks")["counts"]["x/toy"]
    assert counts["n"] == {"train": 16, "dev": 2, "test": 1}
    assert all(ledger["read"] == 19 for ledger in counts["files"].values())
    assert counts["files"]["test"]["reasons"] == {"of another split": 18}
    assert read_records(out / "test.jsonl")[0]["inputs"][0]["letters"] == "ACGT" + "A" * 8


TEXTS = {"inputs": [{"column": "input", "modality": "protein", "name": "sequence", "inside": r"^```\s*([A-Z\s]+?)\s*```$"}]}


def test_own_wording_and_a_sequence_inside_a_text(tmp_path):
    rows = [
        {"instruction": "Name it {please}.", "input": "```\nMKVL\nWW\n```", "output": "A kinase."},
        {"instruction": "And this?", "input": "MKVL", "output": "B."},
        {"instruction": "  ", "input": "```\nMKVL\n```", "output": "C."},
        {"instruction": "Is <dna>A</dna> it?", "input": "```\nMKVL\n```", "output": "D."},
    ]
    (tmp_path / "test.json").write_text(json.dumps(rows), encoding="utf-8")
    words = {"format": "json", "label": "output", "kind": "text", "labels": None, "metrics": ["rouge_l"], "primary_metric": "rouge_l"}
    words |= {**TEXTS, "texts": ["instruction"], "prompts": OWN, "files": {"test": "test.json"}}
    (record,) = read_records(converted(tmp_path, **words, max_broken=1) / "test.jsonl")
    assert record["prompt"][0]["content"] == "Name it {please}. <protein>MKVLWW</protein>"
    assert record["completion"][0]["content"] == "A kinase."
    found, ledger = read(toy_card(**words), tmp_path, "test.json")
    assert [(one.texts, one.inputs) for one in found] == [({"instruction": "Name it {please}."}, {"sequence": "MKVLWW"})]
    assert ledger.reasons == {"no sequence inside the text": 1, "no text for the prompt": 1, "a sequence's tag inside a text": 1}


BED = {
    "format": "tsv",
    "header": False,
    "columns": ["chrom", "start", "end", "name", "score", "strand"],
    "label": "name",
    "inputs": [{"modality": "dna", "name": "sequence", "region": {"genome": "g.fa", "strand": "strand", "flank": 2}}],
    "labels": {name: {"name": name, "meaning": ""} for name in ("off", "on")},
}


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("width", [7, 60, 1_000])
def test_regions_of_a_genome_are_its_slices(tmp_path, width, end):
    draw = random.Random(width)
    genome = {f"chr{n}": "".join(draw.choices("ACGTacgt", k=200 + n * 7)) for n in range(3)}
    wrapped = [
        f">{name} whole{end}" + "".join(its[at : at + width] + end for at in range(0, len(its), width)) for name, its in genome.items()
    ]
    (tmp_path / "g.fa").write_bytes("".join(wrapped).encode())
    starts = draw.choices(range(2, 130), k=90)
    places = [(f"chr{n % 3}", start, start + draw.randint(1, 60), "+-."[n % 3]) for n, start in enumerate(starts)]
    wrong = [
        ("chr9", 5, 9, "+"),
        ("chr1", 1, 9, "+"),
        ("chr1", 9, 9, "+"),
        ("chr1", 200, 206, "+"),
        ("chr1", -5, 9, "+"),
        ("chr1", 5, 9, "?"),
    ]
    rows = "".join(f"{name}\t{start}\t{stop}\ton\t0\t{strand}\n" for name, start, stop, strand in places + wrong)
    (tmp_path / "x.bed").write_text(rows, encoding="utf-8")
    found, ledger = read(toy_card(**BED), tmp_path, "x.bed")
    for one, (name, start, stop, strand) in zip(found, places, strict=True):
        letters = genome[name][start - 2 : stop + 2].upper()
        assert one.inputs["sequence"] == (reverse_complement(letters) if strand == "-" else letters)
    assert ledger.reasons == {
        "no such chromosome": 1,
        "beyond the ends of the chromosome": 2,
        "an empty region": 1,
        "start or end is no number": 1,
        "strand is none of + - .": 1,
    }


def test_a_genome_that_cannot_be_indexed_is_named(tmp_path):
    (tmp_path / "x.bed").write_text("chr1\t3\t4\ton\t0\t+\n", encoding="utf-8")
    for content, words in (
        ("ACGT\n", "g.fa:1: not FASTA"),
        (">chr1\nACG\nACGT\n", "g.fa:3: lines of different lengths"),
        (">chr1\nACGT\nAC\nAC\n", "g.fa:4: lines of different lengths"),
        (">chr1\nACGT\n>chr1\nA\n", "g.fa:3: a chromosome without a name, or 'chr1' a second time"),
        ("", "g.fa:1: no chromosome"),
    ):
        (tmp_path / "g.fa").write_text(content, encoding="utf-8")
        with pytest.raises(UserError, match=words):
            read(toy_card(**BED), tmp_path, "x.bed")
    (tmp_path / "g.fa").write_bytes(gzip.compress(b">chr1\nACGT\n"))
    with pytest.raises(UserError, match="gz data"):
        read(toy_card(**BED), tmp_path, "x.bed")


OPTIONS = {
    "format": "dataset",
    "inputs": None,
    "texts": ["question"],
    "options": ["ideal", "distractors"],
    "label": "ideal",
    "kind": "multiclass",
    "labels": {letter: {"name": letter, "meaning": "an option"} for letter in "ABCD"},
    "list_choices": False,
    "prompts": {"train": ["{question}\n{options}"], "eval": "{question}\n{options}"},
    "metrics": ["accuracy"],
    "primary_metric": "accuracy",
    "files": {"test": "test.parquet"},
}


def test_options_of_each_row_and_questions_without_a_sequence(tmp_path):
    rows: list[dict[str, Any]] = [
        {"id": f"q{n}", "question": f"What is {n}?", "ideal": f"it is {n}", "distractors": [f"{n} and {k}, so" for k in range(2 + n % 2)]}
        for n in range(200)
    ]
    rows += [
        {"id": "same", "question": "?", "ideal": "a", "distractors": ["a", "b"]},
        {"id": "many", "question": "?", "ideal": "a", "distractors": list("bcdef")},
    ]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "test.parquet")
    out = converted(tmp_path, **OPTIONS)
    records = read_records(out / "test.jsonl")
    assert read_manifest(out, "tasks")["counts"]["x/toy"]["files"]["test"]["rejected"] == 2
    for record, row in zip(records, rows, strict=False):
        question, *shown = record["prompt"][0]["content"].split("\n")
        assert question == row["question"]
        assert sorted(line[3:] for line in shown) == sorted([row["ideal"], *row["distractors"]])
        assert f"{record['label']}) {row['ideal']}" in shown
        assert (record["choices"], record["inputs"]) == (list("ABCD"), [])
    first = sum(record["label"] == "A" for record in records)
    assert 40 <= first <= 120, "the place of the answer tells nothing"
    again = converted(tmp_path, **OPTIONS)
    assert read_records(again / "test.jsonl") == records
