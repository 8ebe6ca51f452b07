"""Proteins of the simulated organism: twelve families, signal peptides, what follows from them.

The motifs imitate the look of real ones (a P-loop, a zinc finger), and nothing more: no real protein is copied.
"""

import math
from dataclasses import dataclass

import numpy as np

RESIDUES = "ACDEFGHIKLMNPQRSTVWY"
# Frequencies in percent, about those of known proteins, in the order of RESIDUES.
COMMON = np.array([8.3, 1.6, 5.5, 6.7, 3.9, 7.1, 2.3, 5.9, 5.8, 9.6, 2.2, 4.1, 4.7, 3.9, 5.5, 6.6, 5.4, 6.9, 1.1, 2.9])
SHORTEST, LONGEST = 60, 140  # residues
MOTIF_ENDS_BEFORE = 78  # so that a fragment of 80 residues from the start holds the signal peptide and the motif
MOTIF_MUTATION = 0.08  # chance that a residue of a motif is another one
SIGNAL_SHARE = 0.4


@dataclass(frozen=True)
class Family:
    """What the members of a protein family have in common."""

    name: str
    motif: str
    """Ten to twenty residues that every member carries somewhere, with a few mutations."""
    favoured: str
    """Residues that members use about twice as often as others do."""
    activity: str
    inside: str
    """Where a member without a signal peptide is found."""
    outside: str
    """Where a member with a signal peptide is found."""


FAMILIES = (
    Family("atpase", "GAGKSTLLRALAGDW", "KLGE", "Hydrolyses ATP", "cytoplasm", "membrane"),
    Family("zinc_finger", "CPYCHKRFSRSDHLTRH", "RHSC", "Binds DNA", "nucleus", "membrane"),
    Family("protease", "HGTHVAGTIAALNNS", "SGNA", "Cuts other proteins", "cytoplasm", "cell wall"),
    Family("kinase", "HRDLKPENILLDWTG", "KDEL", "Phosphorylates serine", "nucleus", "membrane"),
    Family("channel", "TVGYGDMVPQTWFGR", "IVFY", "Conducts potassium ions", "vacuole", "membrane"),
    Family("chaperone", "DLGGGTFDVSILEMK", "EQKD", "Folds other proteins", "cytoplasm", "cell wall"),
    Family("oxidase", "WHWHGFFQHGTNCPY", "WPHT", "Reduces oxygen", "mitochondrion", "cell wall"),
    Family("ribosomal", "KRMQGPKKNRRSVQA", "RKQP", "Binds ribosomal RNA", "ribosome", "mitochondrion"),
    Family("transporter", "LFAQEMSIVPYLNWR", "LFIM", "Carries sugar", "vacuole", "membrane"),
    Family("ligase", "CEICLETYTQDKVWC", "CTEV", "Joins ubiquitin to proteins", "nucleus", "membrane"),
    Family("polymerase", "YGDTDSIFVNQRAAE", "DYNS", "Copies DNA", "nucleus", "mitochondrion"),
    Family("lectin", "QPDNYTWEKLAGIHN", "NTQW", "Recognises mannose", "cytoplasm", "cell wall"),
)


def function_text(family: Family, signal: bool) -> str:
    """The answer of the function task, four to nine words: 'Hydrolyses ATP; located in the membrane.'"""
    return f"{family.activity}; located in the {family.outside if signal else family.inside}."


def composition(family: Family) -> np.ndarray:
    """Chance of each residue of RESIDUES outside the motif, [20]."""
    weights = COMMON.copy()
    for residue in family.favoured:
        weights[RESIDUES.index(residue)] *= 2.2
    return weights / weights.sum()


def draw_protein(rng: np.random.Generator, family: Family, signal: bool) -> str:
    """One protein of SHORTEST to LONGEST residues, starting with M; the motif lies at a variable place."""
    length = int(rng.integers(SHORTEST, LONGEST + 1))
    residues = np.array(list(RESIDUES))[rng.choice(20, size=length, p=composition(family))]
    start = signal_peptide(rng) if signal else "M"
    residues[: len(start)] = list(start)
    motif = np.array(list(family.motif))
    mutated = rng.random(len(motif)) < MOTIF_MUTATION
    motif[mutated] = np.array(list(RESIDUES))[rng.choice(20, size=int(mutated.sum()))]
    last = min(length, MOTIF_ENDS_BEFORE) - len(motif)
    place = int(rng.integers(len(start) + 2, last + 1))
    residues[place : place + len(motif)] = motif
    return "".join(residues)


def signal_peptide(rng: np.random.Generator) -> str:
    """M, one or two positive residues, nine to thirteen hydrophobic ones, and a cleavage site A.A."""
    positive = rng.choice(list("KR"), size=rng.integers(1, 3))
    core = rng.choice(list("LLLAVIF"), size=rng.integers(9, 14))
    return "M" + "".join(positive) + "".join(core) + "A" + str(rng.choice(list("SQNG"))) + "A"


# Helix propensity in kcal/mol after Pace and Scholtz (1998): 0 favours the helix most. Order of RESIDUES.
HELIX = np.array([0.00, 0.68, 0.69, 0.40, 0.54, 1.00, 0.61, 0.41, 0.26, 0.21, 0.24, 0.65, 3.16, 0.39, 0.21, 0.50, 0.66, 0.61, 0.49, 0.53])
HYDROPHOBIC = "AVILMFWC"
STABILITY_NOISE = 0.02
STABILITY_STEP = 0.05


def stability(protein: str) -> float:
    """Stability of a protein fragment in [0, 1], before noise and rounding; a function of its composition only.

        logistic(9 (hydrophobic - 0.38) - 5 (helix - 0.58) - 6 (|charge| - 0.07) - 6 (breakers - 0.12))

    hydrophobic: share of AVILMFWC; helix: mean helix propensity, kcal/mol; charge: (K + R - D - E) / length;
    breakers: share of P and G. The constants centre each term on the organism's average.
    """
    n = len(protein)
    hydrophobic = sum(map(protein.count, HYDROPHOBIC)) / n
    helix = sum(HELIX[RESIDUES.index(residue)] for residue in protein) / n
    charge = abs(protein.count("K") + protein.count("R") - protein.count("D") - protein.count("E")) / n
    breakers = (protein.count("P") + protein.count("G")) / n
    score = 9 * (hydrophobic - 0.38) - 5 * (helix - 0.58) - 6 * (charge - 0.07) - 6 * (breakers - 0.12)
    return 1 / (1 + math.exp(-score))


def measured_stability(rng: np.random.Generator, protein: str) -> str:
    """The stability with noise, rounded to the grid 0.00, 0.05, ..., 1.00 and written with two decimals."""
    value = min(max(stability(protein) + rng.normal(0, STABILITY_NOISE), 0.0), 1.0)
    return f"{round(value / STABILITY_STEP) * STABILITY_STEP:.2f}"
