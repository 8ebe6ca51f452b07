"""One gene of the simulated organism: promoter, exons and introns, coding sequence, poly-A signal.

Coordinates are 0-based, half open, and count along the gene's own strand within its locus.

Background DNA is a second-order Markov chain.

Chromosomes have genes on both strands, background between them.
"""

from dataclasses import dataclass

import numpy as np

from data_convert.simulate.proteins import FAMILIES, SIGNAL_SHARE, Family, draw_protein
from sequences.alphabets import reverse_complement
from sequences.codons import CODONS

BASES = "ACGT"
_LETTERS = np.frombuffer(BASES.encode(), dtype=np.uint8)
_CHAINS, _STEPS = 512, 512  # chains are drawn side by side, then laid end to end: 262,144 bases in one go


class Background:
    """An endless supply of background bases."""

    def __init__(self, rng: np.random.Generator, gc: float, cpg: float) -> None:
        """Draw the chain's chances around a GC share.

        Args:
            cpg: factor on the weight of G after C, before the chances are scaled back to the GC share: below 1, CpG is
                rare, as in most animal DNA; above 1, frequent, as in CpG islands. The ratio that comes out is nearer to 1.
        """
        self._rng = rng
        self._buffer = ""
        self._next = 0
        base = np.array([1 - gc, gc, gc, 1 - gc]) / 2
        chances = base * rng.lognormal(0, 0.2, size=(4, 4, 4))  # [one before last, last, next]
        chances[:, 1, 2] *= cpg
        chances[:, 3, 0] *= 0.5  # TpA is rare nearly everywhere, which lets a TATA box stand out
        gc_side = chances[..., 1:3].sum(axis=-1, keepdims=True)
        # The perturbation must not move the GC share, which would otherwise differ from seed to seed.
        scale = np.array([0.0, 1.0, 1.0, 0.0]) * gc / gc_side + np.array([1.0, 0.0, 0.0, 1.0]) * (1 - gc) / (
            chances.sum(axis=-1, keepdims=True) - gc_side
        )
        self._cumulative = (chances * scale).cumsum(axis=-1).reshape(16, 4)[:, :3]

    def take(self, count: int) -> str:
        """The next `count` bases."""
        while self._next + count > len(self._buffer):
            self._buffer = self._buffer[self._next :] + self._draw()
            self._next = 0
        piece = self._buffer[self._next : self._next + count]
        self._next += count
        return piece

    def _draw(self) -> str:
        context = self._rng.integers(16, size=_CHAINS)
        uniform = self._rng.random((_STEPS, _CHAINS))
        bases = np.empty((_CHAINS, _STEPS), dtype=np.uint8)
        for step in range(_STEPS):
            base = (uniform[step][:, None] > self._cumulative[context]).sum(axis=1)
            bases[:, step] = base
            context = context % 4 * 4 + base
        return _LETTERS[bases].tobytes().decode()


IUPAC = {"A": "A", "C": "C", "G": "G", "T": "T", "R": "AG", "Y": "CT", "W": "AT", "N": "ACGT"}

TATA = "TATAWAW"
TATA_DISTANCE = (25, 35)  # bases from the first T of the TATA box to the transcription start, both ends included
INITIATOR = "YYANWYY"
INITIATOR_START = 2  # the A of the initiator is the transcription start
MOTIF_KEPT = 0.98  # chance that a base of a promoter motif follows the consensus rather than being any base

# Chances of A, C, G, T. The donor's exon side and the base after the acceptor are met by choosing where introns lie.
DONOR_EXON = np.array([[0.40, 0.46, 0.08, 0.06], [0.85, 0.05, 0.04, 0.06], [0.02, 0.02, 0.94, 0.02]])
ACCEPTOR_EXON = np.array([0.18, 0.10, 0.62, 0.10])
DONOR_INTRON = np.array([[0.60, 0.01, 0.38, 0.01], [0.91, 0.03, 0.03, 0.03], [0.02, 0.01, 0.96, 0.01], [0.07, 0.06, 0.07, 0.80]])
TRACT = np.array([0.04, 0.38, 0.03, 0.55])  # polypyrimidine tract
ACCEPTOR_INTRON = np.array([0.03, 0.74, 0.01, 0.22])  # the base before AG
INTRON_COUNTS = (0.2, 0.3, 0.3, 0.2)  # chances of 0, 1, 2, 3 introns
EXON_MARGIN = 20  # fewest coding bases between two introns, and between an intron and either end


@dataclass(frozen=True)
class Gene:
    """A gene with the background around it."""

    name: str
    family: Family
    signal: bool
    """Whether the protein starts with a signal peptide."""
    protein: str
    """Residues, without the stop."""
    locus: str
    """Bases on the gene's own strand, from the upstream background to the poly-A site and a little beyond."""
    tss: int
    """Transcription start in the locus."""
    tata: int
    """First base of the TATA box in the locus."""
    exons: tuple[tuple[int, int], ...]
    """Coding pieces in the locus; introns are the gaps. The first starts with ATG, the last ends with a stop codon."""

    @property
    def coding(self) -> str:
        """The coding sequence, introns removed, stop codon included."""
        return "".join(self.locus[start:end] for start, end in self.exons)

    @property
    def donors(self) -> list[int]:
        """First base (the G of GT) of every intron."""
        return [end for _, end in self.exons[:-1]]

    @property
    def acceptors(self) -> list[int]:
        """First base after every intron, which ends in AG."""
        return [start for start, _ in self.exons[1:]]


def codon_usage(rng: np.random.Generator) -> dict[str, tuple[list[str], np.ndarray]]:
    """Residue (or '*') -> its codons and their chances, skewed in a way of this organism's own."""
    by_residue: dict[str, list[str]] = {}
    for codon, residue in CODONS.items():
        by_residue.setdefault(residue, []).append(codon)
    return {residue: (codons, rng.dirichlet(np.full(len(codons), 1.5))) for residue, codons in by_residue.items()}


def draw_motif(rng: np.random.Generator, consensus: str) -> str:
    """A consensus in IUPAC letters, made concrete, with some bases mutated."""
    kept = rng.random(len(consensus)) < MOTIF_KEPT
    return "".join(str(rng.choice(list(IUPAC[letter if keep else "N"]))) for letter, keep in zip(consensus, kept, strict=True))


def draw_bases(rng: np.random.Generator, chances: np.ndarray) -> str:
    """One base for each row of chances, [positions, 4]."""
    return "".join(BASES[int(rng.choice(4, p=row))] for row in chances)


def draw_intron(rng: np.random.Generator, background: Background) -> str:
    """GT, the donor's inner side, background, a polypyrimidine tract, the acceptor's inner side, AG: 60 to 130 bases."""
    tract = draw_bases(rng, np.tile(TRACT, (int(rng.integers(13, 20)), 1)))
    middle = background.take(int(rng.integers(35, 98)))
    inner_acceptor = background.take(1) + draw_bases(rng, ACCEPTOR_INTRON[None])
    return "GT" + draw_bases(rng, DONOR_INTRON) + middle + tract + inner_acceptor + "AG"


def intron_places(rng: np.random.Generator, coding: str, count: int) -> list[int]:
    """Up to `count` places in the coding sequence, each likelier the better it fits the exon side of both sites."""
    index = np.array([BASES.index(base) for base in coding])
    places = np.arange(EXON_MARGIN, len(coding) - EXON_MARGIN)
    fit = ACCEPTOR_EXON[index[places]]
    for offset, row in zip((-3, -2, -1), DONOR_EXON, strict=True):
        fit = fit * row[index[places + offset]]
    chosen: list[int] = []
    for _ in range(count):
        free = np.all([np.abs(places - other) >= EXON_MARGIN for other in chosen], axis=0) if chosen else np.ones(len(places), bool)
        if not free.any():
            break
        chances = fit * free
        chosen.append(int(rng.choice(places, p=chances / chances.sum())))
    return sorted(chosen)


def draw_gene(
    rng: np.random.Generator,
    name: str,
    background: Background,
    leader: Background,
    usage: dict[str, tuple[list[str], np.ndarray]],
) -> Gene:
    """Draw one gene. `background` fills upstream, introns and the 3' end; `leader`, richer in GC, the 5' untranslated region."""
    family = FAMILIES[int(rng.integers(len(FAMILIES)))]
    signal = bool(rng.random() < SIGNAL_SHARE)
    protein = draw_protein(rng, family, signal)
    coding = "ATG" + "".join(str(rng.choice(usage[residue][0], p=usage[residue][1])) for residue in protein[1:] + "*")

    tss = int(rng.integers(110, 171))
    tata = tss - int(rng.integers(TATA_DISTANCE[0], TATA_DISTANCE[1] + 1))
    upstream = background.take(tss)
    upstream = upstream[:tata] + draw_motif(rng, TATA) + upstream[tata + len(TATA) :]
    initiator = draw_motif(rng, INITIATOR)
    locus = upstream[:-INITIATOR_START] + initiator + leader.take(int(rng.integers(25, 80)))

    exons = []
    previous = 0
    for place in intron_places(rng, coding, int(rng.choice(len(INTRON_COUNTS), p=INTRON_COUNTS))):
        exons.append((len(locus), len(locus) + place - previous))
        locus += coding[previous:place] + draw_intron(rng, background)
        previous = place
    exons.append((len(locus), len(locus) + len(coding) - previous))
    locus += coding[previous:] + background.take(int(rng.integers(40, 120))) + "AATAAA" + background.take(int(rng.integers(40, 60)))
    return Gene(name, family, signal, protein, locus, tss, tata, tuple(exons))


INTERGENIC_GC = 0.42
LEADER_GC = 0.64  # 5' untranslated regions
SPACER = (150, 420)  # bases between two genes' loci
MINUS_SHARE = 0.4


@dataclass(frozen=True)
class Placed:
    """A gene on its chromosome."""

    gene: Gene
    start: int
    """First base of the locus on the chromosome, 0-based."""
    minus: bool
    """Whether the chromosome holds the reverse complement of the locus."""
    spacer: str
    """The background before the locus, which no gene touches."""


@dataclass(frozen=True)
class Chromosome:
    name: str
    sequence: str
    genes: tuple[Placed, ...]


def draw_genome(rng: np.random.Generator, chromosomes: int, genes_each: int) -> list[Chromosome]:
    """Draw chromosomes chr1, chr2, ...; gene names are unique in the genome. All share codon usage and background."""
    background = Background(rng, gc=INTERGENIC_GC, cpg=0.4)
    leader = Background(rng, gc=LEADER_GC, cpg=1.3)
    usage = codon_usage(rng)
    names = gene_names(rng, chromosomes * genes_each)
    genome = []
    for number in range(chromosomes):
        pieces: list[str] = []
        placed = []
        length = 0
        for name in names[number * genes_each : (number + 1) * genes_each]:
            gene = draw_gene(rng, name, background, leader, usage)
            spacer = background.take(int(rng.integers(SPACER[0], SPACER[1] + 1)))
            minus = bool(rng.random() < MINUS_SHARE)
            placed.append(Placed(gene, length + len(spacer), minus, spacer))
            pieces += [spacer, reverse_complement(gene.locus) if minus else gene.locus]
            length += len(spacer) + len(gene.locus)
        pieces.append(background.take(SPACER[1]))
        genome.append(Chromosome(f"chr{number + 1}", "".join(pieces), tuple(placed)))
    return genome


def gene_names(rng: np.random.Generator, count: int) -> list[str]:
    """Distinct names such as KAR3 or MIB12."""
    stems = [a + b + c for a in "BCDFGHKLMNPRSTVZ" for b in "AEIOU" for c in "BCDFGKLMNPRST"]
    per_stem = -(-count // len(stems)) + 8
    return [f"{stems[i // per_stem]}{i % per_stem + 1}" for i in rng.permutation(len(stems) * per_stem)[:count]]
