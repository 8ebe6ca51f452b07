"""Leakage against a search of every pair, and splits in which no group stands on two sides."""

from __future__ import annotations

import json
import os
import random
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from records_folder import card_of, letters, mutated, write_records

import llama_gene
from artefacts.errors import UserError
from artefacts.folder import read_manifest
from data_convert.splits.assign import crossing, leak_controlled
from data_convert.splits.audit import AuditRecipe, audit, clusters
from data_convert.splits.leakage import ANY, CLASSES, PAIR, leakage, twins
from data_convert.splits.page import SPLIT_NAMES, matrix, verdict
from data_convert.splits.pool import SPLITS, TRAIN, Pool, read_pool
from data_convert.tasks.cards import read_cards
from data_convert.tasks.records import read_records
from pages.page import share
from sequences.alphabets import reverse_complement

AMINO = "ACDEFGHIKLMNPQRSTVWY"


def related_rows(seed: int, families: int, rows: int) -> list:
    """Rows of all kinds of tasks whose sequences are copies, reverse complements, pieces and mutants of a few."""
    rng = random.Random(seed)
    genes = [letters(rng, "ACGT", rng.randint(60, 90)) for _ in range(families)]
    proteins = [letters(rng, AMINO, rng.randint(40, 55)) for _ in range(families)]

    def dna() -> str:
        gene = rng.choice(genes)
        if (kind := rng.random()) < 0.3:
            begin = rng.randrange(20)
            gene = gene[begin : begin + rng.randint(20, 60)]
        elif kind < 0.5:
            gene = mutated(rng, gene, 0.95, "ACGT")
        return reverse_complement(gene) if rng.random() < 0.4 else gene

    def protein() -> str:
        sequence = rng.choice(proteins)
        return sequence[rng.randrange(10) :] if rng.random() < 0.3 else sequence

    found = []
    for _ in range(rows):
        task, split = rng.choice(["one", "two", "pair", "protein"]), rng.choices(SPLITS, (6, 2, 2))[0]
        if task == "pair":
            found.append((task, split, (dna(), protein()), rng.randrange(2)))
        elif task == "protein":
            found.append((task, split, (protein(),), rng.randrange(21) / 20))
        else:
            found.append((task, split, (dna(),), rng.randrange(2)))
    return found


def pool_of(tmp: Path, rows: list) -> Pool:
    return read_pool(write_records(tmp, rows))


# leakage, against a search of every pair


def kin(name: str, a: str, b: str, dna: bool) -> bool:
    """Whether two sequences are twins of a class, in plain words."""
    if name == "exact":
        return a == b
    if name == "reverse_complement":
        return dna and a == reverse_complement(b) and a != b
    short, long = sorted((a, b), key=len)
    return len(short) < len(long) and len(short) >= (16 if dna else 8) and (short in long or (dna and reverse_complement(short) in long))


def expected(rows: list, tested: str) -> dict:
    """(test task, input, train task, class) -> (records, compared, equal)."""
    found: dict = {}
    train = [row for row in rows if row[1] == "train"]
    for number, (task, split, sequences, label) in enumerate(rows):
        if split != tested:
            continue
        card = card_of(task)
        pair = len(sequences) == 2
        dna = [item.modality == "dna" for item in card.inputs]
        for name in CLASSES[:-1]:
            wanted = [*range(len(sequences)), *([None] if pair else [])]
            for place in wanted:
                votes: dict[str, list] = {}
                for other, _, theirs, their_label in train:
                    their_dna = [item.modality == "dna" for item in card_of(other).inputs]
                    if place is None:
                        if len(theirs) != 2:
                            continue
                        matches = [kin(name, a, b, d) for a, b, d in zip(sequences, theirs, dna, strict=True)]
                        same = [kin("exact", a, b, d) or (name == "containment" and d and a == reverse_complement(b))
                                for a, b, d in zip(sequences, theirs, dna, strict=True)]  # fmt: skip
                        # both inputs alike, at least one in the way of the class
                        hit = any(matches) and all(m or s for m, s in zip(matches, same, strict=True))
                    else:
                        hit = any(d == dna[place] and kin(name, sequences[place], s, d) for s, d in zip(theirs, their_dna, strict=True))
                    if hit:
                        votes.setdefault(other, []).append(their_label)
                key_of = card.inputs[place].name if place is not None else PAIR
                for other, bore in votes.items():
                    comparable = (other == task or {task, other} == {"one", "two"}) and (place is None or not pair)
                    counts = Counter(bore)
                    top = [value for value, times in counts.items() if times == max(counts.values())]
                    row = found.setdefault((f"t/{task}", key_of, f"t/{other}", name), [set(), 0, 0.0])
                    row[0].add(number)
                    row[1] += comparable
                    row[2] += (label in top) / len(top) if comparable else 0
                if votes:
                    found.setdefault((f"t/{task}", key_of, ANY, name), [set(), 0, 0.0])[0].add(number)
    return {key: (len(row[0]), row[1], pytest.approx(row[2], abs=0.06)) for key, row in found.items()}


@given(st.integers(0, 2**32), st.integers(1, 4), st.integers(1, 40))
@settings(max_examples=40)
def test_leakage_is_what_a_search_of_every_pair_finds(tmp_path_factory, seed, families, number):
    rows = related_rows(seed, families, number)
    pool = pool_of(tmp_path_factory.mktemp("records") / "r", rows)
    pairs, cluster = clusters(pool, AuditRecipe(records=["x"]))
    ways = twins(pool, pairs, cluster)
    for side, split in ((2, "test"), (1, "dev")):
        found = {
            (row["test_task"], row["input"], row["train_task"], name): tuple(row[name].values())
            for row in leakage(pool, pool.split, ways, side)
            for name in CLASSES[:-1]
            if row[name]["records"]
        }
        assert found == expected(rows, split)
        for row in leakage(pool, pool.split, ways, side):
            assert row["cluster"]["records"] >= max(row[name]["records"] for name in CLASSES[:-1])


def test_a_tie_of_labels_counts_half(tmp_path):
    sequence = "ACGTTGCAAGCTTACGGATC"
    rows = [("one", "test", (sequence,), 1), ("two", "train", (sequence,), 1), ("two", "train", (sequence,), 0)]
    pool = pool_of(tmp_path / "r", rows)
    found = leakage(pool, pool.split, twins(pool, *clusters(pool, AuditRecipe(records=["x"]))), 2)
    row = next(row for row in found if row["train_task"] == "t/two")
    assert row["exact"] == {"records": 1, "compared": 1, "equal": 0.5}


def test_a_swapped_pair_is_an_exact_twin(tmp_path):
    """(A, B) in test and (B, A) in train are one input of a symmetric card, and stand on one side of the new split."""
    rng = random.Random(0)
    proteins = [letters(rng, AMINO, 60) for _ in range(40)]
    rows = [("ppi", "train", (a, b), 1) for a, b in zip(proteins[::2], proteins[1::2], strict=True)]
    rows += [("ppi", "test", (rows[0][2][1], rows[0][2][0]), 0)]
    document = audit(AuditRecipe(records=[write_records(tmp_path / "r", rows)], write_split=tmp_path / "out"))
    assert card_of("ppi").symmetric
    row = next(row for row in document["leakage"]["official"]["test against train"] if row["input"] == PAIR)
    assert (row["exact"]["records"], row["n"]) == (1, 1)
    sides = {record["split"] for split in SPLITS for record in read_records(tmp_path / "out" / f"{split}.jsonl")
             if proteins[0] in record["prompt"][0]["content"]}  # fmt: skip
    assert len(sides) == 1


# groups and splits


@given(st.integers(0, 2**32), st.integers(2, 12), st.integers(5, 80), st.sampled_from(["join", "unseen"]))
@settings(max_examples=40)
def test_no_group_crosses_and_no_twin_is_left(tmp_path_factory, seed, families, number, policy):
    rows = related_rows(seed, families, number)
    pool = pool_of(tmp_path_factory.mktemp("records") / "r", rows)
    pairs, cluster = clusters(pool, AuditRecipe(records=["x"]))
    split = leak_controlled(pool, cluster, policy, seed % 5)
    assert not crossing(pool, split).any()
    owner = pool.side_record
    for group in np.unique(split.group):  # the same, record by record
        sides = {int(split.split[owner[side]]) for side in np.flatnonzero(split.group[pool.node] == group)} - {-1}
        assert len(sides) <= 1
    ways = twins(pool, pairs, cluster)
    for side, against in ((2, 0), (1, 0), (2, 1)):
        assert leakage(pool, split.split, ways, side, against) == []
    assert (split.split >= 0).all() or policy == "unseen"
    for row in split.report:
        assert sum(row["official"].values()) == sum(row["leak_controlled"].values()) + row["left_out"]


@given(st.integers(0, 2**32), st.randoms(use_true_random=False))
@settings(max_examples=25)
def test_the_order_of_rows_changes_neither_groups_nor_splits(tmp_path_factory, seed, shuffle):
    rows = related_rows(seed, 6, 40)
    mixed = rows.copy()
    shuffle.shuffle(mixed)
    results = []
    for one in (rows, mixed):
        pool = pool_of(tmp_path_factory.mktemp("records") / "r", one)
        split = leak_controlled(pool, clusters(pool, AuditRecipe(records=["x"]))[1], "join", 0)
        ordered = [row for name in SPLITS for row in one if row[1] == name]
        groups: dict[int, list] = {}
        for row, group in zip(ordered, split.group[pool.node[pool.sides[:-1]]].tolist(), strict=True):
            groups.setdefault(group, []).append(str(row))
        results.append(
            (
                sorted(sorted(group) for group in groups.values()),
                Counter((str(row), int(side)) for row, side in zip(ordered, split.split, strict=True)),
            )
        )
    assert results[0] == results[1]


def independent_rows(number: int, task: str = "one") -> list:
    rng = random.Random(7)
    return [(task, SPLITS[0 if place % 10 < 8 else place % 10 - 7], (letters(rng, "ACGT", 80),), place % 2) for place in range(number)]


def test_sizes_and_balance_stay_and_the_seed_decides(tmp_path):
    pool = pool_of(tmp_path / "r", independent_rows(400))
    cluster = np.arange(pool.nodes)
    split = leak_controlled(pool, cluster, "join", 0)
    (report,) = split.report
    assert report["leak_controlled"] == report["official"] == {"train": 320, "dev": 40, "test": 40}
    assert sorted(report["balance"]["test"]["leak_controlled"].values()) == [20, 20]
    assert np.array_equal(split.split, leak_controlled(pool, cluster, "join", 0).split)
    assert not np.array_equal(split.split, leak_controlled(pool, cluster, "join", 1).split)


def test_a_giant_group_goes_to_train_and_a_task_of_one_group_is_named(tmp_path):
    rng = random.Random(1)
    giant = letters(rng, "ACGT", 80)
    rows = independent_rows(100) + [("two", SPLITS[place % 3], (giant[: 80 - place],), 0) for place in range(30)]
    out = tmp_path / "out"
    document = audit(AuditRecipe(records=[write_records(tmp_path / "r", rows)], write_split=out, seed=3))
    two = next(row for row in document["split"]["tasks"] if row["task"] == "t/two")
    assert two["leak_controlled"] == {"train": 30, "dev": 0, "test": 0}
    assert two["largest_group"] == 1
    notes = document["split"]["notes"]["t/two"]
    assert any("cannot be split: no test record" in note for note in notes)
    card = next(card for card in read_cards(out) if card.id == "t/two")
    assert "cannot be split: no test record" in card.split_note
    assert card.n == {"train": 30, "dev": 0, "test": 0}


def test_pairs_that_make_one_giant_group_can_be_split_by_unseen_sequences(tmp_path):
    rng = random.Random(2)
    genes, proteins = ([letters(rng, few, 60) for _ in range(60)] for few in ("ACGT", AMINO))
    rows = [
        ("pair", rng.choices(SPLITS, (8, 1, 1))[0], (gene, protein), rng.randrange(2))
        for gene in genes
        for protein in rng.sample(proteins, 20)
    ]
    records = write_records(tmp_path / "r", rows)
    joined = audit(AuditRecipe(records=[records]))["split"]
    assert joined["tasks"][0]["leak_controlled"]["test"] == 0
    assert "cannot be split" in joined["notes"]["t/pair"][0]
    out = tmp_path / "out"
    unseen = audit(AuditRecipe(records=[records], pairs="unseen", write_split=out))["split"]["tasks"][0]
    assert unseen["leak_controlled"]["test"] > 20
    sides = {split: [{item["letters"] for item in record["inputs"]} for record in read_records(out / f"{split}.jsonl")] for split in SPLITS}
    seen = set().union(*sides["train"])
    assert all(not inputs & seen for inputs in sides["test"] + sides["dev"])
    ledger = read_manifest(out)["counts"]["t/pair"]
    assert ledger["rejected"] == unseen["left_out"] == len(rows) - sum(map(len, sides.values())) > 0
    assert ledger["read"] == ledger["written"] + ledger["rejected"] == len(rows)


# the folder that is written


def test_the_written_folder_is_a_records_folder(tmp_path, capsys):
    rows = related_rows(5, 30, 300)
    records = write_records(tmp_path / "r", rows)
    out, page = tmp_path / "controlled", tmp_path / "audit"
    assert llama_gene.main(["convert", "audit", str(records), "--out", str(page), "--write-split", str(out)]) == 0
    assert "## Leak-controlled split: test against train" in capsys.readouterr().out
    before = {record["source"] + record["task"]: record for split in SPLITS for record in read_records(records / f"{split}.jsonl")}
    cards = {card.id: card for card in read_cards(out)}
    ids, moved = set(), 0
    for split in SPLITS:
        for record in read_records(out / f"{split}.jsonl"):
            old = before.pop(record["source"] + record["task"])
            assert record["split"] == split == record["id"].split("/")[2]
            ids.add(record["id"])
            for field in ("task", "kind", "label", "choices", "inputs", "completion"):
                assert record[field] == old[field]
            words = record["prompt"][-1]["content"]
            asked = words.split("<")[0].strip().split("\n")[0]
            templates = cards[record["task"]].prompts
            wanted = templates.train if split == "train" else [templates.eval]
            assert any(asked[:12] in template or asked == "" for template in wanted)
            if old["split"] == split:
                assert record == old
            moved += old["split"] != split
    assert not before
    assert len(ids) == 300
    assert moved > 20
    n = {card.id: card.n for card in cards.values()}
    assert {task: sum(counts.values()) for task, counts in n.items()} == Counter(f"t/{row[0]}" for row in rows)
    assert all(card.split_note.startswith("leak-controlled split over all tasks") for card in cards.values())
    assert read_manifest(out, "tasks")["counts"]["t/one"]["inputs_also_in_train"] == {"dev": 0, "test": 0}
    again = audit(AuditRecipe(records=[out]))  # the official split of what was written
    assert again["leakage"]["official"] == {"test against train": [], "dev against train": [], "test against dev": []}
    assert again["residual"]["official"][0]["most"] < 0.8


def test_the_same_recipe_writes_the_same_bytes(tmp_path):
    records = write_records(tmp_path / "r", related_rows(6, 20, 120))
    for name in ("a", "b"):
        audit(AuditRecipe(records=[records], out=tmp_path / f"audit-{name}", write_split=tmp_path / name))
    for file in ("train.jsonl", "dev.jsonl", "test.jsonl", "cards.json"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()
    for file in ("audit.json", "audit.md", "audit.html"):
        assert (tmp_path / "audit-a" / file).read_bytes() == (tmp_path / "audit-b" / file).read_bytes()


def test_the_page_loads_nothing_and_says_what_the_json_says(tmp_path):
    document = audit(AuditRecipe(records=[write_records(tmp_path / "r", related_rows(8, 5, 80))], out=tmp_path / "audit"))
    page = (tmp_path / "audit" / "audit.html").read_text(encoding="utf-8")
    assert "http" not in page.replace("http-equiv", "")
    assert "<script" not in page
    total = next(row for row in document["leakage"]["official"]["test against train"] if row["train_task"] == ANY)
    assert f'{total["cluster"]["records"]:,} <span class="muted">' in page
    drawn = [matrix(document, split, name) for split in SPLIT_NAMES for name in CLASSES]
    assert page.count("<svg") == sum(any(map(any, cells)) for cells in drawn) + 1, "empty matrices are left out"
    # the first line says how it stands, on the page, in the terminal and in audit.md
    line, found = verdict(document), document["leakage"]["official"]["test against train"]
    of = {row["test_task"] for row in found if row["cluster"]["records"]}
    assert line.startswith(f"Official split: test records of {len(of)} of 4 tasks have a relative in train (")
    most = max((row for row in found if row["train_task"] == ANY), key=lambda row: row["cluster"]["records"] / row["n"])
    assert f"({most['test_task']} {share(most['cluster']['records'], most['n'])}, " in line
    assert "leak-controlled split: no test record has a relative in train." in line
    assert page.index(line) < page.index("distinct")
    assert (tmp_path / "audit" / "audit.md").read_text(encoding="utf-8").startswith(line)
    assert json.loads((tmp_path / "audit" / "audit.json").read_text(encoding="utf-8")) == document


def test_what_is_measured_after_the_split_is_below_the_threshold(tmp_path):
    """Clusters that the search cannot find in time are mended: with no near duplicates joined at all, the measurement finds them."""
    rng = random.Random(11)
    rows = []
    for place in range(200):
        gene = letters(rng, "ACGT", 80)
        copy = mutated(rng, gene, 0.93, "ACGT")
        rows += [("one", "train" if place % 5 else "test", (gene,), 0), ("one", "train" if place % 7 else "dev", (copy,), 1)]
    records = write_records(tmp_path / "r", rows)
    official = audit(AuditRecipe(records=[records]))["residual"]
    assert official["official"][0]["median"] > 0.85
    assert official["leak_controlled"]["test"][0]["most"] < 0.8
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("data_convert.splits.audit.join_near", lambda space, parents, least: 0)
        mended = audit(AuditRecipe(records=[records]))
    assert mended["residual"]["leak_controlled"]["test"][0]["most"] < 0.8
    assert mended["residual"]["leak_controlled"]["dev"][0]["most"] < 0.8


# errors, and MMseqs2


def test_a_run_stopped_between_its_two_outputs_goes_on(tmp_path, monkeypatch):
    records = write_records(tmp_path / "r", independent_rows(20))
    recipe = AuditRecipe(records=[records], out=tmp_path / "audit", write_split=tmp_path / "split")
    with monkeypatch.context() as patch:
        patch.setattr("data_convert.splits.page.write_page", None)
        with pytest.raises(TypeError):
            audit(recipe)
    assert recipe.write_split is not None
    assert recipe.write_split.is_dir()
    assert not (tmp_path / "audit").exists()
    before = (recipe.write_split / "manifest.json").stat().st_mtime_ns
    with pytest.raises(UserError, match="split: already exists"):
        audit(recipe.model_copy(update={"seed": 5}))
    audit(recipe)
    assert (tmp_path / "audit" / "audit.json").is_file()
    assert (recipe.write_split / "manifest.json").stat().st_mtime_ns == before
    with pytest.raises(UserError, match="already exists"):
        audit(recipe)


def test_bad_folders_are_refused_before_work(tmp_path):
    with pytest.raises(UserError, match=r"no cards\.json"):
        audit(AuditRecipe(records=[tmp_path]))
    records = write_records(tmp_path / "r", independent_rows(20))
    with pytest.raises(UserError, match="already exists"):
        audit(AuditRecipe(records=[records], out=records))
    with pytest.raises(UserError, match="beside the official one"):
        audit(AuditRecipe(records=[records], write_split=records), overwrite=True)
    lines = (records / "test.jsonl").read_text(encoding="utf-8").splitlines()
    for line, problem in (
        ("{", "not a record"),
        (json.dumps({"id": "x"}), "no 'task'"),
        (lines[0].replace('"split": "test"', '"split": "dev"'), "split 'dev' in the file of test"),
        (lines[0].replace("t/one/test/0", "t/one/test/1"), "stands in the folder twice"),
        (lines[0].replace('"task": "t/one"', '"task": "t/other"'), "not in cards.json"),
        (lines[0].replace('"letters": "', '"letters": "!'), "'!' is no letter of dna"),
    ):
        (records / "test.jsonl").write_text("\n".join([line, *lines[1:]]), encoding="utf-8")
        with pytest.raises(UserError, match=problem) as error:
            read_pool(records)
        assert "test.jsonl:" in str(error.value)


STAND_IN = """#!/usr/bin/env python3
# stands in for MMseqs2: every sequence joins the first one that shares its first 20 letters
import sys
assert sys.argv[1:5] == ["easy-cluster", "nodes.fasta", "found", "work"], sys.argv
kind = ["--dbtype", "2", "-k", "11"] if sys.argv[6] == "0.8" else ["--dbtype", "1", "-s", "7.5"]
assert sys.argv[5:] == ["--min-seq-id", sys.argv[6], "-c", "0.8", "--cov-mode", "1", *kind, "-v", "1"], sys.argv
rows = open("nodes.fasta").read().split(">")[1:]
first = {}
with open("found_cluster.tsv", "w") as out:
    for row in rows:
        name, letters = row.split()
        out.write(first.setdefault(letters[:20], name) + "\\t" + name + "\\n")
"""


def test_mmseqs_clusters_are_read_with_both_strands(tmp_path, monkeypatch):
    """Where the program is not at hand: a stand-in checks the command line and writes its table (test_splits_mmseqs.py runs it)."""
    rng = random.Random(3)
    head, tail = letters(rng, "ACGT", 20), letters(rng, "ACGT", 20)
    rows = [
        ("one", "train", (head + letters(rng, "ACGT", 30),), 0),
        ("one", "test", (reverse_complement(head + letters(rng, "ACGT", 30)),), 1),
        ("one", "test", (tail + letters(rng, "ACGT", 30),), 1),
        ("protein", "train", ("MKLV" * 8,), 0.5),
    ]
    records = write_records(tmp_path / "r", rows)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match="no `mmseqs` on PATH"):
        audit(AuditRecipe(records=[records], clusters="mmseqs"))
    program = tmp_path / "mmseqs"
    program.write_text(STAND_IN, encoding="utf-8")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}/usr/bin{os.pathsep}/bin{os.pathsep}{Path(os.sys.executable).parent}")
    pool = read_pool(records)
    _, cluster = clusters(pool, AuditRecipe(records=[records], clusters="mmseqs"))
    of = cluster[pool.node[pool.sides[:-1]]]
    train, other = (np.flatnonzero(pool.split == side) for side in (TRAIN, 2))
    assert of[train[0]] == of[other[0]] != of[other[1]]
    program.write_text("#!/bin/sh\necho out of memory >&2\nexit 1\n", encoding="utf-8")
    with pytest.raises(UserError, match="out of memory"):
        audit(AuditRecipe(records=[records], clusters="mmseqs"))
