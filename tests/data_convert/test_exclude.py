"""Documents that contain a benchmark sequence are found, all of them and no other."""

from __future__ import annotations

import gzip
import json
import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from artefacts.errors import UserError
from data_convert.corpus.exclude import HOLDS, NAMED, STRETCH, Excluded, read_excluded
from data_convert.corpus.pack import pack
from data_convert.corpus.pack_recipe import PackRecipe, Source
from sequences.accessions import accessions
from sequences.alphabets import DNA, PROTEIN, reverse_complement


@given(
    documents=st.lists(st.text("AC", max_size=80), min_size=1, max_size=5),
    sequences=st.lists(st.text("AC", min_size=1, max_size=24), max_size=6),
    cuts=st.lists(st.tuples(st.integers(0, 9), st.integers(0, 40), st.integers(12, 30), st.booleans()), max_size=4),
    alphabet=st.sampled_from([DNA, PROTEIN]),
)
def test_the_same_as_searching_for_each(documents, sequences, cuts, alphabet):
    for which, start, length, other in cuts:  # such that some are found
        piece = documents[which % len(documents)][start : start + length]
        sequences.append(reverse_complement(piece) if other and alphabet is DNA else piece)
    known = [letters for letters in sequences if len(letters) >= STRETCH[alphabet.name][0]]
    strands = [reverse_complement(letters) for letters in known] if alphabet is DNA else []
    expected = [any(letters in document for letters in known + strands) for document in documents]
    assert Excluded(sequences, alphabet).held_by(documents).tolist() == expected


def test_the_last_letter_counts():
    draw = random.Random(0)
    for alphabet in (DNA, PROTEIN):
        sequence = "".join(draw.choices(alphabet.letters[:4], k=50))
        excluded = Excluded([sequence], alphabet)
        documents = [f"AAA{sequence}", sequence, f"{sequence}C", sequence[:-1] + ("A" if sequence[-1] != "A" else "C"), sequence[1:], ""]
        assert excluded.held_by(documents).tolist() == [True, True, True, False, False, False]


def letters_of(seed: int, letters: str = "ACGT", length: int = 40) -> str:
    return "".join(random.Random(seed).choices(letters, k=length))


def test_every_format(tmp_path: Path):
    protein = letters_of(9, "DEFGHIKL")
    (tmp_path / "a.fa").write_text(f">x\n{letters_of(1)[:20].lower()}\n{letters_of(1)[20:]}\n")
    (tmp_path / "b.csv.gz").write_bytes(gzip.compress(f"sequence,label\n{letters_of(2)},promoter\n{protein}*,0.5\n".encode()))
    item = {"name": "s", "modality": "rna", "letters": letters_of(3).replace("T", "U")}
    (tmp_path / "c.jsonl").write_text(json.dumps({"inputs": [item]}) + "\n")
    sets, ledgers, _ = read_excluded(tuple(tmp_path / name for name in ("a.fa", "b.csv.gz", "c.jsonl")))
    assert [(ledger.read, ledger.written) for ledger in ledgers.values()] == [(1, 1), (2, 2), (1, 1)]
    documents = [letters_of(seed) for seed in range(5)]
    assert sets["dna"].held_by(documents).tolist() == sets["rna"].held_by(documents).tolist() == [False, True, True, True, False]
    assert sets["protein"].held_by([f"M{protein}*", protein]).tolist() == [True, True]
    (tmp_path / "a.fa").write_text(f">x\n{letters_of(4)}{letters_of(4)}\n")
    assert read_excluded((tmp_path / "a.fa",))[0]["dna"].held_by([letters_of(4) * 2]).tolist() == [True], "read anew once it has changed"
    (tmp_path / "d.csv").write_text("a,b\nACGT,1\n")
    with pytest.raises(UserError, match=r"d\.csv: not one usable benchmark sequence: too short: 1"):
        read_excluded((tmp_path / "d.csv",))
    (tmp_path / "f.csv.gz").write_bytes((tmp_path / "b.csv.gz").read_bytes()[:-12])
    with pytest.raises(UserError, match=r"f\.csv\.gz:1: the gz data is cut short or damaged"):
        read_excluded((tmp_path / "f.csv.gz",))
    (tmp_path / "e.jsonl").write_text('{"text": "a"}\n')
    with pytest.raises(UserError, match=r"e\.jsonl:1: not a record"):
        read_excluded((tmp_path / "e.jsonl",))


def test_packing_drops_and_counts_them(extended_folder: Path, tmp_path: Path):
    genome = letters_of(5, length=1000)
    (tmp_path / "g.fa").write_text(f">chr\n{genome}\n")
    (tmp_path / "test.csv").write_text(f"sequence,label\n{reverse_complement(genome[310:350])},1\n{genome[590:630]},0\n{letters_of(6)},0\n")
    source = Source(modality="dna", files=[tmp_path / "g.fa"], window=100, heldout_share=0)
    made = PackRecipe(tokenizer=extended_folder, out=tmp_path / "out", block_tokens=128, sources=[source], exclude=[tmp_path / "test.csv"])
    (report,) = pack(made)["sources"]
    assert report["documents"]["reasons"] == {HOLDS: 1}  # the second lies across two windows, and neither holds it
    assert report["documents"]["examples"] == {HOLDS: ["chr:300-400"]}
    assert report["letters"] == {HOLDS: 100, "packed_train": 900}


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("sp|P0AD86|LPT_ECOLI", {"P0AD86", "LPT_ECOLI"}),
        ("tr|A0A024R161.7|A0A024R161_HUMAN", {"A0A024R161", "A0A024R161_HUMAN"}),
        ("Q9Y6K9-2", {"Q9Y6K9"}),
        ("NP_414542.12", {"NP_414542"}),
        ("NC_000913.3:100-400", set()),
        ("U00096:c400..100", set()),
        ("CP012345.1_100_400", set()),
        ("lcl|NC_000913.3_prot_NP_414542.1_1", {"NP_414542"}),
        ("ENST00000380152.8", {"ENST00000380152"}),
        ("WP_000241662.1 AAC73112.1 NZ_CP009685.1 NZ_JABCDE010000001.1", {"WP_000241662", "AAC73112", "NZ_CP009685", "NZ_JABCDE010000001"}),
        ("seq_001 TEST_001 chr1 promoter 0.5 thrL b0001 line5 sim/promoter/test/12 GO:0008150 fold_2", set()),
        ("ACGTACGTACGTACGTACGT MKRISTTITTTITITTGNGAG", set()),
    ],
)
def test_what_is_an_accession(name, expected):
    assert accessions(name) == expected


def test_accessions_of_every_format(tmp_path: Path):
    (tmp_path / "a.fa").write_text(
        f">sp|P0AD86|LPT_ECOLI thr leader, see U00096\n{letters_of(1)}\n>x [protein_id=NP_414543.1]\n{letters_of(2)}\n"
    )
    (tmp_path / "b.csv").write_text(f"chrom,protein_id,label,sequence\nU00096,Q9Y6K9.2,P99999,{letters_of(3)}\nU00096,,1,{letters_of(4)}\n")
    (tmp_path / "c.txt").write_text("P12345\nNP_000001.2\n")
    (tmp_path / "d.tsv").write_text("id\tlabel\nA2BC19\t1\nO15527\t0\n")
    files = tuple(tmp_path / name for name in ("a.fa", "b.csv", "c.txt", "d.tsv"))
    sets, ledgers, names = read_excluded(files)
    assert names == {"P0AD86", "LPT_ECOLI", "NP_414543", "Q9Y6K9", "P12345", "NP_000001", "A2BC19", "O15527"}
    assert [(ledger.read, ledger.written, ledger.notes["named by accession"]) for ledger in ledgers.values()] == [
        (2, 2, 2), (2, 2, 1), (2, 2, 2), (2, 2, 2)
    ]  # fmt: skip
    assert sets["dna"].held_by([letters_of(seed) for seed in range(5)]).tolist() == [False, True, True, True, True]
    (tmp_path / "e.txt").write_text("thrL\nthrA\nthrB\n")
    with pytest.raises(UserError, match=r"e\.txt: not one usable benchmark sequence: too short: 2.* or an accession"):
        read_excluded((tmp_path / "e.txt",))


GENBANK = """LOCUS       U00096                  120 bp    DNA     linear   BCT 01-JAN-2000
VERSION     U00096.3
FEATURES             Location/Qualifiers
     source          1..120
                     /organism="Escherichia coli"
     gene            1..12
                     /locus_tag="b0001"
     CDS             1..12
                     /locus_tag="b0001"
                     /protein_id="NP_414542.1"
                     /db_xref="UniProtKB/Swiss-Prot:P0AD86"
                     /translation="MKR"
     gene            61..72
                     /locus_tag="b0002"
     CDS             61..72
                     /locus_tag="b0002"
                     /protein_id="NP_414543.1"
                     /db_xref="UniProtKB/Swiss-Prot:P00561"
                     /translation="MKR"
ORIGIN
        1 {}
       61 {}
//
"""


def test_what_is_called_as_a_benchmark_record_goes(extended_folder: Path, tmp_path: Path):
    """The gene and the protein of P0AD86, by links that the annotation has; a window by the record that it is from."""
    filler = letters_of(7, length=48).lower()
    (tmp_path / "g.gbk").write_text(GENBANK.format("atgaaacgctaa" + filler, "atgaaacgttaa" + filler[::-1]))
    (tmp_path / "p.fa").write_text(">sp|P0AD86|LPT_ECOLI\nMKRISTTITTT\n>tr|Q9Y6K9\nMKRISTTITTA\n")
    (tmp_path / "n.fa").write_text(f">NC_000001.11 chromosome\n{letters_of(8)}\n>chr2\n{letters_of(10)}\n")
    (tmp_path / "names.txt").write_text("LPT_ECOLI\nP0AD86\nNC_000001\n")
    kinds = [
        {"modality": "dna", "files": [tmp_path / "g.gbk"], "regions": "genes"},
        {"modality": "dna", "files": [tmp_path / "g.gbk"], "regions": "cds"},
        {"modality": "mixed", "files": [tmp_path / "g.gbk"]},
        {"modality": "protein", "files": [tmp_path / "g.gbk"]},
        {"modality": "protein", "files": [tmp_path / "p.fa"]},
        {"modality": "dna", "files": [tmp_path / "n.fa"], "window": 20},
    ]
    sources = [Source(**kind, heldout_share=0) for kind in kinds]
    made = PackRecipe(tokenizer=extended_folder, out=tmp_path / "out", block_tokens=128, sources=sources, exclude=[tmp_path / "names.txt"])
    counts = pack(made)
    found = [report["documents"]["reasons"].get(NAMED) for report in counts["sources"]]
    assert found == [1, 1, 1, 1, 1, 2]
    assert [report["documents"]["examples"][NAMED][0] for report in counts["sources"]] == [
        "b0001", "NP_414542.1", "NP_414542.1", "NP_414542.1", "sp|P0AD86|LPT_ECOLI", "NC_000001.11:0-20"
    ]  # fmt: skip
    assert all(report["letters"][NAMED] > 0 for report in counts["sources"])
    assert counts["excluded"][str(tmp_path / "names.txt")]["notes"] == {"named by accession": 3}
