"""Genes with their transcripts and coding sequences, put together from the features of GenBank, GFF3 or GTF.

GenBank names a gene by `locus_tag` or `gene` and puts what belongs to it below it; GFF3 and GTF say it by parents. Features that
are part of no gene (repeats, evidence, introns, untranslated regions) are passed over.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

from sequences.features import Feature
from sequences.regions import Place

RNA = frozenset(["mRNA", "tRNA", "rRNA", "ncRNA", "tmRNA", "misc_RNA", "precursor_RNA"])
"""Features of GenBank that are transcripts."""
PARTS = ("exon", "CDS", "stop_codon")
"""Features of GFF3 and GTF that make up a transcript; GTF's CDS ends before its stop codon."""
ORPHAN = "its parent is not in the file"


@dataclass(slots=True)
class Transcript:
    """One transcript of a gene, or a coding sequence for which none is annotated."""

    id: str
    line: int
    kind: str
    """mRNA, tRNA, ..."""
    exons: list[Place] = field(default_factory=list)
    """In the order of reading; empty where none are annotated."""
    coding: Feature | None = None
    protein: str = ""
    """GenBank's name of what is coded; in GFF3 several transcripts may share one."""
    problem: str = ""


@dataclass(slots=True)
class Gene:
    """A gene as annotated, or as its transcripts say where none is."""

    id: str
    line: int
    chromosome: str
    places: list[Place]
    values: dict[str, list[str]]
    cut_off: tuple[bool, bool] = (False, False)
    pseudo: bool = False
    transcripts: list[Transcript] = field(default_factory=list)
    problem: str = ""


def _gene(name: str, feature: Feature) -> Gene:
    pseudo = feature.kind == "pseudogene" or "pseudo" in feature.values or "pseudogene" in feature.values
    pseudo = pseudo or feature.first("Note") == "pseudogene" or feature.first("gene_biotype", "biotype", "gene_type").endswith("pseudogene")
    cut_off = feature.cut_off
    if feature.places and not any(cut_off):  # as NCBI's GFF3 says it, by the chromosome
        ends = feature.first("start_range") == ".", feature.values.get("end_range", [""])[-1] == "."
        cut_off = (ends[1], ends[0]) if feature.places[0].minus else ends
    return Gene(name, feature.line, feature.chromosome, feature.places, feature.values, cut_off, pseudo, problem=feature.problem)


def genes_of_entry(features: Iterable[Feature]) -> list[Gene]:
    """Genes of one GenBank entry, in its order."""
    genes: list[Gene] = []
    named: dict[str, Gene] = {}  # the last one of each name: what belongs to a gene stands below it
    for feature in features:
        if feature.kind not in RNA and feature.kind not in ("gene", "CDS"):
            continue
        name = feature.first("locus_tag", "gene")
        gene = named.get(name) if feature.kind != "gene" else None
        if gene is None:
            gene = _gene(name or feature.first("protein_id") or f"line{feature.line}", feature)
            genes.append(gene)
            if name:
                named[name] = gene
        gene.pseudo = gene.pseudo or "pseudo" in feature.values or "pseudogene" in feature.values
        if feature.kind == "CDS":
            free = (one for one in gene.transcripts if one.kind == "mRNA" and one.coding is None and _holds(one.exons, feature.places))
            if (transcript := next(free, None)) is None:
                transcript = Transcript(gene.id, feature.line, "mRNA", problem=feature.problem)
                gene.transcripts.append(transcript)
            transcript.coding, transcript.protein = feature, feature.first("protein_id")
        elif feature.kind in RNA:
            identity = feature.first("transcript_id") or gene.id
            gene.transcripts.append(Transcript(identity, feature.line, feature.kind, feature.places, problem=feature.problem))
    return genes


def _holds(outer: list[Place], inner: list[Place]) -> bool:
    return bool(outer and inner) and all(any(a.start <= b.start and b.end <= a.end for a in outer) for b in inner)


def genes_of_file(features: Iterable[Feature]) -> tuple[list[Gene], list[Feature], set[str]]:
    """Genes of a GFF3 or GTF file in its order, the lines that are broken, and the chromosomes said to be circular.

    Where no gene is annotated for a transcript, or no transcript for its parts (GTF leaves them out), one is made that
    reaches as far as they do. Parts of GFF3 whose parents are not in the file come as a gene with a `problem`.
    """
    genes: dict[str, Gene] = {}
    middle: dict[str, Feature] = {}  # what may be a transcript
    parts: list[Feature] = []
    broken: list[Feature] = []
    circular: set[str] = set()
    for feature in features:
        name = feature.first("ID")
        if feature.kind.endswith("gene") and name not in genes and not feature.problem:
            genes[name or f"line{feature.line}"] = _gene(name or f"line{feature.line}", feature)
        elif feature.kind.endswith("gene") or (feature.problem and feature.kind in ("", *PARTS)):
            feature.problem = feature.problem or "a gene's ID a second time"
            broken.append(feature)
        elif feature.kind in PARTS:
            parts.append(feature)
        elif name and (feature.first("Parent") or feature.kind in RNA):
            middle[name] = feature
        elif feature.first("Is_circular") == "true":
            circular.add(feature.chromosome)
    made = _Made(genes)
    with_parts = {parent for part in parts for parent in part.values.get("Parent", [])}
    for name, feature in middle.items():
        above, steps = feature.first("Parent"), 0
        while above not in genes and above in middle and steps < len(middle):  # a circle has no top
            above, steps = middle[above].first("Parent"), steps + 1
        if above in genes or name in with_parts:
            made.transcript(name, above or name, feature, feature.kind)
    for part in parts:
        parents = part.values.get("Parent") or [f"line{part.line}"]
        for parent in [one for one in parents if one in made.transcripts or one in genes] or parents[:1]:
            name, above = parent, part.first("gene_id") or parent
            if parent in genes and parent not in made.transcripts:
                # a CDS right below its gene, as in bacteria, is known by its own ID
                name = part.first("ID") or parent
            if name not in made.transcripts:
                orphan = above not in genes and not part.first("gene_id")
                made.transcript(name, above, part, "mRNA" if part.kind == "CDS" else "transcript")
                genes[above].problem = genes[above].problem or (ORPHAN if orphan else "")
            made.parts.setdefault(name, []).append(part)
    made.finish()
    return list(genes.values()), broken, circular


class _Made:
    """Transcripts of a GFF3 or GTF file, and genes that are there through them alone."""

    def __init__(self, genes: dict[str, Gene]) -> None:
        self.genes, self.implied = genes, list[Gene]()
        self.transcripts: dict[str, Transcript] = {}
        self.parts: dict[str, list[Feature]] = {}
        """Transcript -> its exons and coding parts."""

    def transcript(self, name: str, gene: str, feature: Feature, kind: str) -> None:
        if gene not in self.genes:
            self.genes[gene] = _gene(gene, feature)
            self.implied.append(self.genes[gene])
        self.transcripts[name] = Transcript(name, feature.line, kind, problem=feature.problem)
        self.genes[gene].transcripts.append(self.transcripts[name])

    def finish(self) -> None:
        for name, parts in self.parts.items():
            parts.sort(key=lambda part: part.places[0].start, reverse=parts[0].places[0].minus)
            transcript = self.transcripts[name]
            transcript.exons = [part.places[0] for part in parts if part.kind == "exon"]
            coding = [part for part in parts if part.kind == "CDS"]
            within = [part.places[0] for part in coding]
            coding = [part for part in parts if part in coding or (part.kind == "stop_codon" and not _holds(within, part.places))]
            if coding:
                first, places = coding[0], [part.places[0] for part in coding]
                transcript.coding = Feature("CDS", first.line, places, first.values, first.chromosome, first.frame)
        for gene in self.implied:
            found = [place for one in gene.transcripts for place in one.exons or (one.coding.places if one.coding else [])]
            if found:
                start, end = min(place.start for place in found), max(place.end for place in found)
                gene.places = [Place(start, end, found[0].minus)]
