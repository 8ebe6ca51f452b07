"""Feature tables of GenBank, GFF3 and GTF, and the genes that are put together from them."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from artefacts.errors import UserError
from sequences.alphabets import reverse_complement
from sequences.features import Feature, genbank_features, gff_features
from sequences.genes import ORPHAN, Gene, genes_of_entry, genes_of_file
from sequences.regions import Place, cut

TABLE = b"""     source          1..60
                     /organism="Testa exempli"
     gene            complement(<11..>40)
                     /locus_tag="T1"
                     /note="a note whose second line
                     /pseudo is no qualifier, and ""quotes"" too"
     CDS             complement(join(11..20,31..40))
                     /locus_tag="T1"
                     /codon_start=2
                     /transl_except=(pos:13..15,aa:Sec)
                     /translation="MK
                     LV"
     gene            7
                     /gene="point"
                     /pseudo
     CDS             join(complement(5..9),50..60)
                     /gene="twice"
     CDS             J00194.1:100..202
                     /gene="elsewhere"
     misc_feature    12^13
"""


def test_a_table_of_features() -> None:
    found = list(genbank_features(TABLE, 8))
    assert [(feature.kind, feature.line) for feature in found] == [
        ("source", 8), ("gene", 10), ("CDS", 14), ("gene", 20), ("CDS", 23), ("CDS", 25), ("misc_feature", 27),
    ]  # fmt: skip
    gene, coding = found[1:3]
    assert gene.places == [Place(10, 40, True)]
    assert gene.cut_off == (True, True)
    assert gene.first("note") == 'a note whose second line /pseudo is no qualifier, and "quotes" too'
    assert "pseudo" not in gene.values
    assert coding.places == [Place(30, 40, True), Place(10, 20, True)]
    assert (coding.frame, coding.first("translation")) == (1, "MKLV")
    assert "pseudo" in found[3].values
    assert found[3].places == [Place(6, 7)]
    assert found[4].places == [Place(4, 9, True), Place(49, 60)]
    assert [feature.problem for feature in found[5:]] == ["lies in another entry", "no place in the sequence"]
    genes = genes_of_entry(found)
    assert [(one.id, one.pseudo, len(one.transcripts)) for one in genes] == [
        ("T1", False, 1), ("point", True, 0), ("twice", False, 1), ("elsewhere", False, 1),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("where", "beginning", "end"),
    [("<1..9", True, False), ("1..>9", False, True), ("complement(<1..9)", False, True), ("complement(join(1..3,5..>9))", True, False)],
)
def test_which_end_is_cut_off(where: str, beginning: bool, end: bool) -> None:
    (feature,) = genbank_features(f"     CDS             {where}\n".encode(), 1)
    assert feature.cut_off == (beginning, end)


def as_biopython(table: bytes, letters: str) -> list[tuple[str, str]]:
    from Bio import SeqIO

    origin = "".join(f"{start + 1:>9} {letters[start : start + 60].lower()}\n" for start in range(0, len(letters), 60))
    head = f"LOCUS       X {len(letters):>20} bp    DNA     linear   UNK 01-JAN-1980\nFEATURES             Location/Qualifiers\n"
    entry = SeqIO.read(io.StringIO(head + table.decode() + f"ORIGIN\n{origin}//\n"), "genbank")
    return [(feature.type, str(feature.extract(entry.seq)).upper()) for feature in entry.features]


def test_places_are_those_of_biopython() -> None:
    letters = "ACGTTGCAAGCTAGGCTTAACCGGATCGATTTACGCGATATCGCGGCTAACGTTCGAATCG"
    table = TABLE.replace(b'     CDS             J00194.1:100..202\n                     /gene="elsewhere"\n', b"").partition(
        b"     misc_f"
    )[0]
    ours = [(one.kind, cut(lambda start, end: letters[start:end], one.places)) for one in genbank_features(table, 1)]
    assert ours == as_biopython(table, letters)


GFF = """##gff-version 3
c\tx\tregion\t1\t100\t.\t+\t.\tID=c;Is_circular=true
c\tx\tgene\t11\t60\t.\t-\t.\tID=g1;Name=one;Note=protein%2C coding
c\tx\tmRNA\t11\t60\t.\t-\t.\tID=t1;Parent=g1
c\tx\tfive_prime_UTR\t56\t60\t.\t-\t.\tParent=t1
c\tx\texon\t11\t30\t.\t-\t.\tParent=t1,t1-Protein
c\tx\tCDS\t15\t30\t.\t-\t1\tParent=t1
c\tx\texon\t41\t60\t.\t-\t.\tParent=t1
c\tx\tCDS\t41\t55\t.\t-\t0\tParent=t1
c\tx\tgene\t70\t90\t.\t+\t.\tID=g2;end_range=90,.
c\tx\tCDS\t70\t90\t.\t+\t0\tID=cds2;Parent=g2
c\tx\tpseudogene\t92\t95\t.\t+\t.\tID=g3
c\tx\texon\t96\t97\t.\t+\t.\tParent=lost
c\tx\tmRNA\t98\t99\t.\t+\t.\tID=t4
c\tx\texon\t98\t99\t.\t+\t.\tParent=t4
c\tx\trepeat\t5\t9\t.\t.\t.\tName=evidence
c\tx\tgene\t50\t40\t.\t+\t.\tID=backwards
c\tx\tgene\t50\t60\t.\t.\t.\tID=strandless
c only seven columns
"""


def genes(tmp_path: Path, text: str) -> tuple[list[Gene], list[Feature], set[str]]:
    path = tmp_path / "x.gff"
    path.write_text(text)
    return genes_of_file(gff_features(path))


def test_genes_of_gff3(tmp_path: Path) -> None:
    found, broken, circular = genes(tmp_path, GFF)
    assert circular == {"c"}
    assert [(gene.id, gene.line, gene.pseudo, gene.problem) for gene in found] == [
        ("g1", 3, False, ""), ("g2", 10, False, ""), ("g3", 12, True, ""), ("t4", 14, False, ""), ("lost", 13, False, ORPHAN),
    ]  # fmt: skip
    first, second = found[0].transcripts[0], found[1].transcripts[0]
    assert first.exons == [Place(40, 60, True), Place(10, 30, True)]
    assert first.coding is not None
    assert (first.coding.places, first.coding.frame) == ([Place(40, 55, True), Place(14, 30, True)], 0)
    assert (second.id, second.exons) == ("cds2", [])
    assert found[1].cut_off == (False, True)
    assert found[3].places == [Place(97, 99)]
    assert [(line.line, line.problem) for line in broken] == [
        (17, "start or end is no place"), (18, "no strand"), (19, "not nine columns"),
    ]  # fmt: skip


def test_gtf_without_genes_and_with_the_stop_codon_apart(tmp_path: Path) -> None:
    said = 'gene_id "G"; transcript_id "T"; gene_name "a; b";'
    rows = [("exon", 11, 40), ("CDS", 14, 30), ("stop_codon", 31, 33), ("exon", 51, 60)]
    found, broken, _ = genes(tmp_path, "".join(f"c\tx\t{kind}\t{start}\t{end}\t.\t+\t0\t{said}\n" for kind, start, end in rows))
    (gene,) = found
    assert (gene.id, gene.places, gene.problem, broken) == ("G", [Place(10, 60)], "", [])
    assert gene.transcripts[0].exons == [Place(10, 40), Place(50, 60)]
    assert gene.transcripts[0].coding is not None
    assert gene.transcripts[0].coding.places == [Place(13, 30), Place(30, 33)]
    assert gene.values["gene_name"] == ["a; b"]


def test_another_file_is_no_annotation(tmp_path: Path) -> None:
    (tmp_path / "x.fa").write_text(">c\nACGT\n")
    with pytest.raises(UserError, match=r"x\.fa:1: no GFF3 or GTF"):
        list(gff_features(tmp_path / "x.fa"))


def test_reverse_complement_keeps_the_case() -> None:
    assert reverse_complement("ACgtN") == "NacGT"


@pytest.mark.shared
def test_every_feature_of_a_real_genome_is_cut_as_biopython_cuts_it(shared_data: Path) -> None:
    import gzip

    from Bio import SeqIO

    from artefacts.errors import Ledger
    from sequences.alphabets import DNA
    from sequences.readers import read_sequences

    path = shared_data / "genomes" / "ecoli_K12_MG1655_GCF_000005845.2.gbff.gz"
    (entry,) = read_sequences(path, DNA, Ledger(), annotated=True)
    assert entry.circular
    with gzip.open(path, "rt") as handle:
        theirs = SeqIO.read(handle, "genbank")
    ours = list(genbank_features(entry.table, entry.table_line))
    assert len(ours) == len(theirs.features)
    for one, other in zip(ours, theirs.features, strict=True):
        assert cut(lambda start, end: entry.letters[start:end], one.places) == str(other.extract(theirs.seq)), one.line
