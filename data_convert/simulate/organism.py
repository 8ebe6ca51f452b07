"""Draw a whole simulated organism from a seed: genome, proteins, English, and six tasks with train, dev and test."""

import csv
import json
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from pydantic import Field

from artefacts.folder import check_absent, new_folder, write_manifest
from artefacts.recipe import Recipe
from data_convert.simulate.english import draw_documents
from data_convert.simulate.genes import Chromosome, Placed, draw_genome
from data_convert.simulate.tasks import INPUT_COLUMNS, MAKERS, SPLITS, Row, draw_task

STAGE = "organism"
LINE = 80  # letters in a line of FASTA


class Sizes(Recipe):
    """Examples of one task."""

    train: int = Field(ge=1)
    """Drawn from the training chromosomes."""
    dev: int = Field(ge=1)
    """Drawn from the held-out chromosomes, from other genes than test."""
    test: int = Field(ge=1)
    """Drawn from the held-out chromosomes."""


class SimulateRecipe(Recipe):
    """Generate the simulated organism: genomes, proteins, text and tasks, from a seed. The same recipe gives the same bytes (the
    manifest's time and versions apart).
    """

    out: Path
    """Folder to write."""
    seed: int = Field(default=1, ge=0)
    """Another seed is another organism: other background, codon usage, genes and sentences, the same families."""
    train_chromosomes: int = Field(default=12, ge=1)
    """Chromosomes to train on; with their genes, the source of all training examples."""
    heldout_chromosomes: int = Field(default=3, ge=1)
    """Chromosomes kept out of every training file; with their genes, the source of all dev and test examples."""
    genes_per_chromosome: int = Field(default=400, ge=2)
    """A gene with the background before it takes about 1,000 bases."""
    train_documents: int = Field(default=2400, ge=1)
    """English documents to train on, about 250 characters each."""
    heldout_documents: int = Field(default=240, ge=1)
    """English documents kept out of training."""
    promoter: Sizes = Sizes(train=8000, dev=300, test=500)
    """Promoter or background, from a 120-base window."""
    splice: Sizes = Sizes(train=8000, dev=300, test=500)
    """Donor, acceptor or neither, at the centre of an 80-base window."""
    gene_protein: Sizes = Sizes(train=2000, dev=300, test=500)
    """Whether about 150 bases of coding DNA encode a protein fragment."""
    interaction: Sizes = Sizes(train=4000, dev=300, test=500)
    """Whether a 120-base window is a promoter and a protein one of the nucleus, so that they may meet."""
    stability: Sizes = Sizes(train=2000, dev=200, test=300)
    """A number in [0, 1] for 30 to 60 residues."""
    function: Sizes = Sizes(train=2000, dev=200, test=300)
    """A short text for at most 80 residues."""

    def sizes(self, task: str) -> dict[str, int]:
        """Split -> examples of a task."""
        return getattr(self, task).model_dump()


def simulate(recipe: SimulateRecipe, *, overwrite: bool = False) -> None:
    """Write the organism's folder: genome/, proteins/, text/, tasks/<task>/{train,dev,test}.csv, README.md, manifest.json.

    Raises:
        UserError: `out` exists and `overwrite` is off, or the genome has too few genes for the examples asked for.
    """
    check_absent(recipe.out, overwrite)
    genome = draw_organism_genome(recipe)
    parts = {"train": genome[: recipe.train_chromosomes], "heldout": genome[recipe.train_chromosomes :]}
    genes = {part: [placed for chromosome in chromosomes for placed in chromosome.genes] for part, chromosomes in parts.items()}
    tasks = {
        task: draw_task(task, genes["train"], genes["heldout"], recipe.sizes(task), _stream(recipe, f"task {task}")) for task in MAKERS
    }
    with new_folder(recipe.out, overwrite=overwrite) as folder:
        counts: dict[str, dict] = {
            "bases": {
                part: _write_fasta(folder / "genome" / f"{part}.fa", ((f"{c.name} simulated organism", c.sequence) for c in its))
                for part, its in parts.items()
            },
            "genes": {part: len(placed) for part, placed in genes.items()},
            "residues": {part: _write_proteins(folder / "proteins" / f"{part}.fa", chromosomes) for part, chromosomes in parts.items()},
            "text_characters": _write_text(folder / "text", recipe, genes),
            "examples": {task: {split: len(rows[split]) for split in SPLITS} for task, rows in tasks.items()},
        }
        for task, rows in tasks.items():
            for split in SPLITS:
                _write_table(folder / "tasks" / task / f"{split}.csv", task, split, rows[split])
        (folder / "README.md").write_text(_readme(recipe, counts), encoding="utf-8")
        write_manifest(folder, STAGE, recipe=recipe.model_dump(mode="json"), inputs={}, counts=counts, simulated=True)


def draw_organism_genome(recipe: SimulateRecipe) -> list[Chromosome]:
    """All chromosomes, the training ones first."""
    return draw_genome(_stream(recipe, "genome"), recipe.train_chromosomes + recipe.heldout_chromosomes, recipe.genes_per_chromosome)


def _stream(recipe: SimulateRecipe, purpose: str) -> np.random.Generator:
    """A generator of its own for each purpose: asking for more sentences must not change the genome."""
    return np.random.default_rng([recipe.seed, *purpose.encode()])


def _write_fasta(path: Path, records: Iterable[tuple[str, str]]) -> int:
    """Write (header, sequence) pairs; return the number of letters."""
    path.parent.mkdir(exist_ok=True)
    letters = 0
    with path.open("w", encoding="utf-8", newline="\n") as handle:
        for header, sequence in records:
            letters += len(sequence)
            lines = (sequence[start : start + LINE] for start in range(0, len(sequence), LINE))
            handle.write(f">{header}\n" + "\n".join(lines) + "\n")
    return letters


def _write_proteins(path: Path, chromosomes: list[Chromosome]) -> int:
    """The header tells where the gene lies, and nothing about its function."""
    records = []
    for chromosome in chromosomes:
        for placed in chromosome.genes:
            place = f"{chromosome.name}:{placed.start + 1}-{placed.start + len(placed.gene.locus)}:{'-' if placed.minus else '+'}"
            records.append((f"{placed.gene.name} simulated organism {place}", placed.gene.protein))
    return _write_fasta(path, records)


def _write_text(folder: Path, recipe: SimulateRecipe, genes: dict[str, list[Placed]]) -> dict[str, int]:
    """Write the documents; the held-out ones speak of held-out genes. Returns the characters of each part."""
    folder.mkdir()
    rng = _stream(recipe, "text")
    seen: set[str] = set()
    characters = {}
    for part, count in (("train", recipe.train_documents), ("heldout", recipe.heldout_documents)):
        documents = draw_documents(rng, [placed.gene.name for placed in genes[part]], count, seen)
        with (folder / f"{part}.jsonl").open("w", encoding="utf-8", newline="\n") as handle:
            for number, text in enumerate(documents):
                handle.write(json.dumps({"id": f"text-{part}-{number:05d}", "text": text}) + "\n")
        characters[part] = sum(map(len, documents))
    return characters


def _write_table(path: Path, task: str, split: str, rows: list[Row]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as handle:
        writer = csv.writer(handle, lineterminator="\n")
        writer.writerow(["id", *INPUT_COLUMNS[task], "label"])
        writer.writerows([f"{task}-{split}-{number:05d}", *row] for number, row in enumerate(rows))


def _readme(recipe: SimulateRecipe, counts: dict[str, dict]) -> str:
    rows = "\n".join(f"| {task} | {n['train']:,} | {n['dev']:,} | {n['test']:,} |" for task, n in counts["examples"].items())
    bases, genes, characters = counts["bases"], counts["genes"], counts["text_characters"]
    return f"""# A simulated organism

Everything here is simulated, drawn from seed {recipe.seed}. No sequence is real, no sentence states a fact, and a score on these
tasks says whether a pipeline works, never what a model knows about biology.

| part | train | held out |
|---|---|---|
| chromosomes | {recipe.train_chromosomes} | {recipe.heldout_chromosomes} |
| bases | {bases["train"]:,} | {bases["heldout"]:,} |
| genes | {genes["train"]:,} | {genes["heldout"]:,} |
| residues | {counts["residues"]["train"]:,} | {counts["residues"]["heldout"]:,} |
| English, characters | {characters["train"]:,} | {characters["heldout"]:,} |

The held-out chromosomes are in no training file. They give the dev and test examples of all tasks, from different genes;
no dev or test input occurs in train.

| task | train | dev | test |
|---|---|---|---|
{rows}

- promoter: 1 promoter, 0 background (half of it promoters whose TATA box and initiator are scrambled)
- splice: 0 acceptor, 1 donor, 2 neither; the site is at the centre, and half of class 2 has GT there, half AG
- gene_protein: 1 if the DNA encodes the protein fragment, 0 if the fragment is another gene's
- interaction: 1 if the DNA is a promoter and the protein belongs to a family of the nucleus; half of 0 lacks the one, half the other
- stability: a function of the protein's composition, with a little noise, in steps of 0.05
- function: follows from the family's motif and from whether there is a signal peptide
"""
