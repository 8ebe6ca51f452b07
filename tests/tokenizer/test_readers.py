"""FASTA and text readers: odd but legal files are read whole, damaged ones are named with file and line."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from artefacts.errors import Ledger, UserError
from tokenizer.alphabets import DNA, NUCLEOTIDES, PROTEIN, RNA, Alphabet
from tokenizer.readers import Sequence, open_bytes, read_fasta, read_text


def fasta(tmp_path: Path, content: bytes, alphabet: Alphabet = DNA, name: str = "x.fa") -> tuple[list[Sequence], Ledger]:
    path = tmp_path / name
    path.write_bytes(content)
    ledger = Ledger()
    return list(read_fasta(path, alphabet, ledger)), ledger


def test_wrapped_crlf_lower_case_blank_lines(tmp_path):
    found, ledger = fasta(tmp_path, b"\n>chr1 a  test\r\nACgt\r\n\r\nnnRY\r\n>\nTT\n>two_line\tx\nGGCC")
    assert found == [
        Sequence("chr1", "a  test", "ACGTNNRY", 2),
        Sequence("line6", "", "TT", 6),
        Sequence("two_line", "x", "GGCC", 8),
    ]
    assert ledger.as_dict()["read"] == ledger.written == 3


def test_u_becomes_t_in_rna_and_stays_in_proteins(tmp_path):
    assert fasta(tmp_path, b">r\nAcgUu\n", RNA)[0][0].letters == "ACGTT"
    assert fasta(tmp_path, b">p\nmkUO*\n", PROTEIN)[0][0].letters == "MKUO*"


def test_bad_records_are_set_aside_with_their_line(tmp_path):
    found, ledger = fasta(tmp_path, b">ok\nACGT\n>bad\nACGT\nAC-T\n>empty\n\n>u\nACGU\n>ok2\nA\n")
    assert [s.id for s in found] == ["ok", "ok2"]
    assert ledger.as_dict() == {
        "read": 5,
        "written": 2,
        "rejected": 3,
        "reasons": {"empty sequence": 1, "letter outside dna": 2},
        "examples": {
            "letter outside dna": [f"{tmp_path / 'x.fa'}:5 ('-')", f"{tmp_path / 'x.fa'}:9 ('U')"],
            "empty sequence": [f"{tmp_path / 'x.fa'}:6"],
        },
    }


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", ":1: no sequence record"),
        (b"\n \n", ":1: no sequence record"),
        (b"\nACGT\n", ":2: not FASTA"),
        (b"sequence,label\nACGT,1\n", ":1: not FASTA"),
        (b">p\nMKLV\n>q\n\n", "not one usable dna record: letter outside dna: 1; empty sequence: 1"),
    ],
)
def test_unusable_files_are_refused(tmp_path, content, words):
    with pytest.raises(UserError, match=r"x\.fa") as error:
        fasta(tmp_path, content)
    assert words in str(error.value)


def test_missing_file_and_folder(tmp_path):
    with pytest.raises(UserError, match="no such file"):
        list(read_fasta(tmp_path / "none.fa", DNA, Ledger()))
    with pytest.raises(UserError, match="cannot be read"):
        open_bytes(tmp_path)


def test_gz_of_several_members_whatever_its_name(tmp_path):
    content = gzip.compress(b">a\nAC") + gzip.compress(b"GT\n>b\nTT\n")
    assert [s.letters for s in fasta(tmp_path, content, name="x.fa")[0]] == ["ACGT", "TT"]


def test_truncated_gz_names_the_line(tmp_path):
    whole = gzip.compress(b">a\n" + b"ACGT\n" * 5000)
    with pytest.raises(UserError, match=r"x\.fa\.gz:\d+: the gz data is cut short"):
        fasta(tmp_path, whole[:-12], name="x.fa.gz")
    with pytest.raises(UserError, match="damaged"):
        fasta(tmp_path, whole[:20] + b"\0\0\0\0" + whole[24:], name="x.fa.gz")


@given(
    records=st.lists(st.tuples(st.from_regex(r"[\w|.]{1,12}", fullmatch=True), st.text(NUCLEOTIDES, min_size=1, max_size=90)), min_size=1),
    width=st.integers(1, 100),
    end=st.sampled_from(["\n", "\r\n", "\n\n"]),
    lower=st.booleans(),
)
@settings(max_examples=100, deadline=None)
def test_round_trip(tmp_path_factory, records, width, end, lower):
    lines = []
    for name, letters in records:
        lines.append(f">{name}")
        lines.extend(letters[i : i + width] for i in range(0, len(letters), width))
    text = end.join(lines)
    found, ledger = fasta(tmp_path_factory.mktemp("fasta"), (text.replace("ACG", "acg") if lower else text).encode())
    assert [(s.id, s.letters) for s in found] == records
    assert ledger.written == len(records)


def test_text_paragraphs(tmp_path):
    path = tmp_path / "a.txt"
    path.write_bytes("\r\nOne α.\r\nStill one.\r\n\r\n\n  \nTwo.\n\n".encode() + b"\xff\xfe\n\nThree.")
    ledger = Ledger()
    assert [(t.line, t.text) for t in read_text(path, ledger)] == [(2, "One α.\nStill one."), (7, "Two."), (11, "Three.")]
    assert ledger.as_dict()["reasons"] == {"not UTF-8": 1}
    assert ledger.examples["not UTF-8"] == [f"{path}:9"]


def test_json_lines(tmp_path):
    path = tmp_path / "a.jsonl.gz"
    lines = [
        json.dumps({"id": "PMC1", "text": "Genes."}),
        "{oops",
        json.dumps({"id": 7, "text": "Cells."}),
        '["text"]',
        '{"text": " "}',
        "",
    ]
    path.write_bytes(gzip.compress("\n".join(lines).encode()))
    ledger = Ledger()
    assert [(t.id, t.text) for t in read_text(path, ledger)] == [("PMC1", "Genes."), ("7", "Cells.")]
    assert ledger.as_dict()["reasons"] == {"empty text": 1, "no 'text' field": 1, "not a JSON line": 1}
    assert ledger.examples["not a JSON line"] == [f"{path}:2"]


def test_text_that_yields_nothing(tmp_path):
    (tmp_path / "a.jsonl").write_text("[]\n")
    with pytest.raises(UserError, match=r"a\.jsonl: not one usable text document: no 'text' field: 1"):
        list(read_text(tmp_path / "a.jsonl", Ledger()))
    (tmp_path / "a.pdf").write_text("x")
    with pytest.raises(UserError, match=r"\.txt or \.jsonl"):
        list(read_text(tmp_path / "a.pdf", Ledger()))
