"""Splits that the conversion makes itself: swapped pairs stay together, and so do clusters where a recipe asks for it."""

from __future__ import annotations

import json
import random
import shutil
from collections import defaultdict
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from records_folder import letters, mutated
from test_cards import write
from test_tasks import lines, run, table

from artefacts.errors import UserError
from artefacts.folder import read_manifest
from artefacts.recipe import load
from data_convert.splits.grouping import Grouping
from data_convert.tasks.cards import load_card, read_cards
from data_convert.tasks.convert import convert, summary
from data_convert.tasks.task_recipe import TaskEntry, TasksRecipe
from sequences.alphabets import reverse_complement

PAIRS = {
    "inputs": [{"column": name, "modality": "protein", "name": name} for name in ("a", "b")],
    "prompts": {"train": ["{a} {b} {choices}"], "eval": "{a} and {b}: {choices}"},
    "files": {"train": "train.csv"},
    "test_share": 0.2,
    "max_letters": 400,
}
SPLITS = ("train", "dev", "test")


def pair_of(record: dict) -> tuple[str, ...]:
    return tuple(item["letters"] for item in record["inputs"])


def counted(out: Path) -> dict:
    return read_manifest(out)["counts"]["x/toy"]


# swapped pairs


@given(st.integers(0, 2**32), st.integers(8, 14), st.booleans())
@settings(max_examples=20, deadline=None)
def test_swapped_pairs_are_one_input_and_their_conflicts_are_counted(tmp_path_factory, seed, proteins, symmetric):
    """Against a count in plain words over what was written."""
    tmp_path, rng = tmp_path_factory.mktemp("swapped"), random.Random(seed)
    names = [letters(rng, "ACDEFG", 3) for _ in range(proteins)]
    rows = [(rng.choice(names), rng.choice(names), rng.randrange(2)) for _ in range(120)]
    rows += [(b, a, rng.choice([label, 1 - label])) for a, b, label in rows[:60]]
    table(tmp_path / "train.csv", [f"{a},{b},{label}" for a, b, label in rows], header="a,b,label")
    out = run(tmp_path, tmp_path, write(tmp_path, **PAIRS, symmetric=symmetric), seed=seed % 1000)
    written = {split: lines(out, split) for split in SPLITS}
    assert sum(map(len, written.values())) == len(rows)

    def key(record: dict) -> tuple[str, ...]:
        return tuple(sorted(pair_of(record))) if symmetric else pair_of(record)

    sides, answers = defaultdict(set), defaultdict(set)
    for split, records in written.items():
        for record in records:
            sides[key(record)].add(split)
            answers[key(record)].add(record["label"])
    assert all(len(found) == 1 for found in sides.values())
    assert counted(out)["inputs_also_in_train"] == {"dev": 0, "test": 0}
    conflicts = {split: sum(len(answers[key(record)]) > 1 for record in records) for split, records in written.items()}
    assert counted(out)["same_input_other_answer"] == conflicts
    for split, number in conflicts.items():
        assert (f"{split} {number}" in next(line for line in summary(out).splitlines() if "another answer" in line)) == (number > 0)


def test_a_swapped_pair_of_an_official_split_is_counted(tmp_path):
    table(tmp_path / "train.csv", ["MK,LV,1", "AA,CC,0"], header="a,b,label")
    table(tmp_path / "test.csv", ["LV,MK,0", "CC,DD,1"], header="a,b,label")
    files = {"train": "train.csv", "dev": "train.csv", "test": "test.csv"}
    for symmetric, also, other in ((True, 1, 1), (False, 0, 0)):
        out = run(tmp_path, tmp_path, write(tmp_path, **PAIRS | {"files": files}, symmetric=symmetric))
        assert counted(out)["inputs_also_in_train"]["test"] == also
        assert counted(out)["same_input_other_answer"]["test"] == other


@pytest.mark.shared
@pytest.mark.parametrize(("task", "rows"), [("lucaone_type/infa_h3n2", 7_725), ("lucaone_type/ppi_yeast", 11_188)])
def test_no_swapped_pair_of_the_real_files_is_on_two_sides(shared_data, tmp_path, task, rows):
    """The real files, and the same with a third of their rows once more the other way round."""
    card = load_card(task)
    file = shared_data / card.files.train
    if not file.is_file():
        pytest.skip(f"{file} is not there")
    source = tmp_path / "data"
    for path in {file, *(shared_data / item.sequences for item in card.inputs)}:
        (source / path.relative_to(shared_data)).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, source / path.relative_to(shared_data))
    plain = file.read_text().splitlines()
    swapped = ["\t".join([b, a, *rest]) for a, b, *rest in (line.split("\t") for line in plain[::3])]
    (source / card.files.train).chmod(0o644)
    (source / card.files.train).write_text("\n".join([*plain, *swapped]) + "\n")
    convert(TasksRecipe(out=tmp_path / "out", tasks=[TaskEntry(card=task, source=source)]))
    sides = defaultdict(set)
    for split in SPLITS:
        for record in lines(tmp_path / "out", split):
            sides[tuple(sorted(pair_of(record)))].add(split)
    assert all(len(found) == 1 for found in sides.values())
    found = read_manifest(tmp_path / "out")["counts"][task]
    assert found["files"]["train"]["written"] > rows * 1.3
    assert found["inputs_also_in_train"] == {"dev": 0, "test": 0}


# clusters


def families_of(seed: int, families: int, copies: int) -> list[tuple[str, int, int]]:
    """(sequence, label, family): copies, pieces and mutants of unrelated genes, on either strand."""
    rng, rows = random.Random(seed), []
    for family in range(families):
        gene = letters(rng, "ACGT", rng.randint(100, 140))
        for copy in range(rng.randint(1, copies)):
            dna = mutated(rng, gene, 0.97, "ACGT") if copy % 2 else gene[rng.randrange(30) :]
            rows.append((reverse_complement(dna) if rng.random() < 0.5 else dna, family % 2, family))
    rng.shuffle(rows)
    return rows


@given(st.integers(0, 2**32))
@settings(max_examples=8, deadline=None)
def test_no_cluster_stands_on_two_sides(tmp_path_factory, seed):
    tmp_path = tmp_path_factory.mktemp("clusters")
    rows = families_of(seed, 60, 6)
    table(tmp_path / "train.csv", [f"{dna},{label}" for dna, label, _ in rows])
    card = write(tmp_path, files={"train": "train.csv"}, test_share=0.2, max_letters=400)
    out = run(tmp_path, tmp_path, card, seed=seed % 1000, group="cluster")
    family_of = {dna: family for dna, _, family in rows}
    sides, sizes, labels = defaultdict(set), {}, {}
    for split in SPLITS:
        records = lines(out, split)
        sizes[split], labels[split] = len(records), sum(record["label"] == "on" for record in records) / len(records)
        for record in records:
            sides[family_of[record["inputs"][0]["letters"]]].add(split)
    assert all(len(found) == 1 for found in sides.values()), "whichever pieces of a family are alike, it is whole"
    assert sum(sizes.values()) == len(rows)
    assert sizes["test"] == pytest.approx(0.2 * len(rows), abs=0.05 * len(rows))
    assert sizes["dev"] == pytest.approx(0.1 * len(rows), abs=0.05 * len(rows))
    assert labels["test"] == pytest.approx(labels["train"], abs=0.2), "classes stay balanced"
    found = counted(out)["grouped"]
    assert found["asked"]["test"] == pytest.approx(0.2 * len(rows), abs=2), "rounded class by class"
    assert found["groups"] <= 60
    (resolved,) = read_cards(out)
    assert f"test is {sizes['test']} rows cut from train by seed {seed % 1000}" in resolved.split_note
    assert "no group stands on two sides of what is cut from train (exact, reverse-complement" in resolved.split_note
    again = run(tmp_path, tmp_path, card, "again", seed=seed % 1000, group="cluster")
    assert (again / "test.jsonl").read_bytes() == (out / "test.jsonl").read_bytes()


def test_a_split_by_rows_would_have_parted_them(tmp_path):
    """The same rows without `group`: families stand on two sides, so the property above says something."""
    rows = families_of(0, 60, 6)
    table(tmp_path / "train.csv", [f"{dna},{label}" for dna, label, _ in rows])
    out = run(tmp_path, tmp_path, write(tmp_path, files={"train": "train.csv"}, test_share=0.2, max_letters=400))
    family_of = {dna: family for dna, _, family in rows}
    train, test = ({family_of[record["inputs"][0]["letters"]] for record in lines(out, split)} for split in ("train", "test"))
    assert train & test
    assert "grouped" not in counted(out)


def test_the_files_own_split_is_not_moved(tmp_path):
    rows = [f"{dna},{label}" for dna, label, _ in families_of(1, 30, 3)]
    table(tmp_path / "train.csv", rows)
    table(tmp_path / "test.csv", rows[:5])
    card = write(tmp_path, max_letters=400)
    out = run(tmp_path, tmp_path, card, group="cluster")
    assert len(lines(out, "test")) == 5
    assert counted(out)["grouped"]["asked"].keys() == {"train", "dev"}
    table(tmp_path / "dev.csv", rows[:5])
    files = {"train": "train.csv", "dev": "dev.csv", "test": "test.csv"}
    out = run(tmp_path, tmp_path, write(tmp_path, files=files, max_letters=400), group="cluster")
    assert "group changes nothing: no split is cut from train" in read_cards(out)[0].split_note


def test_pairs_in_one_giant_group_are_refused_with_the_way_out(tmp_path):
    rng = random.Random(0)
    proteins = [letters(rng, "ACDEFGHIKLMNPQRSTVWY", 60) for _ in range(60)]
    rows = [f"{rng.choice(proteins)},{rng.choice(proteins)},{rng.randrange(2)}" for _ in range(400)]
    table(tmp_path / "train.csv", rows, header="a,b,label")
    card = write(tmp_path, **PAIRS, symmetric=True)
    with pytest.raises(UserError, match=r"x/toy: cannot cut 80 test rows .* holds \d+% of the rows.* say group\.pairs=unseen"):
        run(tmp_path, tmp_path, card, group="cluster")
    assert not (tmp_path / "out").exists()
    out = run(tmp_path, tmp_path, card, group={"pairs": "unseen"})
    trained = {protein for record in lines(out, "train") for protein in pair_of(record)}
    assert not trained & {protein for split in ("dev", "test") for record in lines(out, split) for protein in pair_of(record)}
    found = counted(out)
    assert found["grouped"]["left_out"] == len(rows) - sum(found["n"].values()) > 0
    assert f"{found['grouped']['left_out']} rows left out: their inputs are on two sides" in read_cards(out)[0].split_note


def test_a_recipe_asks_in_a_word_or_with_thresholds(tmp_path):
    path = tmp_path / "recipe.yaml"
    for text, identity in (("cluster", 0.8), ("{identity: 0.7}", 0.7)):
        path.write_text(f"out: o\nsource: s\ncards: [gue/*]\ngroup: {text}\n")
        recipe = load(TasksRecipe, path)
        assert recipe.group.identity == identity
        assert load(TasksRecipe, path, [f"group={text}"]) == recipe
        assert TasksRecipe.model_validate(json.loads(recipe.model_dump_json())) == recipe
    assert load(TasksRecipe, None, ["out=o", "source=s", "cards=[x]"]).group is None
    path.write_text("out: o\ntasks:\n- {card: a, source: b, group: {identiti: 0.7}}\n")
    with pytest.raises(UserError, match="did you mean 'identity'"):
        load(TasksRecipe, path)
    assert Grouping.model_validate("cluster") == Grouping()
