"""What a benchmark's figures hide, found by the audit and the baselines on small files in the published layouts."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
import uniprot_writers
from records_folder import letters, mutated
from test_published_layouts import pubmedqa, shard, text
from uniprot_writers import Invented

import llama_gene
from artefacts.errors import UserError
from data_convert.splits.audit import AuditRecipe, audit
from data_convert.tasks.cards import read_cards
from data_convert.tasks.convert import convert
from data_convert.tasks.records import read_records
from data_convert.tasks.task_recipe import TasksRecipe
from eval.judge.score import score

NT = "InstaDeepAI/nucleotide_transformer_downstream_tasks_revised"


def converted(source: Path, out: Path, *cards: str) -> Path:
    convert(TasksRecipe(out=out, cards=[*cards], source=source))
    return out


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    """60 windows of each of two collections, split by GUE one way and by NT another, 20 of NT's own, and questions in words.

    Of NT's 20 test rows 14 are GUE's: 10 stand in its train file, 2 in dev, 2 in test.
    """
    source, draw = tmp_path_factory.mktemp("traps"), random.Random(0)
    windows = [(letters(draw, "ACGT", 300), number % 2) for number in range(80)]
    parts = {"train": windows[:40], "dev": windows[40:50], "test": windows[50:60]}
    for split, rows in parts.items():
        text(source, f"gue/prom/prom_300_all/{split}.csv", "sequence,label\n" + "".join(f"{dna},{label}\n" for dna, label in rows))
    tested = [*windows[:10], *windows[40:42], *windows[50:52], *windows[60:66]]
    trained = [one for one in windows if one not in tested]
    shard(
        source,
        NT,
        {
            split: [{"sequence": dna, "name": "chr1:1-9", "label": label, "task": "promoter_all"} for dna, label in rows]
            for split, rows in (("train", trained), ("test", tested))
        },
    )
    pubmedqa(source)
    gue = converted(source, source / "of-gue", "gue/prom_300_all")
    return gue, converted(source, source / "of-nt", "nt_revised/promoter_all", "pubmedqa/labeled"), source


def exact(document: dict[str, Any], tested: str, trained: str) -> dict[str, Any]:
    rows = document["leakage"]["official"]["test against train"]
    return next(row["exact"] for row in rows if (row["test_task"], row["train_task"]) == (tested, trained))


def test_nt_s_promoters_are_gue_s_split_again(both: tuple[Path, Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    gue, nt, _ = both
    assert llama_gene.main(["convert", "audit", str(gue), str(nt), "--out", str(tmp_path / "audit")]) == 0
    document = json.loads((tmp_path / "audit" / "audit.json").read_text("utf-8"))
    found = exact(document, "nt_revised/promoter_all", "gue/prom_300_all")
    assert (found["records"], found["compared"], found["equal"]) == (10, 10, 10)
    trained = {record["inputs"][0]["letters"] for record in read_records(nt / "train.jsonl") if record["inputs"]}
    again = sum(record["inputs"][0]["letters"] in trained for record in read_records(gue / "test.jsonl"))
    assert exact(document, "gue/prom_300_all", "nt_revised/promoter_all")["records"] == again > 0
    said = capsys.readouterr().out
    assert "nt_revised/promoter_all" in said
    assert document["without_sequence"] == {"pubmedqa/labeled": {"train": 0, "dev": 0, "test": 9}}
    assert "Set aside: records without a sequence" in said
    assert "pubmedqa/labeled: 9 records without a sequence are set aside" in (tmp_path / "audit" / "audit.html").read_text("utf-8")


def test_a_folder_audited_alone_finds_nothing(both: tuple[Path, Path, Path]) -> None:
    for folder in both[:2]:
        assert not audit(AuditRecipe(records=[folder]))["leakage"]["official"]["test against train"]


def test_records_without_a_sequence_stay_in_the_split_that_is_written(both: tuple[Path, Path, Path], tmp_path: Path) -> None:
    _, nt, _ = both
    audit(AuditRecipe(records=[nt], write_split=tmp_path / "anew"))
    before, after = ({r["id"]: r for r in read_records(folder / "test.jsonl") if not r["inputs"]} for folder in (nt, tmp_path / "anew"))
    assert before == after
    assert len(after) == 9
    cards = {card.id: card for card in read_cards(tmp_path / "anew")}
    assert cards["pubmedqa/labeled"].n == {"test": 9}
    assert "9 records without a sequence stay where they are" in cards["pubmedqa/labeled"].split_note
    moved = [r for split in ("train", "dev", "test") for r in read_records(tmp_path / "anew" / f"{split}.jsonl") if r["inputs"]]
    assert len(moved) == sum(cards["nt_revised/promoter_all"].n.values()) == 80


def test_what_cannot_be_audited_is_refused(both: tuple[Path, Path, Path], tmp_path: Path) -> None:
    gue, nt, source = both
    with pytest.raises(UserError, match="a split is written of one folder"):
        audit(AuditRecipe(records=[gue, nt], write_split=tmp_path / "anew"))
    again = converted(source, tmp_path / "again", "gue/prom_300_all")
    with pytest.raises(UserError, match=r"task 'gue/prom_300_all' stands in .* too"):
        audit(AuditRecipe(records=[gue, again]))
    words = converted(source, tmp_path / "words", "pubmedqa/labeled")
    with pytest.raises(UserError, match="holds no record with a sequence"):
        audit(AuditRecipe(records=[words]))


def scored(records: Path, out: Path, *systems: str) -> dict[str, Any]:
    command = ["eval", "baselines", "--records", str(records), "--out", str(out / "baselines"), f"systems=[{', '.join(systems)}]"]
    assert llama_gene.main(command) == 0
    return score(records, out / "baselines", out / "metrics.json", seed=0)["tasks"][0]["systems"]


def test_negatives_from_elsewhere_are_told_by_their_composition(tmp_path: Path) -> None:
    """Genomic Benchmarks' layout: positives of 60 % GC, negatives of 40 %, not one motif."""
    draw = random.Random(0)
    for split, n in (("train", 120), ("test", 60)):
        for number in range(n):
            for name, bases in (("positive", "ACCGGT"), ("negative", "AATTCG")):
                dna = "".join(draw.choices(bases, k=200))
                text(tmp_path, f"genomic_benchmarks/human_enhancers_cohn/{split}/{name}/{number}.txt", dna)
    records = converted(tmp_path, tmp_path / "records", "genomic_benchmarks/human_enhancers_cohn")
    systems = scored(records, tmp_path, "kmer", "majority")
    assert systems["kmer"]["metrics"]["accuracy"]["value"] > 0.9
    assert systems["majority"]["metrics"]["accuracy"]["value"] < 0.6


def test_texts_of_uniprot_are_answered_by_the_nearest_neighbour(tmp_path: Path) -> None:
    """Families of ten whose entries say the same, as UniProt's curators write (By similarity)."""
    draw, entries = random.Random(0), []
    for family in range(12):
        ancestor = letters(draw, "ACDEFGHIKLMNPQRSTVWY", 120)
        said = " ".join(draw.sample(["binds", "cuts", "carries", "folds", "copies", "heme", "zinc", "tubulin", "sugar", "DNA"], 6))
        entries += [
            Invented(
                f"P{10000 + 10 * family + member}",
                sequence=mutated(draw, ancestor, 0.8, "ACDEFGHIKLMNPQRSTVWY"),
                functions=[("", f"Protein that {said} (By similarity).", ["ECO:0000250"])],
            )
            for member in range(10)
        ]
    text(tmp_path, "swissprot/uniprot_sprot.dat.gz", "".join(map(uniprot_writers.flat, entries)))
    records = converted(tmp_path, tmp_path / "records", "uniprot/function")
    systems = scored(records, tmp_path, "nearest", "majority")
    assert systems["nearest"]["metrics"]["exact_match"]["value"] > 0.9
    assert systems["majority"]["metrics"]["exact_match"]["value"] < 0.5
    leak = audit(AuditRecipe(records=[records]))["leakage"]["official"]["test against train"]
    assert next(row["cluster"]["records"] for row in leak if row["train_task"] == "any task") > 0
