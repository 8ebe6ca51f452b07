"""The six tasks of the simulated organism. Every answer is known because the simulation put it there.

A task's train examples come from the training chromosomes; its dev and test examples from two disjoint sets of genes of
the held-out chromosomes.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np

from artefacts.errors import UserError
from data_convert.simulate.genes import INITIATOR, INITIATOR_START, IUPAC, TATA, Placed
from data_convert.simulate.proteins import function_text, measured_stability
from data_convert.tasks.mixing import SPLITS
from sequences.alphabets import reverse_complement

Row = tuple[str, ...]
"""The inputs, then the label."""

PROMOTER_WINDOW = 120
PROMOTER_TSS = (75, 85)  # column of the transcription start, both ends included
SPLICE_WINDOW = 80
SPLICE_CENTRE = 40  # a donor's GT fills columns 40-41, an acceptor's AG columns 38-39 (0-based)
PAIR_RESIDUES = (45, 55)
SCRAMBLES = 12  # orders tried, of which the least like the motif is taken
STABILITY_RESIDUES = (30, 60)
FUNCTION_RESIDUES = 80
NUCLEUS = "nucleus"


class Draw:
    """Draws rows for one split of one task: never the same inputs twice in the task, never fewer than asked for."""

    def __init__(self, task: str, split: str, seen: set[Row]) -> None:
        self._seen = seen
        self._place = f"simulated organism, task {task}, {split}"
        self._remedy = f"raise genes_per_chromosome or {'train' if split == 'train' else 'heldout'}_chromosomes, or lower {task}.{split}"
        self.rows: list[Row] = []

    def take(self, what: str, candidates: Iterable[Row], count: int) -> None:
        """Add the first `count` candidates whose inputs are new. Raises UserError if there are too few."""
        found = 0
        for row in candidates:
            if found == count:
                return
            if row[:-1] not in self._seen:
                self._seen.add(row[:-1])
                self.rows.append(row)
                found += 1
        if found < count:
            raise UserError(f"{self._place}: the genes give {found} {what}, {count} are needed; {self._remedy}")


def promoter(draw: Draw, genes: Sequence[Placed], count: int, rng: np.random.Generator) -> None:
    """Half promoters; a quarter background; a quarter promoters whose two motifs are scrambled, so that composition gives nothing away."""
    scrambled, background = count // 4, count // 4
    draw.take("promoters", ((_promoter_window(p, p.gene.locus, rng), "1") for p in shuffled(genes, rng)), count - scrambled - background)
    draw.take("promoters to scramble", ((_promoter_window(p, _scrambled(p, rng), rng), "0") for p in shuffled(genes, rng)), scrambled)
    draw.take("background windows", ((_spacer_window(p, rng), "0") for p in shuffled(genes, rng)), background)


def _promoter_window(placed: Placed, locus: str, rng: np.random.Generator) -> str:
    start = placed.gene.tss - int(rng.integers(PROMOTER_TSS[0], PROMOTER_TSS[1] + 1))
    return locus[start : start + PROMOTER_WINDOW]


def _scrambled(placed: Placed, rng: np.random.Generator) -> str:
    """The locus with the bases of the TATA box, and those of the initiator, in the order that least resembles them."""
    locus = placed.gene.locus
    for start, consensus in ((placed.gene.tata, TATA), (placed.gene.tss - INITIATOR_START, INITIATOR)):
        end = start + len(consensus)
        orders = ["".join(rng.permutation(list(locus[start:end]))) for _ in range(SCRAMBLES)]
        # The bases around are looked at as well: beside an A and a T, half a box is a box again.
        around = [locus[start - 6 : start] + order + locus[end : end + 6] for order in orders]
        resemblance = [max(_matches(piece[i : i + len(consensus)], consensus) for i in range(13)) for piece in around]
        locus = locus[:start] + orders[int(np.argmin(resemblance))] + locus[end:]
    return locus


def _matches(bases: str, consensus: str) -> int:
    """Bases that agree with a consensus in IUPAC letters."""
    return sum(base in IUPAC[letter] for base, letter in zip(bases, consensus, strict=True))


def _spacer_window(placed: Placed, rng: np.random.Generator) -> str:
    start = int(rng.integers(len(placed.spacer) - PROMOTER_WINDOW + 1))
    window = placed.spacer[start : start + PROMOTER_WINDOW]
    return reverse_complement(window) if rng.random() < 0.5 else window


def splice(draw: Draw, genes: Sequence[Placed], count: int, rng: np.random.Generator) -> None:
    """30 % acceptors (0), 30 % donors (1), 40 % neither (2): half of those with GT, half with AG where the site would be."""
    sites = round(0.3 * count)
    draw.take("acceptor sites", _sites(genes, rng, lambda placed: placed.gene.acceptors, "0"), sites)
    draw.take("donor sites", _sites(genes, rng, lambda placed: placed.gene.donors, "1"), sites)
    with_gt = (count - 2 * sites) // 2
    draw.take("places with GT that are no donor", _sites(genes, rng, lambda placed: _decoys(placed, rng, "GT"), "2"), with_gt)
    draw.take(
        "places with AG that are no acceptor",
        _sites(genes, rng, lambda placed: _decoys(placed, rng, "AG"), "2"),
        count - 2 * sites - with_gt,
    )


def _sites(genes: Sequence[Placed], rng: np.random.Generator, places: Callable[[Placed], list[int]], label: str) -> Iterator[Row]:
    for placed in shuffled(genes, rng):
        for place in places(placed):
            yield placed.gene.locus[place - SPLICE_CENTRE : place + SPLICE_WINDOW - SPLICE_CENTRE], label


def _decoys(placed: Placed, rng: np.random.Generator, pair: str) -> list[int]:
    """One place of the locus where `pair` stands as at a site (GT after it, AG before it) but is none."""
    gene = placed.gene
    sites, shift = (gene.donors, 0) if pair == "GT" else (gene.acceptors, 2)
    inside = range(SPLICE_CENTRE, len(gene.locus) - SPLICE_WINDOW + SPLICE_CENTRE)
    places = [place for place in inside if gene.locus.startswith(pair, place - shift) and place not in sites]
    return [places[int(rng.integers(len(places)))]] if places else []


def gene_protein(draw: Draw, genes: Sequence[Placed], count: int, rng: np.random.Generator) -> None:
    """Half pairs of coding DNA with the protein fragment it encodes, half with as long a fragment from another gene."""
    draw.take("pairs that fit", _pairs(genes, rng, fit=True), count // 2)
    draw.take("pairs that do not fit", _pairs(genes, rng, fit=False), count - count // 2)


def _pairs(genes: Sequence[Placed], rng: np.random.Generator, fit: bool) -> Iterator[Row]:
    if len(genes) < 2:
        return
    for placed in [*shuffled(genes, rng), *shuffled(genes, rng)]:
        length = int(rng.integers(PAIR_RESIDUES[0], PAIR_RESIDUES[1] + 1))
        start = int(rng.integers(len(placed.gene.protein) - length + 1))
        dna = placed.gene.coding[3 * start : 3 * (start + length)]
        if fit:
            yield dna, placed.gene.protein[start : start + length], "1"
            continue
        other = placed
        while other is placed:
            other = genes[int(rng.integers(len(genes)))]
        start = int(rng.integers(len(other.gene.protein) - length + 1))
        yield dna, other.gene.protein[start : start + length], "0"


def interaction(draw: Draw, genes: Sequence[Placed], count: int, rng: np.random.Generator) -> None:
    """Half promoters with a protein of the nucleus; of the rest, half lacks the promoter, half the protein of the nucleus."""
    other, background = count // 4, count // 4
    draw.take("promoters with a protein of the nucleus", _meetings(genes, rng, True, True), count - other - background)
    draw.take("promoters with another protein", _meetings(genes, rng, True, False), other)
    draw.take("background windows with a protein of the nucleus", _meetings(genes, rng, False, True), background)


def _meetings(genes: Sequence[Placed], rng: np.random.Generator, promoter: bool, nuclear: bool) -> Iterator[Row]:
    proteins = [placed.gene.protein[:FUNCTION_RESIDUES] for placed in genes if (placed.gene.family.inside == NUCLEUS) == nuclear]
    if not proteins:
        return
    for placed in [*shuffled(genes, rng), *shuffled(genes, rng), *shuffled(genes, rng)]:
        window = _promoter_window(placed, placed.gene.locus, rng) if promoter else _spacer_window(placed, rng)
        yield window, proteins[int(rng.integers(len(proteins)))], str(int(promoter and nuclear))


def stability(draw: Draw, genes: Sequence[Placed], count: int, rng: np.random.Generator) -> None:
    """A fragment of 30 to 60 residues and its stability (see proteins.stability)."""
    draw.take("protein fragments", _stability_rows(genes, rng), count)


def _stability_rows(genes: Sequence[Placed], rng: np.random.Generator) -> Iterator[Row]:
    for placed in shuffled(genes, rng):
        length = int(rng.integers(STABILITY_RESIDUES[0], STABILITY_RESIDUES[1] + 1))
        start = int(rng.integers(len(placed.gene.protein) - length + 1))
        fragment = placed.gene.protein[start : start + length]
        yield fragment, measured_stability(rng, fragment)


def function(draw: Draw, genes: Sequence[Placed], count: int, rng: np.random.Generator) -> None:
    """The first residues of a protein, at most 80, motif and signal peptide included, and what the protein does."""
    rows = (
        (placed.gene.protein[:FUNCTION_RESIDUES], function_text(placed.gene.family, placed.gene.signal)) for placed in shuffled(genes, rng)
    )
    draw.take("proteins", rows, count)


def shuffled(genes: Sequence[Placed], rng: np.random.Generator) -> list[Placed]:
    return [genes[index] for index in rng.permutation(len(genes))]


MAKERS: dict[str, Callable[[Draw, Sequence[Placed], int, np.random.Generator], None]] = {
    "promoter": promoter,
    "splice": splice,
    "gene_protein": gene_protein,
    "interaction": interaction,
    "stability": stability,
    "function": function,
}
PAIRS = {"gene_protein": ("gene", "protein"), "interaction": ("dna", "protein")}
INPUT_COLUMNS = {task: PAIRS.get(task, ("sequence",)) for task in MAKERS}


def draw_task(
    task: str, train: Sequence[Placed], heldout: Sequence[Placed], sizes: dict[str, int], rng: np.random.Generator
) -> dict[str, list[Row]]:
    """Rows of each split of one task, shuffled.

    Args:
        sizes: split -> number of examples.

    Raises:
        UserError: the genes give too few examples; the message says what to raise.
    """
    drawn = shuffled(heldout, rng)
    cut = round(len(drawn) * sizes["dev"] / max(1, sizes["dev"] + sizes["test"]))
    genes = {"train": list(train), "dev": drawn[:cut], "test": drawn[cut:]}
    seen: set[Row] = set()
    rows = {}
    for split in SPLITS:
        draw = Draw(task, split, seen)
        MAKERS[task](draw, genes[split], sizes[split], rng)
        rows[split] = [draw.rows[index] for index in rng.permutation(len(draw.rows))]
    return rows
