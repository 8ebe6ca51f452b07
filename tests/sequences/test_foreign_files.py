"""Files that are no sequences: every reader refuses them or sets every row aside, none makes a sequence of them."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import random
import struct
import tarfile
import zipfile
import zlib
from pathlib import Path

import pytest
from toy_cards import toy_card

from artefacts.errors import Ledger, UserError
from data_convert.corpus.exclude import read_excluded
from data_convert.tasks.examples import Reader, TaskLedger
from data_convert.tasks.rows import read_sequences_by_id
from eval.baselines.embedding.inputs import read_inputs
from instruct.talk.batch_rows import Rows
from sequences.alphabets import ALPHABETS
from sequences.readers import fasta_records, read_sequences
from sequences.uniprot import checked_entries
from sequences.uniprot_entry import Entry

FASTA = ">chr1\n" + "".join(random.Random(0).choices("ACGT", k=600)) + "\n"
LETTERS = "".join(random.Random(1).choices("ACGTMKVLE", k=3000)).encode()
PROSE = "The gene binds to the membrane, and a cat sat.\nEvery cell reads it; so do we.\n\nNothing here is a sequence.\n"


def archive(kind: str) -> bytes:
    target = io.BytesIO()
    if kind == "zip":
        with zipfile.ZipFile(target, "w") as packed:
            packed.writestr("x.fa", FASTA)
    else:
        with tarfile.open(fileobj=target, mode="w") as packed_:
            info = tarfile.TarInfo("x.fa")
            info.size = len(FASTA)
            packed_.addfile(info, io.BytesIO(FASTA.encode()))
    return target.getvalue()


def png() -> bytes:
    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", 1, 1, 8, 0, 0, 0, 0)) + chunk(b"IDAT", zlib.compress(b"\0\0"))


FOREIGN: dict[str, bytes] = {
    "x.fa.zst": b"\x28\xb5\x2f\xfd\x04\x58" + LETTERS,
    "x.fa.xz": lzma.compress(FASTA.encode()),
    "x.fa.bz2": bz2.compress(FASTA.encode()),
    "x.fa.gz.gz": gzip.compress(gzip.compress(FASTA.encode())),
    "x.zip": archive("zip"),
    "x.tar": archive("tar"),
    "x.tar.gz": gzip.compress(archive("tar")),
    "x.bam": gzip.compress(b"BAM\x01" + struct.pack("<I", 12) + b"@HD\tVN:1.6\n\0" + LETTERS),
    "x.cram": b"CRAM\x03\x00" + LETTERS,
    "x.2bit": b"\x43\x27\x41\x1a" + LETTERS,
    "x.png": png(),
    "x.pdf": b"%PDF-1.7\n" + LETTERS + b"\n",
    "x.parquet": b"PAR1" + LETTERS + b"PAR1",
    "utf16le.fa": FASTA.encode("utf-16"),
    "utf16be.fa": FASTA.encode("utf-16-be"),
    "utf32.csv": "id,sequence\na,ACGT\n".encode("utf-32"),
    "elf": b"\x7fELF\x02\x01\x01" + bytes(200) + LETTERS,
    "numbers.npy": b"\x93NUMPY\x01\x00v\x00{'descr': '<i8'}\n" + bytes(range(7)) * 100,
    "x.gff3": b"##gff-version 3\nchr1\tx\tgene\t1\t9\t.\t+\t.\tID=a\nchr1\tx\tCDS\t1\t9\t.\t+\t0\tID=b\n##FASTA\n" + FASTA.encode(),
    "x.gtf": b'chr1\tx\tgene\t1\t9\t.\t+\t.\tgene_id "a";\n',
    "x.vcf": b"##fileformat=VCFv4.2\n#CHROM\tPOS\tID\tREF\tALT\nchr1\t1\t.\tA\tC\n",
    "x.sam": b"@HD\tVN:1.6\n@SQ\tSN:chr1\tLN:9\nr1\t0\tchr1\t1\t60\t4M\t*\t0\t0\tACGT\tIIII\n",
    "x.bed": b"chr1\t1\t9\nchr1\t11\t19\n",
    "blast.txt": b"BLASTN 2.14.0+\n\nQuery= a\n\nQuery  1  ACGT  4\n          ||||\nSbjct  1  ACGT  4\n",
    "blast6.txt": b"# BLASTP 2.14.0+\n# Query: a\n# Fields: query id, subject id\na\tb\t100.0\n",
    "x.embl": b"ID   X56734; SV 1; linear; mRNA; STD; PLN; 1859 BP.\nSQ   Sequence 4 BP;\n     acgt 4\n//\n",
    "old.embl": b"ID   X56734     standard; DNA; PLN; 1859 BP.\nSQ   Sequence 4 BP;\n     acgt 4\n//\n",
    "x.nex": b"#NEXUS\nbegin data;\nmatrix\na ACGT\n;\nend;\n",
    "x.sto": b"# STOCKHOLM 1.0\na ACGT\n//\n",
    "x.aln": b"CLUSTAL W (1.8)\n\na ACGT\nb ACGA\n",
    "x.html": b"<!doctype html>\n<html><body>ACGT</body></html>\n",
    "blast.xml": b'<?xml version="1.0"?>\n<BlastOutput>\n<seq>ACGT</seq>\n</BlastOutput>\n',
    "x.json": b'{"name": "ACGT"}\n',
    "list.json": b'["ACGT", "GGGG"]\n',
    "x.yaml": b"name: ACGT\nsequences:\n  - ACGT\n",
    "prose.txt": PROSE.encode(),
    "latin.txt": "Das Gen bindet größere Moleküle.\n".encode("latin-1"),
    "x.py": b"import os\n\nprint('ACGT')\n",
    "bibtex.bib": b"@article{a,\n title = {ACGT},\n}\n",
    "empty": b"",
    "blank": b"\n \n\t\n",
    "blank.gz": gzip.compress(b"\n"),
}
NAMED = {
    "x.fa.zst": "zstd", "x.fa.xz": "xz", "x.fa.bz2": "bz2", "x.zip": "zip", "x.tar": "tar", "x.tar.gz": "tar", "x.bam": "BAM",
    "x.2bit": "2bit", "x.pdf": "PDF", "x.png": "PNG", "utf16le.fa": "UTF-16", "x.gff3": "GFF", "x.gtf": "GFF", "x.vcf": "VCF",
    "x.sam": "SAM", "x.embl": "EMBL", "old.embl": "EMBL", "blast.txt": "BLAST", "blast6.txt": "BLAST", "blast.xml": "XML",
    "x.html": "XML", "x.json": "JSON", "x.cram": "CRAM",
}  # fmt: skip
"""What a message of `read_sequences` calls them."""


@pytest.fixture(params=FOREIGN)
def foreign(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    path = tmp_path / request.param
    path.write_bytes(FOREIGN[request.param])
    return path


@pytest.mark.parametrize("name", ALPHABETS)
def test_no_sequences(foreign, name):
    ledger = Ledger()
    with pytest.raises(UserError) as error:
        assert not list(read_sequences(foreign, ALPHABETS[name], ledger))
    assert str(error.value).startswith(str(foreign))
    assert NAMED.get(foreign.name, "") in str(error.value)
    assert ledger.written == 0


def test_no_records_no_table_no_list(foreign):
    for read in (
        lambda: list(fasta_records(foreign)),
        lambda: read_inputs(foreign, "gene", None, None, "set_aside"),
        lambda: read_inputs(foreign, "prot", None, None, "set_aside"),
        lambda: list(Rows(toy_card(), [foreign], None).read(0.1)),
        lambda: read_excluded((foreign,), 0.1),
    ):
        with pytest.raises(UserError) as error:
            read()
        assert str(error.value).startswith(str(foreign))


@pytest.mark.parametrize("form", ["csv", "tsv", "fasta", "json", "uniprot"])
def test_no_rows_of_a_task(foreign, form):
    words = {"kind": "text", "labels": None, "metrics": ["rouge_l"], "primary_metric": "rouge_l", "label": "function"}
    prompts = {"prompts": {"train": ["{sequence}"], "eval": "{sequence}?"}}
    item = {"inputs": [{"column": "sequence", "modality": "protein", "name": "sequence"}]}
    card = toy_card(format=form, **(words | prompts | item if form == "uniprot" else {"label": None} if form == "fasta" else {}))
    ledger = TaskLedger(0.1)

    def convert() -> None:
        assert not list(Reader(card, foreign.parent).read(foreign.name, ledger))
        ledger.close(foreign, TaskLedger(0.1), "row")

    with pytest.raises(UserError):
        convert()
    assert ledger.written == 0


def test_no_entries_and_no_letters_by_id(foreign):
    try:
        entries = list(checked_entries(foreign))
    except UserError:
        entries = []
    assert not [entry for entry in entries if isinstance(entry, Entry)]
    try:
        letters = list(read_sequences_by_id(foreign).values())
    except UserError:
        letters = []
    # two columns of anything are ids and texts, which the alphabet judges later
    assert all(set(text) - set("ACGT") for text in letters), letters
