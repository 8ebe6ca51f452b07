"""Biology-like English from a small grammar, so that the simulated corpus has a third modality beside DNA and protein.

The sentences are grammatical and mean little. They use the words of the tasks' prompts and answers, and never a whole
answer of the function task.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import cycle

import numpy as np

_FIELD = re.compile(r"\{(\w+)\}")

# A name in braces is replaced by one of its alternatives, again and again. GENE, NUMBER, COUNT and YEAR are drawn freely.
GRAMMAR: dict[str, tuple[str, ...]] = {
    "sentence": (
        "{subject} {verb} {object}.",
        "{subject} {verb} {object} {where}.",
        "{subject} {verb} {object}, but {subject_low} does not.",
        "In {organism}, {subject_low} {verb} {object}.",
        "{adverb}, {subject_low} {verb} {object} {when}.",
        "{people} {reported} that {subject_low} {verb} {object}.",
        "{people} {reported} that {GENE} {state} {where}.",
        "When {condition}, {subject_low} {verb} {object}.",
        "{GENE} encodes {a_protein} that {verb} {object}.",
        "{GENE} and {GENE} encode proteins of the same family.",
        "The {region} of {GENE} is {COUNT} bases long and {quality}.",
        "The {region} of {GENE} lies {COUNT} bases {side} of its neighbour.",
        "A {label_dna} is {dna_definition}.",
        "The {motif} is {quality} in {organism}, where it {verb} {object}.",
        "The stability of {GENE} was {NUMBER} on a scale from 0 to 1, and that of {GENE} was {NUMBER}.",
        "{measure} fell from {NUMBER} to {NUMBER} when {condition}.",
        "{measure} rose to {NUMBER} {when}, {reason}.",
        "Does {GENE} encode this protein? The answer is {yes_no}, {reason}.",
        "Is this window a promoter or background? It is {promoter_or_not}, {reason}.",
        "Is there a splice site at the centre? The answer is {splice_answer}, {reason}.",
        "What does {GENE} do? It {verb} {object}.",
        "Mutants without {GENE} {grow} {where}, {reason}.",
        "{ACRONYM} is {quality} in {COUNT} samples.",
        "Of the genes, {COUNT} have {count_thing}.",
        "The {journal} of {YEAR} is {quality}: {subject_low} {verb} {object}.",
        "It is not known whether {subject_low} {verb} {object}.",
        "This protein {protein_predicate}.",
        "Proteins that {plural_verb} {object} are found in the {compartment}.",
    ),
    "subject": (
        "The {adjective} {noun}",
        "The {noun}",
        "This {noun}",
        "Every {adjective} {noun}",
        "{GENE}",
        "The {noun} of {GENE}",
        "The product of {GENE}",
        "{ACRONYM}",
    ),
    "subject_low": (
        "the {adjective} {noun}", "the {noun}", "each {noun}", "{GENE}", "the {noun} of {GENE}", "the product of {GENE}",
        "{ACRONYM}",
    ),
    "noun": (
        "promoter", "gene", "protein", "enzyme", "kinase", "protease", "channel", "chaperone", "oxidase", "ligase", "polymerase", "lectin",
        "transporter", "receptor", "intron", "exon", "codon", "donor", "acceptor", "domain", "motif", "helix", "sheet", "loop", "residue",
        "signal peptide", "transcript", "ribosome", "membrane", "nucleus", "chromosome", "genome", "cell", "repressor", "activator",
        "zinc finger", "initiator", "terminator", "enhancer", "complex", "subunit", "substrate", "spliceosome", "factor", "pathway",
    ),
    "adjective": (
        "short", "long", "active", "inactive", "stable", "unstable", "conserved", "rare", "abundant", "essential", "mutant", "ancient",
        "small", "large", "acidic", "basic", "hydrophobic", "soluble", "secreted", "nuclear", "mitochondrial", "cytoplasmic", "ribosomal",
        "regulatory", "coding", "upstream", "downstream", "flexible", "rigid", "silent", "specific", "simulated", "unknown",
    ),
    "verb": (
        "binds", "cuts", "hydrolyses", "phosphorylates", "folds", "carries", "copies", "joins", "reduces", "conducts", "recognises",
        "activates", "represses", "controls", "needs", "releases", "modifies", "protects", "recruits", "transports", "stabilises",
        "regulates", "contains", "precedes", "follows", "resembles", "depends on", "interacts with", "competes with", "moves along",
    ),
    "plural_verb": ("bind", "cut", "hydrolyse", "phosphorylate", "fold", "carry", "copy", "join", "reduce", "recognise", "transport"),
    "object": (
        "DNA", "RNA", "ATP", "sugar", "oxygen", "potassium ions", "serine", "mannose", "ubiquitin", "other proteins", "ribosomal RNA",
        "the TATA box", "the {adjective} {noun}", "the {noun}", "a {plain_adjective} {noun}", "the {region} of {GENE}", "{GENE}",
        "the {compartment}", "{COUNT} residues", "{COUNT} bases", "the polypyrimidine tract", "the start codon", "the stop codon",
    ),
    "plain_adjective": ("short", "long", "stable", "rare", "conserved", "small", "large", "mutant", "basic", "hydrophobic", "specific"),
    "where": (
        "in the {compartment}", "at the {region}", "near the {region}", "outside the cell", "on the plus strand", "on the minus strand",
        "in {organism}", "{side} of the {region}", "on chromosome {COUNT}", "across the membrane",
    ),
    "when": (
        "during growth", "after heat shock", "before division", "in the dark", "within {COUNT} minutes", "in the presence of ATP",
        "at low oxygen", "under stress", "in the absence of sugar", "since {YEAR}",
    ),
    "compartment": ("membrane", "cytoplasm", "nucleus", "vacuole", "mitochondrion", "ribosome", "cell wall"),
    "region": (
        "promoter", "initiator", "TATA box", "first exon", "last exon", "first intron", "splice donor", "splice acceptor", "start codon",
        "stop codon", "transcription start", "leader", "tail", "coding sequence", "binding site", "active site", "background",
    ),
    "motif": (
        "P loop", "zinc finger", "signal peptide", "TATA box", "initiator", "polyadenylation signal", "branch point", "helix",
        "GT rule",
    ),
    "quality": (
        "conserved", "variable", "rich in GC", "poor in GC", "rich in AT", "rare", "common", "essential", "well known", "poorly understood",
        "stable", "unstable", "often missing", "of average length",
    ),
    "side": ("upstream", "downstream"),
    "organism": (
        "yeast", "the simulated organism", "plants", "animals", "bacteria", "fungi", "this species", "most species", "the worm",
        "the fly",
    ),
    "adverb": (
        "Usually", "Rarely", "Often", "In general", "Surprisingly", "As expected", "By contrast", "Therefore", "However",
        "At least once",
    ),
    "people": ("We", "Others", "Two groups", "Several studies", "Early experiments", "The authors", "Recent papers"),
    "reported": ("found", "showed", "reported", "suggested", "confirmed", "assumed", "observed", "argued"),
    "state": (
        "is active", "is silent", "is expressed", "is essential", "is stable", "is degraded", "was duplicated", "was lost",
        "is found",
    ),
    "condition": (
        "{GENE} is deleted", "{GENE} is present", "sugar runs out", "the temperature rises", "the helix breaks", "the intron is removed",
        "proline replaces alanine", "the {region} is scrambled", "the charge is balanced", "glycine is inserted",
    ),
    "a_protein": (
        "a protein", "an enzyme", "a membrane protein", "a nuclear protein", "a protein of {COUNT} residues", "a secreted protein",
    ),
    "label_dna": ("promoter", "donor", "acceptor", "splice site", "coding sequence", "start codon", "background window"),
    "dna_definition": (
        "where transcription starts", "where an intron begins", "where an intron ends", "a stretch of DNA with a known role",
        "what the cell reads first", "sometimes hard to recognise", "neither rare nor common", "a matter of a few bases",
    ),
    "measure": ("Stability", "Expression", "The share of GC", "Activity", "The growth rate", "The helix content", "Binding"),
    "reason": (
        "because {GENE} {state}", "because the {region} is {quality}", "although {GENE} {state}", "as the {motif} shows",
        "for reasons that are not clear", "since {subject_low} {verb} {object}", "with no effect on {GENE}",
    ),
    "yes_no": ("yes", "no"),
    "promoter_or_not": ("promoter", "background"),
    "splice_answer": ("donor", "acceptor", "neither"),
    "grow": ("grow slowly", "do not grow", "grow well", "divide faster", "stop dividing", "survive"),
    "count_thing": ("no intron", "one intron", "a TATA box", "a signal peptide", "two promoters", "a zinc finger", "no known function"),
    "journal": ("review", "report", "study", "atlas", "catalogue", "survey"),
    "protein_predicate": (
        "is located in the {compartment} of {organism}", "has a stability of {NUMBER}", "has a signal peptide",
        "belongs to the {noun} family",
        "has {COUNT} residues", "folds within {COUNT} seconds", "is {quality}",
    ),
    "ACRONYM": ("ATP", "DNA", "RNA", "GTP", "TATA", "NADH", "PCR", "GC", "UTR", "CDS", "TSS", "ORF", "GO"),
}  # fmt: skip


def draw_documents(rng: np.random.Generator, gene_names: list[str], count: int, seen: set[str]) -> list[str]:
    """`count` documents of two to six sentences, none of them in `seen`, to which they are added."""
    documents: list[str] = []
    while len(documents) < count:
        # A document speaks of few genes, so that names come back as they do in real text.
        names = [gene_names[int(index)] for index in rng.integers(len(gene_names), size=4)]
        text = " ".join(_sentence(rng, names) for _ in range(int(rng.integers(2, 7))))
        if text not in seen:
            seen.add(text)
            documents.append(text)
    return documents


def _sentence(rng: np.random.Generator, names: list[str]) -> str:
    in_turn = cycle([names[index] for index in rng.permutation(len(names))])  # "X and X are alike" would be odd
    text = "{sentence}"
    while match := _FIELD.search(text):
        text = text[: match.start()] + _expand(rng, match[1], in_turn) + text[match.end() :]
    return text[0].upper() + text[1:]


def _expand(rng: np.random.Generator, symbol: str, names: Iterator[str]) -> str:
    if symbol == "GENE":
        return next(names)
    if symbol == "NUMBER":
        return f"{rng.integers(21) * 0.05:.2f}"
    if symbol == "COUNT":
        return str(int(rng.integers(2, 400)))
    if symbol == "YEAR":
        return str(int(rng.integers(1975, 2026)))
    alternatives = GRAMMAR[symbol]
    return alternatives[int(rng.integers(len(alternatives)))]
