"""The simulated organism: same seed same bytes, honest splits, answers that follow from the genes."""

from __future__ import annotations

import csv
import json
import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from artefacts.errors import UserError
from artefacts.folder import fingerprint, read_manifest
from data_convert.simulate.english import GRAMMAR
from data_convert.simulate.genes import Background, intron_places
from data_convert.simulate.organism import SimulateRecipe, Sizes, draw_organism_genome, simulate
from data_convert.simulate.proteins import FAMILIES, RESIDUES, STABILITY_STEP, draw_protein, function_text, measured_stability, stability
from data_convert.simulate.tasks import MAKERS, SPLITS
from data_convert.tasks.cards import load_card
from sequences.alphabets import ALPHABETS, DNA, PROTEIN, reverse_complement
from sequences.codons import translate

CARDS = Path(__file__).resolve().parents[2] / "configs" / "tasks" / "sim"
SMALL = Sizes(train=40, dev=8, test=12)
RECIPE = SimulateRecipe(
    out=Path("replaced by each test"),
    seed=7,
    train_chromosomes=1,
    heldout_chromosomes=1,
    genes_per_chromosome=60,
    train_documents=30,
    heldout_documents=5,
    **dict.fromkeys(MAKERS, SMALL),
)


def draw(out: Path, **changes: object) -> None:
    simulate(RECIPE.model_copy(update={"out": out, **changes}))


@pytest.fixture(scope="module")
def organism(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("organism") / "small"
    draw(out)
    return out


def rows(organism: Path, task: str, split: str) -> list[dict[str, str]]:
    with (organism / "tasks" / task / f"{split}.csv").open(newline="") as handle:
        return list(csv.DictReader(handle))


def sequences(organism: Path, part: str, kind: str = "genome") -> dict[str, str]:
    found = {}
    for record in (organism / kind / f"{part}.fa").read_text().split(">")[1:]:
        header, _, body = record.partition("\n")
        found[header.split()[0]] = body.replace("\n", "")
    return found


def documents(organism: Path, part: str) -> list[dict[str, str]]:
    return [json.loads(line) for line in (organism / "text" / f"{part}.jsonl").read_text().splitlines()]


def inputs(row: dict[str, str]) -> tuple[str, ...]:
    return tuple(value for key, value in row.items() if key not in ("id", "label"))


def test_the_same_recipe_gives_the_same_bytes_and_another_seed_others(organism: Path, tmp_path: Path) -> None:
    draw(tmp_path / "again")
    draw(tmp_path / "other", seed=8)
    assert fingerprint(tmp_path / "again") == fingerprint(organism)
    assert fingerprint(tmp_path / "other") != fingerprint(organism)


def test_more_text_does_not_change_the_genome_or_the_tasks(organism: Path, tmp_path: Path) -> None:
    draw(tmp_path / "more", train_documents=31)
    for part in ("genome", "proteins", "tasks"):
        assert fingerprint(tmp_path / "more" / part) == fingerprint(organism / part)


def test_an_existing_folder_is_refused(organism: Path) -> None:
    with pytest.raises(UserError, match="already exists"):
        draw(organism)


def test_the_files_say_that_they_are_simulated_and_what_they_count(organism: Path) -> None:
    manifest = read_manifest(organism, "organism")
    assert manifest["simulated"] is True
    assert "simulated" in (organism / "README.md").read_text()
    assert (organism / "genome" / "train.fa").read_text().startswith(">chr1 simulated organism\n")
    for part in ("train", "heldout"):
        assert manifest["counts"]["bases"][part] == sum(map(len, sequences(organism, part).values()))
        assert manifest["counts"]["genes"][part] == len(sequences(organism, part, "proteins")) == 60
    for task in MAKERS:
        assert {split: len(rows(organism, task, split)) for split in SPLITS} == SMALL.model_dump() == manifest["counts"]["examples"][task]


def test_splits_are_disjoint_and_ids_unique(organism: Path) -> None:
    ids = []
    for task in MAKERS:
        found = [inputs(row) for split in SPLITS for row in rows(organism, task, split)]
        assert len(set(found)) == len(found) == 60
        ids += [row["id"] for split in SPLITS for row in rows(organism, task, split)]
    assert len(set(ids)) == len(ids)


def test_heldout_examples_come_from_the_heldout_chromosomes_only(organism: Path) -> None:
    def both_strands(part: str) -> str:
        return "|".join(strand for bases in sequences(organism, part).values() for strand in (bases, reverse_complement(bases)))

    train, heldout = both_strands("train"), both_strands("heldout")
    train_proteins, heldout_proteins = ("|".join(sequences(organism, part, "proteins").values()) for part in ("train", "heldout"))
    for split in SPLITS:
        genome, proteins = (train, train_proteins) if split == "train" else (heldout, heldout_proteins)
        other_genome, other_proteins = (heldout, heldout_proteins) if split == "train" else (train, train_proteins)
        windows = [row["sequence"] for row in rows(organism, "splice", split)]
        windows += [row["sequence"] for row in rows(organism, "promoter", split) if row["label"] == "1"]
        fragments = [row["sequence"] for task in ("stability", "function") for row in rows(organism, task, split)]
        fragments += [row["protein"] for task in ("gene_protein", "interaction") for row in rows(organism, task, split)]
        windows += [row["dna"] for row in rows(organism, "interaction", split) if row["label"] == "1"]
        assert all(window in genome and window not in other_genome for window in windows)
        assert all(fragment in proteins and fragment not in other_proteins for fragment in fragments)


def test_dev_and_test_share_no_gene(organism: Path) -> None:
    names = {split: set[str]() for split in ("dev", "test")}
    for split, found in names.items():
        for row in rows(organism, "function", split):
            found.update(n for n, protein in sequences(organism, "heldout", "proteins").items() if protein.startswith(row["sequence"]))
    assert len(names["dev"]) == SMALL.dev
    assert len(names["test"]) == SMALL.test
    assert not names["dev"] & names["test"]


def test_everything_passes_its_alphabet_and_fits_its_card(organism: Path) -> None:
    assert {path.stem for path in CARDS.glob("*.yaml")} == set(MAKERS)
    for task in MAKERS:
        card = load_card(f"sim/{task}")
        assert card.simulated
        assert card.source.name == "simulated organism (this project)"
        assert len({*card.prompts.train, card.prompts.eval}) >= 4
        for split in SPLITS:
            assert getattr(card.files, split) == f"{task}/{split}.csv"
            for row in rows(organism, task, split):
                assert list(row) == ["id", *(part.column for part in card.inputs), card.label]
                for part in card.inputs:
                    letters = row[part.column]
                    assert ALPHABETS[part.modality].clean(letters) == letters
                    assert len(letters) <= card.max_letters
                if card.labels:
                    assert row["label"] in card.labels


def test_answers_on_the_cards_say_what_the_files_say(organism: Path) -> None:
    names = {task: {raw: label.name for raw, label in load_card(f"sim/{task}").labels.items()} for task in MAKERS}
    assert names["promoter"] == {"0": "background", "1": "promoter"}
    assert names["splice"] == {"0": "acceptor", "1": "donor", "2": "neither"}
    assert names["gene_protein"] == names["interaction"] == {"0": "no", "1": "yes"}
    grid = load_card("sim/stability").grid
    assert grid is not None
    assert (grid.low, grid.high, grid.step) == (0.0, 1.0, STABILITY_STEP)


def test_labels_are_balanced(organism: Path) -> None:
    def share(task: str, split: str) -> dict[str, int]:
        return dict(Counter(row["label"] for row in rows(organism, task, split)))

    assert share("promoter", "train") == share("gene_protein", "train") == share("interaction", "train") == {"0": 20, "1": 20}
    assert share("promoter", "test") == share("gene_protein", "test") == share("interaction", "test") == {"0": 6, "1": 6}
    assert share("splice", "train") == {"0": 12, "1": 12, "2": 16}


def test_real_sites_have_their_bases_at_the_centre_and_decoys_too(organism: Path) -> None:
    for split in SPLITS:
        for row in rows(organism, "splice", split):
            acceptor, donor = row["sequence"][38:40] == "AG", row["sequence"][40:42] == "GT"
            assert len(row["sequence"]) == 80
            assert {"0": acceptor, "1": donor, "2": acceptor or donor}[row["label"]]


def test_promoters_have_a_tata_box_at_no_fixed_column() -> None:
    genes = [placed.gene for chromosome in draw_organism_genome(RECIPE) for placed in chromosome.genes]
    boxes = [re.fullmatch("TATA[AT]A[AT]", gene.locus[gene.tata : gene.tata + 7]) is not None for gene in genes]
    assert 0.7 < np.mean(boxes) < 1
    assert {gene.tss - gene.tata for gene in genes} == set(range(25, 36))
    assert np.mean([gene.locus[gene.tss] == "A" for gene in genes]) > 0.9


def test_scrambled_promoters_differ_from_promoters_in_order_only(organism: Path) -> None:
    """Each scrambled window is some promoter's window but for a few bases, and holds as many of each base."""
    genes = [placed.gene for chromosome in draw_organism_genome(RECIPE) for placed in chromosome.genes]
    scrambled = 0
    for row in rows(organism, "promoter", "train"):
        window = row["sequence"]
        for gene in genes:
            originals = (gene.locus[gene.tss - column : gene.tss - column + 120] for column in range(75, 86))
            for original in originals:
                if original != window and sum(a != b for a, b in zip(original, window, strict=True)) <= 14:
                    assert row["label"] == "0"
                    assert Counter(original) == Counter(window)
                    scrambled += 1
    assert scrambled == SMALL.train // 4


def test_proteins_translate_back_from_the_chromosomes(organism: Path) -> None:
    genome = {name: s for part in ("train", "heldout") for name, s in sequences(organism, part).items()}
    proteins = {name: s for part in ("train", "heldout") for name, s in sequences(organism, part, "proteins").items()}
    strands = Counter[bool]()
    introns = 0
    for chromosome in draw_organism_genome(RECIPE):
        for placed in chromosome.genes:
            gene = placed.gene
            locus = genome[chromosome.name][placed.start : placed.start + len(gene.locus)]
            locus = reverse_complement(locus) if placed.minus else locus
            coding = "".join(locus[start:end] for start, end in gene.exons)
            assert len(coding) % 3 == 0
            assert translate(coding) == proteins[gene.name] + "*"
            assert all(locus[place : place + 2] == "GT" for place in gene.donors)
            assert all(locus[place - 2 : place] == "AG" for place in gene.acceptors)
            strands[placed.minus] += 1
            introns += len(gene.donors)
    assert min(strands.values()) > 20
    assert introns > 120


def test_pairs_fit_exactly_when_the_label_says_so(organism: Path) -> None:
    for split in SPLITS:
        for row in rows(organism, "gene_protein", split):
            assert len(row["gene"]) == 3 * len(row["protein"])
            assert (translate(row["gene"]) == row["protein"]) == (row["label"] == "1")


def test_an_interaction_needs_both_a_promoter_and_a_protein_of_the_nucleus(organism: Path) -> None:
    genes = [placed.gene for chromosome in draw_organism_genome(RECIPE) for placed in chromosome.genes]
    nuclear = {gene.protein[:80] for gene in genes if gene.family.inside == "nucleus"}
    promoters = {gene.locus[gene.tss - column : gene.tss - column + 120] for gene in genes for column in range(75, 86)}
    for split in SPLITS:
        found = Counter((row["dna"] in promoters, row["protein"] in nuclear, row["label"]) for row in rows(organism, "interaction", split))
        count = getattr(SMALL, split)
        assert found == {(True, True, "1"): count - 2 * (count // 4), (True, False, "0"): count // 4, (False, True, "0"): count // 4}


def test_stability_is_the_formula_on_the_grid(organism: Path) -> None:
    labels = []
    for split in SPLITS:
        for row in rows(organism, "stability", split):
            value = float(row["label"])
            assert re.fullmatch(r"[01]\.\d[05]", row["label"])
            assert 0 <= value <= 1
            assert abs(value - stability(row["sequence"])) < 0.025 + 5 * 0.02
            labels.append(value)
    assert np.std(labels) > 0.15


def test_stability_rewards_helices_and_punishes_breakers() -> None:
    assert stability("ALEKALEKALLLALEKALEKALLLALEKAL") > 0.8 > 0.2 > stability("PGSPGNPGSDDGPSNPGGPDGSPNGPGSPG")


@given(st.text(alphabet=RESIDUES, min_size=1, max_size=60), st.integers(0, 2**32 - 1))
def test_stability_ignores_order_and_stays_in_range(protein: str, seed: int) -> None:
    assert stability(protein) == pytest.approx(stability("".join(sorted(protein))))
    assert 0 <= float(measured_stability(np.random.default_rng(seed), protein)) <= 1


def test_function_texts_are_few_short_and_follow_from_the_protein(organism: Path) -> None:
    texts = {function_text(family, signal) for family in FAMILIES for signal in (False, True)}
    assert len(texts) == 24
    assert all(4 <= len(text.split()) <= 9 for text in texts)
    by_protein = {p.gene.protein: p.gene for chromosome in draw_organism_genome(RECIPE) for p in chromosome.genes}
    for split in SPLITS:
        for row in rows(organism, "function", split):
            (gene,) = [g for protein, g in by_protein.items() if protein.startswith(row["sequence"])]
            assert row["label"] == function_text(gene.family, gene.signal)


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from(FAMILIES), st.booleans())
def test_the_motif_lies_in_the_first_eighty_residues(seed: int, family, signal: bool) -> None:
    protein = draw_protein(np.random.default_rng(seed), family, signal)
    assert 60 <= len(protein) <= 140
    assert PROTEIN.clean(protein)[0] == "M"
    fragment, size = protein[:80], len(family.motif)
    agreement = max(sum(a == b for a, b in zip(fragment[i : i + size], family.motif, strict=True)) for i in range(len(fragment) - size + 1))
    assert agreement >= size / 2


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**32 - 1), st.text(alphabet="ACGT", min_size=60, max_size=300), st.integers(0, 5))
def test_introns_keep_their_distance(seed: int, coding: str, count: int) -> None:
    places = intron_places(np.random.default_rng(seed), coding, count)
    assert len(places) <= count
    assert all(b - a >= 20 for a, b in zip([0, *places], [*places, len(coding)], strict=True))


@pytest.mark.parametrize("seed", range(5))
def test_background_has_the_gc_share_asked_for_and_less_cpg_where_asked(seed: int) -> None:
    def cpg_ratio(cpg: float) -> float:
        background = Background(np.random.default_rng(seed), gc=0.42, cpg=cpg)
        bases = background.take(100_000) + background.take(200_000)
        assert len(bases) == len(DNA.clean(bases)) == 300_000
        assert sum(base in "CG" for base in bases) / len(bases) == pytest.approx(0.42, abs=0.01)
        return bases.count("CG") * len(bases) / (bases.count("C") * bases.count("G"))

    assert cpg_ratio(0.4) < 0.75 * cpg_ratio(1.0) < 0.75 * 0.95 * cpg_ratio(1.3)


def test_english_is_distinct_uses_the_answer_words_and_gives_no_answer_away(organism: Path) -> None:
    train, heldout = documents(organism, "train"), documents(organism, "heldout")
    assert (len(train), len(heldout)) == (30, 5)
    assert len({d["text"] for d in train + heldout}) == 35
    assert all(list(d) == ["id", "text"] and "{" not in d["text"] for d in train + heldout)
    text = " ".join(d["text"] for d in train)
    answers = {function_text(family, signal) for family in FAMILIES for signal in (False, True)}
    assert not any(answer.rstrip(".") in text for answer in answers)
    assert not re.search("[ACGT]{8}|[" + RESIDUES + "]{12}", text)
    assert len(set(re.findall(r"[a-z]+", text))) > 150
    assert re.search(r"\b0\.\d\d\b", text)


def test_the_grammar_knows_the_words_of_the_answers() -> None:
    known = set(re.findall(r"\w+", " ".join(alternative for group in GRAMMAR.values() for alternative in group).lower()))
    answers = " ".join(function_text(family, signal) for family in FAMILIES for signal in (False, True))
    for word in [*re.findall(r"\w+", answers.lower()), "promoter", "background", "donor", "acceptor", "neither", "yes", "no"]:
        assert word in known, word
    fields = {field for group in GRAMMAR.values() for alternative in group for field in re.findall(r"\{(\w+)\}", alternative)}
    assert fields <= {*GRAMMAR, "GENE", "NUMBER", "COUNT", "YEAR"}
    assert set(GRAMMAR) - {"sentence"} <= fields


def test_too_few_genes_is_an_error_that_says_what_to_raise(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"function, dev: .* raise genes_per_chromosome or heldout_chromosomes, or lower function\.dev"):
        draw(tmp_path / "out", function=Sizes(train=40, dev=30, test=40))
    with pytest.raises(UserError, match=r"promoter, train: .* raise genes_per_chromosome or train_chromosomes, or lower promoter\.train"):
        draw(tmp_path / "out", promoter=Sizes(train=400, dev=8, test=8))
    assert list(tmp_path.iterdir()) == []


def test_a_wrong_recipe_is_refused() -> None:
    with pytest.raises(ValueError, match="genes_per_chromosome"):
        SimulateRecipe(out=Path("x"), genes_per_chromosome=1)
