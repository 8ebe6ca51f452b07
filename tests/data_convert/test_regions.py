"""Regions cut out by an annotation: on their strand, spliced, over the origin, every one of them in the ledger."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from artefacts.errors import Ledger, UserError
from data_convert.corpus.documents import read_documents
from data_convert.corpus.pack import pack
from data_convert.corpus.pack_recipe import PackRecipe, Source
from data_convert.corpus.regions import NOT_LONGEST, region_sequences
from data_convert.corpus.shards import load_shards
from sequences.alphabets import reverse_complement

LETTERS = "".join(random.Random(5).choices("ACGT", k=200))


def genbank(folder: Path, features: list[tuple[str, str, dict[str, str]]], letters: str = LETTERS, circular: bool = False) -> Path:
    lines = [f"LOCUS       chr {len(letters)} bp DNA {'circular' if circular else 'linear'} BCT", "VERSION     chr.1"]
    lines += ["FEATURES             Location/Qualifiers", f"     source          1..{len(letters)}"]
    lines += ['                     /organism="Testa exempli"']
    for kind, where, said in features:
        lines += [f"     {kind:<16}{where}", *(f'                     /{name}="{value}"' for name, value in said.items())]
    lines += ["ORIGIN", *(f"{at + 1:>9} {letters[at : at + 60]}" for at in range(0, len(letters), 60)), "//"]
    path = folder / "x.gbff"
    path.write_text("\n".join(lines) + "\n")
    return path


def found(source: Source) -> tuple[dict[str, str], Ledger]:
    """Id -> letters, and the ledger of what is annotated, which balances."""
    regions = Ledger()
    annotation = source.annotations[0] if source.annotations else None
    cut = {one.id: one.letters for one in region_sequences(source, source.files[0], annotation, Ledger(), regions)}
    assert regions.as_dict()["written"] == len(cut)
    return cut, regions


FEATURES = [
    ("gene", "11..40", {"locus_tag": "A"}),
    ("CDS", "join(11..16,31..40)", {"locus_tag": "A", "protein_id": "PA", "codon_start": "2"}),
    ("gene", "complement(61..90)", {"locus_tag": "B"}),
    ("mRNA", "complement(join(61..70,81..90))", {"locus_tag": "B", "transcript_id": "TB"}),
    ("CDS", "complement(join(64..70,81..85))", {"locus_tag": "B", "protein_id": "PB"}),
    ("mRNA", "complement(61..90)", {"locus_tag": "B", "transcript_id": "TB2"}),
    ("gene", "<100..110", {"locus_tag": "C"}),
    ("gene", "120..130", {"locus_tag": "P", "pseudo": ""}),
    ("gene", "order(140..150,complement(160..170))", {"locus_tag": "both"}),
    ("gene", "190..999", {"locus_tag": "beyond"}),
]


def source(file: Path, regions: str, **more: Any) -> Source:
    return Source(modality="dna", files=[file], regions=regions, **more)


def test_genes_with_flanks(tmp_path: Path) -> None:
    cut, ledger = found(source(genbank(tmp_path, FEATURES), "genes", upstream=20, downstream=3))
    assert cut == {"A": LETTERS[0:43], "B": reverse_complement(LETTERS[57:110]), "C": LETTERS[79:113]}
    assert dict(ledger.reasons) == {"pseudogene": 1, "has parts on both strands": 1, "reaches beyond its sequence": 1}
    assert ledger.left_out == 1
    (place,) = ledger.examples["pseudogene"]
    line = (tmp_path / "x.gbff").read_text().splitlines().index("     gene            120..130") + 1
    assert place == f"{tmp_path / 'x.gbff'}:{line} (P)"
    assert "P" in found(source(genbank(tmp_path, FEATURES), "genes", pseudogenes=True))[0]


def test_spliced_on_their_strand(tmp_path: Path) -> None:
    file = genbank(tmp_path, FEATURES)
    exons = reverse_complement(LETTERS[60:70] + LETTERS[80:90])
    assert found(source(file, "transcripts", isoforms="all"))[0] == {"TB": exons, "TB2": reverse_complement(LETTERS[60:90])}
    cut, ledger = found(source(file, "transcripts"))
    assert list(cut) == ["TB2"]
    assert dict(ledger.reasons) == {NOT_LONGEST: 1}
    # from its first whole codon on
    assert found(source(file, "cds"))[0] == {
        "PA": (LETTERS[10:16] + LETTERS[30:40])[1:], "PB": reverse_complement(LETTERS[63:70] + LETTERS[80:85]),
    }  # fmt: skip
    assert list(found(source(file, "cds", longest=12))[0]) == ["PB"]


def test_promoters_end_where_the_sequence_does(tmp_path: Path) -> None:
    cut, ledger = found(source(genbank(tmp_path, FEATURES[:7]), "promoters", upstream=15, downstream=4))
    assert cut == {"A": LETTERS[0:14], "B": reverse_complement(LETTERS[86:105])}
    assert dict(ledger.reasons) == {"the gene's beginning is not in the sequence": 1}


@pytest.mark.parametrize("strand", "+-")
def test_parts_in_lines_of_their_own_are_not_joined_the_wrong_way_over_the_origin(tmp_path: Path, strand: str) -> None:
    """One line goes over the origin by an end beyond the length; of two nobody knows the order."""
    (tmp_path / "x.fa").write_text(f">chr\n{LETTERS}\n")
    region = "chr\tx\tregion\t1\t200\t.\t+\t.\tID=chr;Is_circular=true\n"
    cds = "chr\tx\tCDS\t{}\t{}\t.\t" + strand + "\t0\tID=c;Parent=t\n"
    head = region + f"chr\tx\tmRNA\t191\t209\t.\t{strand}\t.\tID=t\n"
    (tmp_path / "one.gff3").write_text(head + cds.format(191, 209))
    (tmp_path / "two.gff3").write_text(head + cds.format(191, 200) + cds.format(1, 9))
    one, two = (source(tmp_path / "x.fa", "cds", annotations=[tmp_path / f"{name}.gff3"]) for name in ("one", "two"))
    whole = LETTERS[190:] + LETTERS[:9]
    assert list(found(one)[0].values()) == [whole if strand == "+" else reverse_complement(whole)]
    with pytest.raises(UserError, match="write them as one line with an end beyond the length: 1"):
        found(two)


def test_between_genes_and_over_the_origin(tmp_path: Path) -> None:
    features = [("gene", "join(191..200,1..10)", {"gene": "O"}), ("gene", "complement(50..60)", {"gene": "M"})]
    file = genbank(tmp_path, features, circular=True)
    assert found(source(file, "genes"))[0] == {"O": LETTERS[190:] + LETTERS[:10], "M": reverse_complement(LETTERS[49:60])}
    assert set(found(source(file, "intergenic"))[0].values()) == {LETTERS[10:49], LETTERS[60:190]}
    assert found(source(file, "promoters", upstream=195))[0]["O"] == (LETTERS * 2)[195 : 200 + 190]
    assert not found(source(genbank(tmp_path, features), "genes"))[1].reasons.keys() - {"has parts out of order"}
    # a plasmid gives no letter twice
    assert len(found(source(file, "genes", upstream=500, downstream=500))[0]["M"]) == 200
    beyond = genbank(tmp_path, [*features, ("gene", "100..999", {"gene": "long"})], circular=True)
    assert dict(found(source(beyond, "genes"))[1].reasons) == {"reaches beyond its sequence": 1}
    file = genbank(tmp_path, features[1:], circular=True)
    assert set(found(source(file, "intergenic"))[0].values()) == {LETTERS[60:] + LETTERS[:49]}


@settings(max_examples=60)
@given(st.data())
def test_genes_and_what_lies_between_are_the_whole(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    spans = data.draw(st.lists(st.tuples(st.integers(1, 200), st.integers(1, 40), st.booleans()), min_size=1, max_size=6, unique=True))
    places = [(start, min(200, start + length), minus) for start, length, minus in spans]
    said = [
        ("gene", f"complement({start}..{end})" if minus else f"{start}..{end}", {"locus_tag": f"g{number}"})
        for number, (start, end, minus) in enumerate(places)
    ]
    file = genbank(tmp_path_factory.mktemp("x"), said)
    covered = {place for start, end, _ in places for place in range(start - 1, end)}
    if len(covered) < 200:
        between = found(source(file, "intergenic"))[0]
        assert sum(map(len, between.values())) == 200 - len(covered)
    genes = found(source(file, "genes"))[0]
    for number, (start, end, minus) in enumerate(places):
        assert genes[f"g{number}"] == (reverse_complement(LETTERS[start - 1 : end]) if minus else LETTERS[start - 1 : end])


def gff(folder: Path) -> Source:
    (folder / "x.fa").write_text(f">c1 first\n{LETTERS[:50]}{LETTERS[50:80].lower()}{LETTERS[80:]}\n>c2\n{LETTERS[:30].lower()}\n")
    rows = ["c1\tx\tgene\t11\t70\t.\t-\t.\tID=A", "c2\tx\tgene\t1\t20\t.\t+\t.\tID=low", "c3\tx\tgene\t1\t9\t.\t+\t.\tID=lost", "broken"]
    (folder / "x.gff").write_text("\n".join(rows) + "\n")
    return source(folder / "x.fa", "genes", annotations=[folder / "x.gff"], species="Testa exempli")


def test_fasta_with_gff(tmp_path: Path) -> None:
    made = gff(tmp_path)
    cut, ledger = found(made)
    # c2 is all in lower case, which marks nothing
    assert cut == {"A": reverse_complement(LETTERS[10:50] + LETTERS[50:70].lower()), "low": LETTERS[:20]}
    assert ledger.examples == {
        "not nine columns": [f"{tmp_path / 'x.gff'}:4"],
        f"{tmp_path / 'x.fa'} has no sequence of this name": [f"{tmp_path / 'x.gff'}:3 (lost)"],
    }
    first, second = read_documents(made, tmp_path / "x.fa", Ledger(), Ledger(), annotation=tmp_path / "x.gff")
    assert first.repeats == b"1" * 20 + b"0" * 40
    assert second.repeats == b"0" * 20
    (tmp_path / "x.gff").write_text("c3\tx\tgene\t1\t9\t.\t+\t.\tID=lost\n")
    with pytest.raises(UserError, match=r"not one usable gene: .*has no sequence of this name.*first column"):
        found(made)


def test_what_does_not_fit_is_refused(tmp_path: Path) -> None:
    file = genbank(tmp_path, FEATURES)
    for wrong, said in (
        ({"regions": "promoters"}, "need upstream"),
        ({"regions": "cds", "upstream": 5}, "upstream and downstream are for"),
        ({"regions": "genes", "both_strands": True}, "own strand"),
        ({"annotations": [file]}, "annotations belong to regions"),
        ({"regions": "genes", "modality": "protein"}, "not for protein"),
    ):
        with pytest.raises(ValueError, match=said):
            Source(**{"modality": "dna", "files": [file], **wrong})
    (tmp_path / "x.fa").write_text(">c\nACGT\n")
    with pytest.raises(UserError, match="this is FASTA; regions are cut out of GenBank, or of FASTA with its GFF3"):
        found(source(tmp_path / "x.fa", "genes"))


@pytest.fixture(scope="module")
def many_genes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    letters = "".join(random.Random(8).choices("ACGT", k=60 * 300))
    features = []
    for number in range(300):
        where, name = f"{60 * number + 1}..{60 * number + 50}", {"locus_tag": f"g{number:03}"}
        features += [("gene", where, name), ("CDS", where, {**name, "protein_id": f"p{number:03}"})]
    return genbank(tmp_path_factory.mktemp("many"), features, letters)


def test_one_gene_is_on_one_side_in_every_source_and_half_of_the_documents_say_what_they_are(
    many_genes: Path, extended_folder: Path, tmp_path: Path
) -> None:
    sources = [source(many_genes, "genes", heldout_share=0.3, upstream=5, window=20), source(many_genes, "cds", heldout_share=0.3)]
    made = PackRecipe(tokenizer=extended_folder, out=tmp_path / "out", block_tokens=128, sources=sources, verify=True, seed=3)
    counts = pack(made)
    sides: dict[str, set[str]] = {}
    for split in ("train", "heldout"):
        for row in load_shards(made.out, split):
            for name in row["ids"]:
                sides.setdefault(name[1:4], set()).add(split)
    assert len(sides) == 300
    assert all(len(side) == 1 for side in sides.values())
    assert 50 < sum(side == {"heldout"} for side in sides.values()) < 130
    assert [report["kind"] for report in counts["sources"]] == ["genes", "cds"]
    assert counts["sources"][1]["regions"][str(many_genes)]["read"] == 300
    words = [one.words for one in read_documents(sources[1], many_genes, Ledger(), Ledger(), seed=3)]
    assert 110 < sum(map(bool, words)) < 190
    assert {word for word in words if word} == {
        "Testa exempli, coding sequence: ", "Testa exempli coding sequence: ", "coding sequence of Testa exempli: ",
        "coding sequence from Testa exempli: ",
    }  # fmt: skip
    assert words != [one.words for one in read_documents(sources[1], many_genes, Ledger(), Ledger(), seed=4)]


def test_words_before_a_sequence_are_said_in_the_shards(many_genes: Path, extended_folder: Path, tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    tokenizer: Any = AutoTokenizer.from_pretrained(str(extended_folder))
    all_said = source(many_genes, "cds", described=1.0, heldout_share=0.1)
    pack(PackRecipe(tokenizer=extended_folder, out=tmp_path / "out", block_tokens=128, sources=[all_said]))
    row = load_shards(tmp_path / "out", "train")[0]
    texts = tokenizer.decode(row["input_ids"][: row["seq_lengths"][0]], skip_special_tokens=False)
    assert "Testa exempli" in texts
    assert row["letters"] == [50] * len(row["letters"])
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert manifest["counts"]["train"]["dna"]["letters"] == 50 * manifest["counts"]["train"]["dna"]["fragments"]


def test_held_out_files_have_annotations_of_their_own(extended_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    made, other = gff(tmp_path), tmp_path / "other"
    (other / "y.fa").write_text(f">c9\n{LETTERS[::-1]}\n")
    (other / "y.gff").write_text("c9\tx\tgene\t5\t44\t.\t+\t.\tID=Y\n")
    held = {"heldout_files": [other / "y.fa"], "heldout_annotations": [other / "y.gff"]}
    sources = [Source.model_validate({**made.model_dump(), **held})]
    asked = PackRecipe(tokenizer=extended_folder, out=tmp_path / "out", sources=sources, verify=True, max_broken=0.5)
    counts = pack(asked)
    assert [row["ids"] for row in load_shards(asked.out, "heldout")] == [["Y"]]
    assert counts["sources"][0]["regions"][str(other / "y.gff")]["written"] == 1
    inputs = json.loads((asked.out / "manifest.json").read_text())["inputs"]
    assert {str(tmp_path / "x.gff"), str(other / "y.gff")} <= set(inputs)
    assert "x.gff:4\tnot nine columns" in (asked.out / "set_aside.tsv").read_text()
