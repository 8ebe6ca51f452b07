"""Tables of sequences: columns by name, every broken row set aside with its line."""

from __future__ import annotations

import gzip

import pytest

from artefacts.errors import Ledger, UserError
from sequences.alphabets import DNA, PROTEIN
from sequences.tables import read_table


def test_columns_by_name_and_broken_rows(tmp_path):
    path = tmp_path / "t.csv.gz"
    rows = ["label,Sequence,seq_id\r", '1,acgt nn,"a, b"\r', "", "0,ACGU,x", "1,,y", "1,AC", '1,"AC', "1,\xff,z", "1,GG,"]
    path.write_bytes(gzip.compress("\n".join(rows).encode("latin-1")))
    ledger = Ledger()
    found = list(read_table(path, DNA, ledger))
    assert [(one.id, one.letters, one.line) for one in found] == [("a, b", "ACGTNN", 2), ("line9", "GG", 9)]
    assert (ledger.read, ledger.written) == (7, 2)
    assert ledger.examples == {
        "letter outside dna": [f"{path}:4 ('U')"],
        "empty sequence": [f"{path}:5"],
        "more or fewer fields than the header has": [f"{path}:6"],
        "not UTF-8, or not CSV": [f"{path}:7", f"{path}:8"],
    }


def test_files_that_are_no_tables_of_sequences(tmp_path):
    path = tmp_path / "t.tsv"
    path.write_text("id\tlabel\nx\t1\n")
    with pytest.raises(UserError, match=r"t\.tsv:1: a table of sequences has a column sequence or seq; found id, label"):
        list(read_table(path, PROTEIN, Ledger()))
    path.write_text("id\tseq\nx\t123\n")
    with pytest.raises(UserError, match=r"not one usable protein row: .*letter outside protein"):
        list(read_table(path, PROTEIN, Ledger()))
