"""Chromosomes of the simulated organism: genes on both strands, background between them."""

from dataclasses import dataclass

import numpy as np

from data_convert.simulate.genes import Background, Gene, codon_usage, draw_gene
from sequences.alphabets import reverse_complement

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
