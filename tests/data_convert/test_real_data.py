"""What the cards say about real files, checked on those files. Skips, visibly, where they are not beside the checkout."""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path

import pytest

from artefacts.errors import Ledger
from artefacts.folder import read_manifest
from data_convert.tasks.cards import find_cards, load_card, read_cards
from data_convert.tasks.convert import convert
from data_convert.tasks.examples import Example, Reader, TaskLedger
from data_convert.tasks.records import read_records
from data_convert.tasks.task_recipe import TaskEntry, TasksRecipe
from sequences.alphabets import DNA, PROTEIN
from sequences.readers import read_sequences
from sequences.texts import read_texts

pytestmark = pytest.mark.shared
ROWS = {  # rows per file, from the benchmarks' descriptions and the manifest of the data
    "explained/promoter": {"dev": 5_920, "test": 5_920},
    "gue/emp_H3": {"dev": 1_497, "test": 1_497},
    "gue/mouse_3": {"train": 1_904, "dev": 239, "test": 239},
    "gue/prom_300_all": {"dev": 5_920, "test": 5_920},
    "gue/prom_300_tata": {"train": 4_904, "dev": 613, "test": 613},
    "gue/prom_core_all": {"train": 47_356, "dev": 5_920, "test": 5_920},
    "gue/splice": {"dev": 4_562, "test": 4_562},
    "gue/tf_0": {"train": 32_378, "dev": 1_000, "test": 1_000},
    "gue/tf_3": {"train": 27_294, "dev": 1_000, "test": 1_000},
    "lucaone_type/app_clan": {"train": 2_738},
    "lucaone_type/app_species": {"train": 1_200},
    "lucaone_type/central_dogma_150": {"train": 16_000},
    "lucaone_type/infa_h3n2": {"train": 7_761},
    "lucaone_type/ncrnafam_nrc": {"train": 6_160, "test": 2_529},
    "lucaone_type/ncrpi_rpi1807": {"train": 3_237},
    "lucaone_type/ncrpi_rpi369": {"train": 738},
    "lucaone_type/ppi_yeast": {"train": 11_188},
    "lucaone_type/protloc_deeplocpro": {"test": 1_131},
    "lucaone_type/protstab_tape": {"train": 53_614, "dev": 2_512, "test": 12_851},
    "lucaone_type/tax_bacteria": {"train": 1_388},
    "lucaone_type/tax_dengue": {"train": 1_388},
    "lucaone_type/tax_influenza": {"train": 1_388},
    "lucaone_type/tax_kingdom_mito": {"train": 1_979},
    "lucaone_type/tax_phylum_mito": {"train": 1_979},
    "lucaone_type/tax_vertebrate_mito": {"train": 1_979},
}
REJECTED = {
    "lucaone_type/infa_h3n2": {"no sequence of this id": 36},
    "lucaone_type/ncrpi_rpi369": {"letter outside rna": 10},
    "lucaone_type/tax_bacteria": {"of another task": 938},
    "lucaone_type/tax_dengue": {"of another task": 788},
    "lucaone_type/tax_influenza": {"of another task": 1_350},
    "lucaone_type/tax_phylum_mito": {"of another task": 557},
    "lucaone_type/tax_vertebrate_mito": {"of another task": 984},
}
"""All other files lose no row."""


def examples(data: Path, task: str, split: str) -> list[Example]:
    card = load_card(task)
    ledger = TaskLedger()
    found = list(Reader(card, data).read(getattr(card.files, split), ledger))
    assert (ledger.rejected, ledger.changes["beyond_grid"]) == (0, 0)
    return found


@pytest.fixture(scope="module")
def converted(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every real file, by one command."""
    out = tmp_path_factory.mktemp("real") / "records"
    convert(TasksRecipe(out=out, cards=[",".join(ROWS)], source=shared_data, missing="skip"))
    return out


@pytest.mark.parametrize("task", ROWS)
def test_all_real_files_convert_with_balanced_ledgers(converted: Path, task: str) -> None:
    counts = read_manifest(converted, "tasks")["counts"][task]
    assert {split: ledger["read"] for split, ledger in counts["files"].items()} == ROWS[task]
    reasons: Counter[str] = Counter()
    for ledger in counts["files"].values():
        assert ledger["read"] == ledger["written"] + ledger["rejected"]
        reasons.update(ledger["reasons"])
    assert reasons == REJECTED.get(task, {})
    assert sum(counts["n"].values()) == sum(ledger["written"] for ledger in counts["files"].values())
    card = next(card for card in read_cards(converted) if card.id == task)
    if card.labels and task != "lucaone_type/tax_influenza":  # 38 rows: a class may miss a split
        for split in counts["n"]:
            assert set(counts["classes"][split]) == {label.name for label in card.labels.values()}


def test_all_real_files_are_checked(shared_data: Path) -> None:
    there = {
        card.id
        for card in find_cards(["*"])
        if any((shared_data / name).is_file() for name in card.files.model_dump().values() if name) and not card.simulated
    }
    assert there == set(ROWS)


def test_records_of_real_files_are_read_back(converted: Path) -> None:
    records = read_records(converted / "test.jsonl")
    assert len(records) == sum(card.n.get("test", 0) for card in read_cards(converted))
    for record in records[:: len(records) // 500]:
        assert all(
            f"<{item['modality']}>{item['letters']}</{item['modality']}>" in record["prompt"][0]["content"] for item in record["inputs"]
        )


OFFICIAL = {  # LucaOne's example rows: label of the record where the class names are the card's own
    "central_dogma": ("CentralDogma", "no"),
    "supk_tax": ("SupKTax", "class 1"),
    "genus_tax": ("GenusTax", "class 82"),
    "species_tax": ("SpeciesTax", "class 172"),
    "prot_loc": ("ProtLoc", "secreted"),
    "prot_stab": ("ProtStab", -0.009999999776482),
    "ncrna_fam": ("ncRNAFam", "class 0"),
    "inf_a": ("InfA", "class 0"),
    "ppi": ("PPI", "yes"),
    "ncrpi": ("ncRPI", "no"),
}


@pytest.mark.parametrize("task", OFFICIAL)
def test_the_official_example_rows_of_lucaone_convert(shared_data: Path, tmp_path: Path, task: str) -> None:
    name, label = OFFICIAL[task]
    card = load_card(f"lucaone/{task}")
    source = tmp_path / "data"
    source.mkdir()
    shutil.copy(shared_data / "lucaone_tasks" / "format_examples" / f"{name}_prediction.csv", source / "test.csv")
    if card.label_file and not card.labels:  # the real label.txt are not among the data
        path = source / card.label_file
        path.parent.mkdir(parents=True)
        path.write_text("label\n" + "".join(f"class {index}\n" for index in range(173)), encoding="utf-8")
    entry = TaskEntry(card=card.id, source=source, files={"test": "test.csv"}, split_note="the example row")
    convert(TasksRecipe(out=tmp_path / "out", tasks=[entry]))
    ledger = read_manifest(tmp_path / "out", "tasks")["counts"][card.id]["files"]["test"]
    assert (ledger["read"], ledger["written"]) == (1, 1)
    (record,) = read_records(tmp_path / "out" / "test.jsonl")
    assert record["label"] == label
    if task == "ppi":  # the second protein has 2,677 residues
        assert (ledger["cropped"], [len(item["letters"]) for item in record["inputs"]]) == (1, [590, 2_046])


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
    grid = card.choices
    for split in ("dev", "test"):
        values = [float(example.label) for example in examples(shared_data, card.id, split)]
        assert float(grid[0]) <= min(values) <= max(values) <= float(grid[-1])


def test_overlap_named_in_the_ncrna_traps(shared_data):
    card = load_card("lucaone_type/ncrnafam_nrc")
    train = {example.inputs["sequence"]: example.label for example in examples(shared_data, card.id, "train")}
    known = [example for example in examples(shared_data, card.id, "test") if example.inputs["sequence"] in train]
    assert len(known) == 341
    assert all(train[example.inputs["sequence"]] == example.label for example in known)
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
    texts = list(read_texts(shared_data / "text" / "openstax_biology.jsonl.gz", ledger := Ledger()))
    assert (len(texts), ledger.as_dict()["reasons"]) == (256, {"empty text": 1})
