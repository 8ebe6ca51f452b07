"""What single cards promise: mended names, a dev set of its own, answers without literature, strands, memory."""

from __future__ import annotations

import json
import random
import tracemalloc
from pathlib import Path

import uniprot_writers
from task_files import write_files
from test_cards import write
from uniprot_writers import Invented

from data_convert.tasks.cards import TASKS, find_cards, load_card, read_cards
from data_convert.tasks.convert import convert
from data_convert.tasks.examples import Reader, TaskLedger
from data_convert.tasks.records import read_records
from data_convert.tasks.task_recipe import TaskEntry, TasksRecipe


def records(folder: Path, split: str) -> list[dict]:
    return read_records(folder / f"{split}.jsonl")


def test_the_benchmarks_are_whole():
    ids = {path.relative_to(TASKS).with_suffix("").as_posix() for path in TASKS.rglob("*.yaml")}
    assert len([name for name in ids if name.startswith("gue/")]) == 28
    assert len([name for name in ids if name.startswith("lucaone/")]) == 10
    for card in find_cards(["gue/*", "lucaone/*", "uniprot/*", "explained/*", "llama_gene/*", "lucaone_type/*"]):
        assert len(card.prompts.train) >= 5
        assert card.source.licence
        assert card.traps
    symmetric = {card.id for card in find_cards(["gue/*"]) if card.strand_symmetric}
    assert {name.split("/")[1].split("_")[0] for name in symmetric} == {"emp", "tf", "mouse"}


def test_every_pair_of_one_kind_says_whether_its_order_matters():
    """Proteins bind each other, and a distance or relation of two strains has no direction."""
    pairs = {card.id: card for card in find_cards(["*"]) if len(card.inputs) == 2 and card.inputs[0].modality == card.inputs[1].modality}
    assert all("symmetric" in card.model_fields_set for card in pairs.values()), "decided, not left at its default"
    symmetric = {"lucaone/ppi", "lucaone/inf_a", "lucaone_type/ppi_yeast", "lucaone_type/infa_h3n2"}
    assert {name for name, card in pairs.items() if card.symmetric} == symmetric


def test_the_originals_splice_names_are_mended(tmp_path):
    """Built from the motifs: AG ends an intron at 198-199, GT begins one at 200-201."""
    card = load_card("llama_gene/splice")
    draw = random.Random(0)
    made = {"acceptor": ("AG", "CC", "Non-Splice Sites"), "donor": ("CC", "GT", "Acceptor Sites"), "neither": ("CC", "CC", "Donor Sites")}
    rows = []
    for before, after, name in made.values():
        left, right = ("".join(draw.choices("AC", k=198)) for _ in range(2))
        instruction = (
            "Determine the Splice Site Prediction of following dna sequence, The result will be one of the following: "
            "Non-Splice Sites, Acceptor Sites, Donor Sites"
        )
        rows.append({"instruction": instruction, "input": left + before + after + right, "output": name})
    (tmp_path / "rows.json").write_text(json.dumps(rows), encoding="utf-8")
    found = list(Reader(card, tmp_path).read("rows.json", TaskLedger()))
    assert [example.label for example in found] == list(made)


def test_splice_cards_agree():
    assert [label.name for label in load_card("gue/splice").labels.values()] == ["acceptor", "donor", "neither"]
    assert [label.name for label in load_card("llama_gene/splice").labels.values()] == ["acceptor", "donor", "neither"]


def test_ncrpi_gets_a_dev_set_of_its_own(tmp_path):
    card = load_card("lucaone/ncrpi")
    write_files(card, tmp_path, rows=40)
    convert(TasksRecipe(out=tmp_path / "out", cards=[card.id], source=tmp_path))
    (resolved,) = read_cards(tmp_path / "out")
    assert resolved.n == {"train": 36, "dev": 4, "test": 40}
    assert "the official dev file is the test file (LucaOne issue 121)" in resolved.split_note
    assert "dev is 4 rows cut from train by seed 0" in resolved.split_note
    assert "label.txt names the classes" in resolved.split_note
    assert all("train.csv" in record["source"] for record in records(tmp_path / "out", "dev"))


def test_long_label_sets_are_asked_without_listing(tmp_path):
    for name in ("lucaone/genus_tax", "lucaone/species_tax", "lucaone/ncrna_fam"):
        card = load_card(name)
        assert not card.list_choices
        write_files(card, tmp_path)
        convert(TasksRecipe(out=tmp_path / "out", cards=[name], source=tmp_path), overwrite=True)
        for record in records(tmp_path / "out", "train"):
            assert "Class no." not in record["prompt"][0]["content"]
            assert record["label"] in record["choices"]
            assert record["completion"][0]["content"] == record["label"]


def test_uniprot_answers_lose_their_literature_and_records_keep_it(tmp_path):
    functions = [("", "Cuts after lysine (PubMed:7).", ["ECO:0000269"]), ("Isoform 2", "Does not cut (By similarity).", ["ECO:0000250"])]
    terms = [("P", "killing, of cells"), ("F", "protease activity"), ("P", "lysis"), ("C", "granule")]
    entries = [
        Invented(
            f"P{10000 + number}",
            sequence="MKVL" * 10 + "ACDE"[number % 4] * (number + 1),
            functions=functions,
            go=[(f"GO:000000{place}", aspect, name) for place, (aspect, name) in enumerate(terms, 1)],
            places=[["Cell membrane", "Single-pass membrane protein"], ["Secreted"]],
            ec=[] if number % 2 else ["3.4.21.78"],
        )
        for number in range(40)
    ]
    path = tmp_path / "swissprot" / "uniprot_sprot.dat.gz"
    path.parent.mkdir()
    path.write_text("".join(map(uniprot_writers.flat, entries)), encoding="utf-8")
    convert(TasksRecipe(out=tmp_path / "out", cards=["uniprot/*"], source=tmp_path))
    found = {record["task"]: record for record in records(tmp_path / "out", "train")}
    answers = {task.removeprefix("uniprot/"): record["completion"][0]["content"] for task, record in found.items()}
    assert answers == {
        "function": "Cuts after lysine. [Isoform 2]: Does not cut (By similarity).",
        "go_process": "killing, of cells; lysis",
        "go_function": "protease activity",
        "go_component": "granule",
        "ec": "3.4.21.78",
        "location": "Cell membrane; Secreted",
        "keywords": "3D-structure; Cytolysis",
        "family": "peptidase S1 family; Granzyme subfamily",
        "domain": "Trypsin",
    }
    meta = found["uniprot/function"]["meta"]
    assert meta["evidence"] == ["ECO:0000250", "ECO:0000269"]
    assert set(meta["references"]) == {"PubMed:7", "PubMed:11"}
    assert found["uniprot/go_process"]["meta"]["go"] == ["GO:0000001", "GO:0000003"]
    assert found["uniprot/location"]["meta"]["locations"] == ["Cell membrane; Single-pass membrane protein", "Secreted"]
    cards = {card.id: card for card in read_cards(tmp_path / "out")}
    assert sum(cards["uniprot/ec"].n.values()) == 20, "entries without the annotation are left out, and stop nothing"


def test_memory_does_not_grow_with_the_letters(tmp_path):
    source = tmp_path / "data"
    source.mkdir()
    draw = random.Random(0)
    lines = [f"{'ACGT'[number % 4] * 1990}{''.join(draw.choices('ACGT', k=10))},{number % 2}\n" for number in range(4_000)]
    (source / "train.csv").write_text("seq,label\n" + "".join(lines), encoding="utf-8")
    (source / "test.csv").write_text("seq,label\nAC,1\n", encoding="utf-8")
    card = write(tmp_path, max_letters=2000)
    del lines
    entry = TaskEntry(card=str(card), source=source)
    tracemalloc.start()
    convert(TasksRecipe(out=tmp_path / "out", tasks=[entry]))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (source / "train.csv").stat().st_size > 8_000_000
    assert peak < 4_000_000
