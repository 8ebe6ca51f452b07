"""The cards of benchmarks, on small files that are laid out as they are published: folders, headers and values, written by hand here."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from artefacts.errors import UserError
from artefacts.folder import read_manifest
from data_convert.tasks.cards import find_cards, read_cards
from data_convert.tasks.convert import convert
from data_convert.tasks.records import read_records
from data_convert.tasks.task_recipe import TasksRecipe

DNA, PROTEIN = "ACGTTGCA" * 25, "MKVLAAGIVGLPNWRTE" * 4


def text(folder: Path, name: str, content: str) -> None:
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(content, encoding="utf-8")


def shard(folder: Path, repository: str, data: dict[str, list[dict[str, Any]]], config: str = "data") -> None:
    """A copy of a dataset's repository with one configuration."""
    place = folder / repository / config
    place.mkdir(parents=True)
    for split, rows in data.items():
        pq.write_table(pa.Table.from_pylist(rows), place / f"{split}-00000-of-00001.parquet")
    files = "".join(f"  - split: {split}\n    path: {config}/{split}-*\n" for split in data)
    name = "default" if config == "data" else config
    (place.parent / "README.md").write_text(f"---\nconfigs:\n- config_name: {name}\n  data_files:\n{files}---\n", encoding="utf-8")


def genomic_benchmarks(folder: Path) -> None:
    names = {
        "coding_vs": ("coding_seqs", "intergenomic_seqs"),
        "human_or_worm": ("human", "worm"),
        "regulatory": ("enhancer", "ocr", "promoter"),
    }
    for card in find_cards(["genomic_benchmarks/*"]):
        name = card.id.partition("/")[2]
        classes = next((found for part, found in names.items() if part in name), ("negative", "positive"))
        for split, rows in (("train", 10), ("test", 3)):
            for place in range(rows):
                text(folder, f"genomic_benchmarks/{name}/{split}/{classes[place % len(classes)]}/{place}.txt", DNA[place:])


def nt_revised(folder: Path) -> None:
    names = [card.id.partition("/")[2] for card in find_cards(["nt_revised/*"])]
    rows = [
        {
            "sequence": DNA[n:],
            "name": f"chr{n}:1-9",
            "label": n % (3 if name in ("enhancers_types", "splice_sites_all") else 2),
            "task": name,
        }
        for name in names
        for n in range(10)
    ]
    repository = "InstaDeepAI/nucleotide_transformer_downstream_tasks_revised"
    shard(folder, repository, {"train": rows, "test": [row for row in rows if row["name"] < "chr3"]})


def gue_plus(folder: Path) -> None:
    cells = ("GM12878", "HUVEC", "HeLa-S3", "IMR90", "K562", "NHEK")
    for name, classes in {**{f"EPI_{cell}": 2 for cell in cells}, "fungi_species_20": 20, "virus_species_40": 25}.items():
        for split in ("train", "dev", "test"):
            rows = "".join(f"{DNA[n:]},{n % classes}\n" for n in range(50))
            text(folder, f"gue-plus/{name}/{split}.csv", f"sequence,label\n{rows}")


def proteingym(folder: Path) -> None:
    for assay in ("BLAT_ECOLX_Stiffler_2015", "SPG1_STRSG_Wu_2016"):
        rows = "".join(f"M1{letter},{letter}{PROTEIN[1:]},{place - 2.5},{place % 2}\n" for place, letter in enumerate("ACDEF"))
        header = "mutant,mutated_sequence,DMS_score,DMS_score_bin\n"
        text(folder, f"proteingym/DMS_ProteinGym_substitutions/{assay}.csv", header + rows)


def mol_instructions(folder: Path) -> None:
    for name in ("protein_function", "general_function", "catalytic_activity", "domain_motif"):
        rows = [
            {
                "instruction": f"Examine the protein below ({n}).",
                "input": f"```\n{PROTEIN[n:]}\n```",
                "output": f"It binds ATP {n} times.",
                "metadata": {"protein_accession": f"P{n}", "split": "test" if n % 5 == 0 else "train", "annots": ["x"]},
            }
            for n in range(20)
        ]
        text(folder, f"mol-instructions/Protein-oriented_Instructions/{name}.json", json.dumps(rows, indent=4))


def opi(folder: Path) -> None:
    sets = {
        "SU/EC_number": ("CLEAN_EC_number", ("CLEAN_EC_number_new", "CLEAN_EC_number_price")),
        "SU/Fold_type": ("fold_type", ("fold_type",)),
        "SU/Subcellular_localization": ("subcell_loc", ("subcell_loc",)),
        "AP/Keywords": ("keywords", ("CASPSimilarSeq_keywords", "UniProtSeq_keywords")),
        "AP/GO": ("go", ("CASPSimilarSeq_go", "UniProtSeq_go")),
        "AP/Function": ("function", ("CASPSimilarSeq_function", "UniProtSeq_function")),
        "KM/gSymbol2Tissue": ("gene_symbol_to_tissue", ("gene_symbol_to_tissue",)),
        "KM/gSymbol2Cancer": ("gene_symbol_to_cancer", ("gene_symbol_to_cancer",)),
        "KM/gName2Cancer": ("gene_name_to_cancer", ("gene_name_to_cancer",)),
    }
    for task, (train, tests) in sets.items():
        given = [f"GENE{n}" if task[:2] == "KM" else PROTEIN[n:] for n in range(20)]
        rows = [{"instruction": f"Say what it is ({task}).", "input": one, "output": f"answer {n}"} for n, one in enumerate(given)]
        text(folder, f"opi/OPI_DATA/{task}/train/{train}_train.json", json.dumps(rows))
        for test in tests:
            nested = [
                {"id": row["output"], "instruction": row["instruction"], "instances": [{"input": row["input"], "output": "ok"}]}
                for row in rows
            ]
            text(folder, f"opi/OPI_DATA/{task}/test/{test}_test.jsonl", "".join(json.dumps(row) + "\n" for row in nested))


def peer(folder: Path) -> None:
    labels: dict[str, Callable[[int], Any]] = {
        "fold_prediction": lambda n: n * 50,
        "localization_prediction": lambda n: n % 10,
        "solubility_prediction": lambda n: n % 2,
        "fluorescence_prediction": lambda n: 1.3 + n / 10,
    }
    for name, label in labels.items():
        rows = [{"seq": PROTEIN[n:], "label": label(n)} for n in range(20)]
        shard(folder, f"proteinglm/{name}", {"train": rows, "valid": rows[:4], "test": rows[4:9]})


def tape(folder: Path) -> None:
    parts = ("train", "valid", "test_fold_holdout", "test_superfamily_holdout", "test_family_holdout")
    for part in parts:
        rows = [
            {"primary": PROTEIN[n:], "protein_length": 68 - n, "fold_label": n * 50, "superfamily_label": n, "id": f"{part}{n}"}
            for n in range(20)
        ]
        text(folder, f"tape/remote_homology/remote_homology_{part}.json", json.dumps(rows))


def lab_bench(folder: Path) -> None:
    rows = [
        {
            "id": f"q{n}",
            "question": f"What is the GC content of {DNA[n:]}?",
            "ideal": f"{n} %",
            "distractors": ["50.5 %", "60.5 %", "70, or 75 %"],
        }
        | {"canary": "BENCHMARK DATA", "subtask": "GC"}
        for n in range(20)
    ]
    shard(folder, "futurehouse/lab-bench", {"train": rows}, config="SeqQA")


def pubmedqa(folder: Path) -> None:
    rows = [
        {"pubid": n, "question": f"Does it help, {n}?", "context": {"contexts": [f"First {n}.", "Second."], "labels": ["AIMS", "RESULTS"]}}
        | {"long_answer": "It may.", "final_decision": ("yes", "no", "maybe")[n % 3]}
        for n in range(9)
    ]
    shard(folder, "qiaojin/PubMedQA", {"train": rows}, config="pqa_labeled")


SETS: dict[str, tuple[Callable[[Path], None], int, dict[str, int]]] = {
    "genomic_benchmarks": (genomic_benchmarks, 9, {"train": 9, "dev": 1, "test": 3}),
    "nt_revised": (nt_revised, 18, {"train": 9, "dev": 1, "test": 3}),
    "gue_plus": (gue_plus, 8, {"train": 50, "dev": 50, "test": 50}),
    "proteingym": (proteingym, 4, {"test": 5}),
    "mol_instructions": (mol_instructions, 4, {"train": 14, "dev": 2, "test": 4}),
    "opi": (opi, 9, {"train": 18, "dev": 2}),
    "peer/[fl]*": (peer, 3, {"train": 20, "dev": 4, "test": 5}),
    "peer/solubility": (peer, 1, {"train": 18, "dev": 2, "test": 5}),
    "tape": (tape, 3, {"train": 20, "dev": 20, "test": 20}),
    "lab_bench": (lab_bench, 1, {"test": 20}),
    "pubmedqa": (pubmedqa, 1, {"test": 9}),
}
SHOWN = {
    "mol_instructions/domain_motif": f"Examine the protein below (0). <protein>{PROTEIN}</protein>",
    "opi/gene_name_to_cancer": "Say what it is (KM/gName2Cancer). GENE0",
    "opi/go": f"Say what it is (AP/GO). <protein>{PROTEIN}</protein>",
    "pubmedqa/labeled": "First 0.\nSecond.\n\nBy this text, Does it help, 0? Answer with one of: yes, no, maybe.",
}
"""The first test record's prompt."""


def _pattern(name):
    return name if "/" in name else f"{name}/*"


@pytest.mark.parametrize("name", SETS)
def test_published_files_convert_and_balance(tmp_path, name):
    write, tasks, n = SETS[name]
    write(tmp_path)
    convert(TasksRecipe(out=tmp_path / "out", cards=[_pattern(name)], source=tmp_path))
    cards, counts = read_cards(tmp_path / "out"), read_manifest(tmp_path / "out", "tasks")["counts"]
    assert len(cards) == tasks
    for card in cards:
        files = counts[card.id]["files"]
        assert all(ledger["read"] == ledger["written"] + ledger["rejected"] for ledger in files.values())
        assert all(ledger["rejected"] == ledger.get("left_out", 0) for ledger in files.values())
        assert {split: card.n[split] for split in n} == n
        assert sum(card.n.values()) == sum(ledger["written"] for ledger in files.values())
    found: dict[str, dict[str, Any]] = {}
    for record in read_records(tmp_path / "out" / "test.jsonl"):
        found.setdefault(record["task"], record)
    for task, prompt in SHOWN.items():
        if task in found:
            assert found[task]["prompt"][0]["content"] == prompt
    for record in found.values():
        path, line = record["source"].rsplit(":", 1)
        assert int(line) >= 1
        assert path.startswith("hub:") or (tmp_path / path).is_file()


def test_every_new_card_is_tried_here():
    old = {"gue", "lucaone", "lucaone_type", "llama_gene", "uniprot", "explained", "sim", "sim_opaque"}
    assert {card.id.partition("/")[0] for card in find_cards(["*"])} == old | {name.partition("/")[0] for name in SETS}
    per_set = {name: len(find_cards([_pattern(name)])) for name in SETS}
    assert per_set | {"gue_plus": 8, "proteingym": 4} == {name: tasks for name, (_, tasks, _) in SETS.items()}


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("gue_plus/epi", "enhancer,promoter,label\nAC,GT,1\n", "column 1 is 'enhancer', not 'sequence'"),
        ("gue_plus/epi", "sequence,label\nAC|GT,1\n", r"letter outside dna: 1 .*'\|' at position 3"),
        ("gue_plus/virus_species_40", "sequence,label\nACGT,25\n", "unknown label: 1 .*'25'; the card knows 0, 1"),
        ("gue_plus/virus_species_40", "seq,label\nACGT,2\n", "column 1 is 'seq', not 'sequence'"),
    ],
)
def test_what_is_in_doubt_is_checked_on_load(tmp_path, name, content, words):
    folder = {"gue_plus/epi": "EPI_K562"}.get(name, name.partition("/")[2])
    for split in ("train", "dev", "test"):
        text(tmp_path, f"gue-plus/{folder}/{split}.csv", content)
    with pytest.raises(UserError, match=words):
        convert(TasksRecipe(out=tmp_path / "out", cards=[name], source=tmp_path))


def test_another_layout_of_the_hub_is_named(tmp_path):
    repository = "InstaDeepAI/nucleotide_transformer_downstream_tasks_revised"
    rows = [{"sequence": DNA, "name": "x", "label": 1}]
    shard(tmp_path, repository, {"train": rows, "test": rows})
    with pytest.raises(UserError, match="no column 'task'; columns found: sequence, name, label"):
        convert(TasksRecipe(out=tmp_path / "out", cards=["nt_revised/enhancers"], source=tmp_path))
