"""What the cards say about real files, checked on those files. Skips, visibly, where they are not beside the checkout."""

from __future__ import annotations

from pathlib import Path

import pytest

from artefacts.errors import Ledger
from artefacts.folder import read_manifest
from data_convert.cards import find_cards, load_card
from data_convert.examples import Example, read_examples
from data_convert.prompts import grid_choices
from data_convert.tasks import TaskEntry, TasksRecipe, convert
from tokenizer.alphabets import DNA, PROTEIN
from tokenizer.readers import read_sequences, read_text

pytestmark = pytest.mark.shared
ROWS = {  # rows per split, from the benchmarks' descriptions; GUE splice has no train file in the shared data
    "gue/prom_core_all": {"train": 47_356, "dev": 5_920, "test": 5_920},
    "gue/tf_0": {"train": 32_378, "dev": 1_000, "test": 1_000},
    "gue/splice": {"dev": 4_562, "test": 4_562},
    "lucaone_type/protstab_tape": {"train": 53_614, "dev": 2_512, "test": 12_851},
    "lucaone_type/ncrnafam_nrc": {"train": 6_160, "test": 2_529},
}


def examples(data: Path, task: str, split: str) -> list[Example]:
    card = load_card(task)
    file = getattr(card.files, split)
    found, ledger = read_examples(card, data / file, Path(file))
    assert ledger["rejected"] == ledger["cropped"] == ledger["beyond_grid"] == 0
    return found


@pytest.mark.parametrize("task", ROWS)
def test_row_counts_and_every_label_is_used(shared_data, task):
    card = load_card(task)
    for split, rows in ROWS[task].items():
        if split == "train" and rows > 50_000:
            continue  # seconds; the other splits say as much about the format
        found = examples(shared_data, task, split)
        assert len(found) == rows
        if card.labels:
            assert {example.label for example in found} == {label.name for label in card.labels.values()}


def test_all_real_cards_are_checked():
    assert set(ROWS) == {card.id for card in find_cards(["gue/*", "lucaone_type/*"])}


@pytest.mark.parametrize("split", ["dev", "test"])
def test_splice_label_names_fit_the_motifs(shared_data, split):
    def share(label: str, start: int, motif: str) -> float:
        letters = [example.inputs["sequence"] for example in found if example.label == label]
        return sum(text[start : start + 2] == motif for text in letters) / len(letters)

    found = examples(shared_data, "gue/splice", split)
    assert share("acceptor", 198, "AG") > 0.98
    assert share("donor", 200, "GT") > 0.97
    assert share("neither", 198, "AG") < 0.6
    assert share("neither", 200, "GT") < 0.6


def test_stability_grid_spans_the_values(shared_data):
    card = load_card("lucaone_type/protstab_tape")
    grid = grid_choices(card)
    for split in ("dev", "test"):
        values = [float(example.label) for example in examples(shared_data, card.id, split)]
        assert float(grid[0]) <= min(values) <= max(values) <= float(grid[-1])


def test_overlap_named_in_the_ncrna_traps(shared_data):
    card = load_card("lucaone_type/ncrnafam_nrc")
    train = {example.key: example.label for example in examples(shared_data, card.id, "train")}
    known = [example for example in examples(shared_data, card.id, "test") if example.key in train]
    assert len(known) == 341
    assert all(train[example.key] == example.label for example in known)
    assert any("341 of 2,529" in trap for trap in card.traps)


def test_convert_with_the_official_dev_file_as_train(shared_data, tmp_path):
    entry = TaskEntry(
        card="gue/splice",
        source=shared_data,
        files={"train": "gue/splice/reconstructed/dev.csv", "test": "gue/splice/reconstructed/test.csv"},
        split_note="train is the official dev file",
        test=200,
    )
    (card,) = convert(TasksRecipe(out=tmp_path / "out", tasks=[entry]))
    assert card.n["test"] == 200
    assert card.n["train"] + card.n["dev"] == 4_562
    assert read_manifest(tmp_path / "out", "tasks")["counts"]["gue/splice"]["n"] == card.n


def test_genome_proteins_and_text_are_read(shared_data):
    (ecoli,) = read_sequences(shared_data / "genomes" / "ecoli_K12_MG1655_GCF_000005845.2.fna.gz", DNA, Ledger())
    assert len(ecoli.letters) == 4_641_652
    proteins = list(read_sequences(shared_data / "proteins" / "ecoli_K12_refseq_proteins.faa", PROTEIN, Ledger()))
    assert (len(proteins), sum(len(protein.letters) for protein in proteins)) == (4_298, 1_329_980)
    texts = list(read_text(shared_data / "text" / "openstax_biology.jsonl.gz", ledger := Ledger()))
    assert (len(texts), ledger.as_dict()["reasons"]) == (256, {"empty text": 1})
