"""Genes, transcripts, coding sequences, promoters and what lies between genes, cut out of annotated sequences.

Every region is read on its own strand; transcripts and coding sequences are spliced, and a coding sequence begins with its
first whole codon. On a circular chromosome joins and flanks go on over the origin; elsewhere a flank ends where the sequence does.
The ledger counts what is annotated: used, or set aside with its line and the reason.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from artefacts.errors import Ledger, UserError, at
from data_convert.corpus.pack_recipe import Source
from sequences.alphabets import ALPHABETS
from sequences.features import Feature, genbank_features, gff_features
from sequences.formats import FASTA, GENBANK, UNIPROTS
from sequences.genes import Gene, genes_of_entry, genes_of_file
from sequences.readers import Sequence, read_sequences, sequence_format
from sequences.regions import Place, cut

NAMES = {
    "genes": "gene", "transcripts": "transcript", "cds": "coding sequence", "promoters": "promoter", "intergenic": "intergenic region",
}  # fmt: skip
"""What a region is called, in words."""
PSEUDO, NOT_LONGEST = "pseudogene", "another one of its gene is longer"


class _Aside(Exception):
    """Why a region is not used, and whether that is what the recipe asks for."""

    def __init__(self, reason: str, on_purpose: bool = False) -> None:
        super().__init__(reason)
        self.reason, self.on_purpose = reason, on_purpose


@dataclass(slots=True)
class Region:
    """One region as annotated, before it is cut."""

    id: str
    line: int | None
    gene: Gene | None
    kind: str
    """In words."""
    places: list[Place]
    problem: str = ""
    coding: Feature | None = None
    beside: bool = False
    """Another one of its gene is taken instead."""

    @property
    def names(self) -> str:
        """What the proteins that it codes for are called."""
        coded = [self.coding] if self.coding else [one.coding for one in self.gene.transcripts] if self.gene else []
        said = [one.values for one in coded if one]
        links = [link for values in said for link in values.get("db_xref", []) + values.get("Dbxref", [])]
        named = [name for values in said for name in values.get("protein_id", [])]
        return " ".join([*named, *(link for link in links if link.startswith(UNIPROTS))])


@dataclass(frozen=True, slots=True)
class _Chromosome:
    letters: str
    circular: bool

    def read(self, start: int, end: int) -> str:
        """Letters from a place on; beyond the last one a circular chromosome goes on at the first."""
        size = len(self.letters)
        if self.circular and start < end <= start + size:
            start, end = start % size, start % size + end - start
            return self.letters[start:end] + self.letters[: max(0, end - size)]
        if not 0 <= start < end <= size:
            raise _Aside("reaches beyond its sequence")
        return self.letters[start:end]

    def span(self, places: list[Place]) -> Place:
        """From the first letter of joined stretches to the last one."""
        minus = places[0].minus
        if any(place.minus != minus for place in places):
            raise _Aside("has parts on both strands")
        first, *others = reversed(places) if minus else places
        end, before = first.end, first.start
        for place in others:
            over = len(self.letters) if place.start < before else 0  # the origin
            if over and not self.circular:
                raise _Aside("has parts out of order")
            end, before = max(end, place.end + over), place.start + over
        return Place(first.start, end, minus)

    def beside(self, span: Place, upstream: int, downstream: int) -> Place:
        """A stretch with so many letters more at its beginning and its end, as far as there are any."""
        left, right = (downstream, upstream) if span.minus else (upstream, downstream)
        before, behind = span.start, max(0, len(self.letters) - span.end)
        if self.circular:
            before = max(0, len(self.letters) - (span.end - span.start))
            behind = max(0, before - left)
        left, right = min(left, before), min(right, behind)
        return Place(span.start - left, span.end + right, span.minus)


def region_sequences(source: Source, file: Path, annotation: Path | None, records: Ledger, regions: Ledger) -> Iterator[Sequence]:
    """The source's regions of a file, each as a sequence of its own; see `cut_regions`."""
    for region, letters, organism in cut_regions(source, str(source.regions), file, annotation, records, regions):
        gene = region.gene.id if region.gene else ""
        found = Sequence(region.id, "", letters, region.line or 0, gene=gene, kind=region.kind, organism=organism)
        yield replace(found, names=region.names)


def cut_regions(
    source: Source, kind: str, file: Path, annotation: Path | None, records: Ledger, regions: Ledger
) -> Iterator[tuple[Region, str, str]]:
    """The regions of one kind of a file with their letters and species, in the order of the annotation.

    Args:
        annotation: GFF3 or GTF of a FASTA file; None: the file is GenBank.
        records: counts the file's sequences. regions: counts what is annotated.

    Raises:
        UserError: a file of another kind, or not one region that can be used.
    """
    form, mark = sequence_format(file), regions.mark()
    if form != (FASTA if annotation else GENBANK):
        raise UserError(f"{file}: this is {form}; regions are cut out of GenBank, or of FASTA with its GFF3 or GTF in `annotations`")
    noted, circular, placed = dict[str, list[Gene]](), set[str](), str(annotation or file)
    if annotation:
        genes, broken, circular = genes_of_file(gff_features(annotation))
        for gene in genes:
            noted.setdefault(gene.chromosome, []).append(gene)
        for line in broken:
            regions.read += 1
            regions.reject(line.problem, at(annotation, line.line))
    alphabet = ALPHABETS["rna" if source.modality == "rna" else "dna"]
    for record in read_sequences(file, alphabet, records, keep_case=source.keeps_case, annotated=not annotation):
        organism = source.species or ""
        if annotation:
            genes = noted.pop(record.id, [])
        else:
            features = list(genbank_features(record.table, record.table_line))
            genes = genes_of_entry(features)
            said = (feature.first("organism") for feature in features if feature.kind == "source")
            organism = organism or next(said, "")
        letters = record.letters.upper() if record.letters.islower() else record.letters  # all in lower case marks nothing
        chromosome = _Chromosome(letters, record.circular or record.id in circular)
        for region in _regions(source, kind, genes, chromosome, record.id):
            if (found := _taken(source, region, kind, chromosome, placed, regions)) is not None:
                yield region, found, organism
    for name, genes in noted.items():
        for region in _regions(source, kind, genes, _Chromosome("", False), name) if kind != "intergenic" else []:
            region.problem = region.problem or f"{file} has no sequence of this name"
            _taken(source, region, kind, _Chromosome("", False), placed, regions)
    hint = "Do the names of its first column stand in the FASTA file?" if annotation else "Is the file annotated?"
    regions.close(placed, mark, NAMES[kind], hint=hint)


def _taken(source: Source, region: Region, kind: str, chromosome: _Chromosome, placed: str, ledger: Ledger) -> str | None:
    """The letters of a region, or None with the reason in the ledger."""
    ledger.read += 1
    try:
        if region.problem:
            raise _Aside(region.problem)
        if region.gene and region.gene.pseudo and not source.pseudogenes:
            raise _Aside(PSEUDO, on_purpose=True)
        if region.beside:
            raise _Aside(NOT_LONGEST, on_purpose=True)
        letters = _letters(source, region, kind, chromosome)
        if source.longest and len(letters) > source.longest:
            raise _Aside(f"longer than {source.longest} letters", on_purpose=True)
        if len(letters) < source.shortest:
            raise _Aside(f"shorter than {source.shortest} letters", on_purpose=True)
    except _Aside as aside:
        ledger.reject(aside.reason, f"{at(placed, region.line)} ({region.id})", on_purpose=aside.on_purpose)
        return None
    ledger.written += 1
    return letters


def _letters(source: Source, region: Region, kind: str, chromosome: _Chromosome) -> str:
    places = region.places
    first, last = (places[-1], places[0]) if places[0].minus else (places[0], places[-1])
    if chromosome.circular and len(places) > 1 and (first.start, last.end) == (0, len(chromosome.letters)):
        # GFF3 with a line for each part, which are read by their places
        raise _Aside("its parts touch both ends of a circle: write them as one line with an end beyond the length")
    if kind == "genes":
        places = [chromosome.beside(chromosome.span(places), source.upstream, source.downstream)]
    elif kind == "promoters":
        if region.gene and region.gene.cut_off[0]:
            raise _Aside("the gene's beginning is not in the sequence", on_purpose=True)
        span = chromosome.span(places)
        begin = span.end if span.minus else span.start
        places = [chromosome.beside(Place(begin, begin, span.minus), source.upstream, source.downstream)]
        if places[0].start >= places[0].end:
            raise _Aside("no letters before the gene", on_purpose=True)
    letters = cut(chromosome.read, places)
    return letters[region.coding.frame :] if region.coding else letters


def _regions(source: Source, kind: str, genes: list[Gene], chromosome: _Chromosome, name: str) -> Iterator[Region]:
    """All that is annotated of one kind on one chromosome."""
    called = NAMES[kind]
    if kind == "intergenic":
        yield from _between(genes, chromosome, name)
    for gene in genes if kind != "intergenic" else []:
        if kind in ("genes", "promoters"):
            yield Region(gene.id, gene.line, gene, called, gene.places, problem=gene.problem)
            continue
        of_gene = []
        for one in gene.transcripts:
            if kind == "cds" and one.coding:
                said = one.coding
                of_gene.append(Region(one.protein or one.id, said.line, gene, called, said.places, said.problem, said))
            elif kind == "transcripts" and (one.exons or one.problem):
                of_gene.append(Region(one.id, one.line, gene, one.kind, one.exons))
            else:
                continue
            of_gene[-1].problem = gene.problem or one.problem or of_gene[-1].problem
        longest = max(of_gene, key=lambda one: sum(place.end - place.start for place in one.places), default=None)
        for region in of_gene:
            region.beside = source.isoforms == "longest" and region is not longest
            yield region


def _between(genes: list[Gene], chromosome: _Chromosome, name: str) -> Iterator[Region]:
    """The stretches that no gene covers, pseudogenes and broken ones included; on the forward strand."""
    size = len(chromosome.letters)
    taken = sorted((place.start, place.end) for gene in genes for place in _covered(gene, chromosome))
    if not taken:
        yield Region(name, None, None, NAMES["intergenic"], [], problem="no gene is annotated on it")
        return
    end, gaps = 0, list[tuple[int, int]]()
    for start, stop in taken:
        if start > end:
            gaps.append((end, start))
        end = max(end, stop)
    over = chromosome.circular and gaps and gaps[0][0] == 0 and end < size
    if over:  # the last gap goes on over the origin
        gaps = [*gaps[1:], (end, size + gaps[0][1])]
    elif end < size:
        gaps.append((end, size))
    for start, stop in gaps:
        yield Region(f"{name}:{start}-{stop}", None, None, NAMES["intergenic"], [Place(start, stop)])


def _covered(gene: Gene, chromosome: _Chromosome) -> list[Place]:
    try:
        span = chromosome.span(gene.places)
    except (_Aside, IndexError):  # no span: what its parts cover
        return gene.places
    size = len(chromosome.letters)
    return [Place(span.start, size), Place(0, span.end - size)] if span.end > size and chromosome.circular else [span]
