"""Damaged files for every reader: examples, edits, and what must hold whatever the damage.

Used by test_fuzz_readers.py with edits drawn by hypothesis, and by test_mutants.py with edits drawn at random.
"""

from __future__ import annotations

import gzip
import json
import random
import re
import signal
from collections import Counter
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import uniprot_writers as uniprot
from uniprot_writers import Invented

from artefacts.errors import Ledger, UserError
from data_convert.corpus.documents import Document, read_documents
from data_convert.corpus.pack_recipe import Source
from sequences.alphabets import ALPHABETS

SECONDS = 5
"""A file of a few kilobytes that takes longer is taken for a hang."""
Edit = tuple[str, float, float, bytes]
"""Kind, place and length as shares of the file, and bytes to put there."""


@dataclass(frozen=True)
class Example:
    """A good file: `head`, then records, then `tail`."""

    modality: str
    suffix: str
    records: tuple[bytes, ...]
    head: bytes = b""
    tail: bytes = b""
    markers: tuple[bytes, ...] = ()
    """Bytes that mean something in this format, to be put where they do not belong."""
    recovers: bool = True
    """Damage in one record leaves the records that do not stand next to it as they were."""

    contiguous: bool = True
    """The letters of a record stand in the file one after the other, but for white space and numbers."""

    @property
    def content(self) -> bytes:
        return self.head + b"".join(self.records) + self.tail


def _letters(number: int, alphabet: str, length: int) -> str:
    return "".join(random.Random(number).choices(alphabet, k=length))


def _lines(text: str, width: int) -> str:
    return "\n".join(text[i : i + width] for i in range(0, len(text), width))


def _genbank(number: int) -> str:
    letters = _letters(number, "acgt", 90)
    rows = "".join(f"{60 * i + 1:>9} {letters[60 * i : 60 * i + 60]}\n" for i in range(2))
    return (
        f"LOCUS       NC_{number} 90 bp DNA linear CON\nDEFINITION  Bacterium {number},\n            part.\nVERSION     NC_{number}.1\n"
        f'FEATURES             Location/Qualifiers\n     CDS             1..9\n                     /protein_id="P{number}"\n'
        f'                     /translation="{_letters(number, "ACDEFGHIKL", 30)}\n                     MKV"\nORIGIN\n{rows}//\n'
    )


FUNCTIONS = [("", "Acts on calcium-dependent long- and short-chain NF-kappa-B (PubMed:1).", ["ECO:0000269"]), ("Isoform 2", "Binds.", [])]
PROTEINS = [Invented(f"P0000{i}", sequence=_letters(i, "ACDEFGHIKLMNPQRSTVWY", 70), functions=FUNCTIONS) for i in range(5)]
FIVE = range(5)


def _fasta(number: int, alphabet: str) -> bytes:
    return f">s{number} described\n{_lines(_letters(number, alphabet, 120), 50)}\n".encode()


def _fastq(number: int) -> bytes:
    return f"@r{number} x\n{_letters(number, 'ACGT', 60)}\n+\n{_letters(number, 'FGHI#', 60)}\n".encode()


def _article(number: int) -> bytes:
    sections = [{"heading": "Methods", "text": f"We cut {number}."}, {"heading": "Results", "text": "α β.\n\nTwo."}]
    return json.dumps({"id": f"PMC{number}", "title": "T", "license": "CC BY", "sections": sections}, ensure_ascii=False).encode() + b"\n"


_MARKDOWN = (
    "---\ntitle: Genes\n---\n# Genes\n\nA gene <!-- not shown --> is.\n\n"
    "```python\n# code\n\nx = 1\n```\n## Parts\n\n* α\n* `b`\n\n~~~\n#c\n~~~\n"
)
EXAMPLES = {
    "FASTA of DNA": Example("dna", ".fa", tuple(_fasta(i, "ACGTN") for i in FIVE), markers=(b"\n>", b">")),
    "FASTA of proteins": Example("protein", ".faa", tuple(_fasta(i, "ACDEFGHIKL*") for i in FIVE), markers=(b"\n>", b">")),
    "FASTQ": Example("dna", ".fq", tuple(map(_fastq, FIVE)), markers=(b"\n+\n", b"\n@", b"@"), recovers=False),
    "GenBank": Example("dna", ".gbff", tuple(_genbank(i).encode() for i in FIVE), markers=(b"\n//\n", b"\nLOCUS  ", b"\nORIGIN\n")),
    "GenBank translations": Example(
        "protein", ".gbff", tuple(_genbank(i).encode() for i in FIVE), markers=(b"\n//\n", b'"', b'""', b"\n     CDS    ", b"/translation=")
    ),
    # one line in five that is no sequence, or one that begins as another format's record does, ends the reading
    "plain lines": Example("rna", ".txt", tuple(f"{_letters(i, 'ACGU', 80)}\n".encode() for i in FIVE), recovers=False),
    "UniProt flat": Example(
        "protein",
        ".dat",
        tuple(uniprot.flat(p).encode() for p in PROTEINS),
        markers=(b"\n//\n", b"\nID   ", b"\nCC   -!- FUNCTION: ", b"{ECO:"),
        contiguous=False,  # a line without a known code may stand between the letters; their number is checked
    ),
    "UniProt XML": Example(
        "protein",
        ".xml",
        tuple(uniprot.xml_entry(p).encode() for p in PROTEINS),
        head=uniprot.xml([]).partition("<copyright>")[0].encode(),
        tail=b"</uniprot>\n",
        markers=(
            b"<!DOCTYPE u [<!ENTITY a 'b'>]>",
            b"<entry>",
            b"</entry>",
            b"&a;",
            b"<![CDATA[",
            b"]]>",
            b"<!--",
            b"<?x?>",
            b'encoding="utf-7"',
        ),
        recovers=False,
        contiguous=False,
    ),
    "UniProt TSV": Example(
        "protein",
        ".tsv",
        tuple(uniprot.tsv_row(p).encode() for p in PROTEINS),
        head=f"{uniprot.TSV_COLUMNS}\n".encode(),
        markers=(b"\t", b" [GO:", b"; FUNCTION: "),
    ),
    "CSV": Example(
        "dna",
        ".csv",
        tuple(f'"s{i}, a",{_letters(i, "ACGTN", 80)},1\n'.encode() for i in FIVE),
        head=b"name,sequence,label\n",
        markers=(b",", b'"', b'""'),
    ),
    "TSV": Example(
        "protein", ".tsv", tuple(f"5'{i}\t{_letters(i, 'ACDEFGHIKL', 80)}\n".encode() for i in FIVE), head=b"ID\tSeq\n", markers=(b"\t",)
    ),
    "FASTA below comments": Example(
        "dna", ".txt", tuple(_fasta(i, "ACGTN") for i in FIVE), head=b"# made by a tool\n\n;x\n", markers=(b"\n>", b"#", b";", b"\n# ")
    ),
    "quoted TSV": Example(
        "rna",
        ".csv",
        tuple(f'"a ""{i}"""\t"{_letters(i, "ACGU", 80)}"\tx\n'.encode() for i in FIVE),
        head=b'"name"\t"sequence"\tnote\n',
        markers=(b"\t", b'"', b'""', b'\t"'),
    ),
    "semicolons": Example(
        "dna", ".tsv", tuple(f"s{i}; {_letters(i, 'ACGTN', 80)} \n".encode() for i in FIVE), head=b"id;seq\n", markers=(b";", b'"', b",")
    ),
    "JSON lines": Example(
        "text", ".jsonl", tuple(map(_article, FIVE)), markers=(b"{", b"[" * 3000, b"\\ud800", b"null", b'"text": ', b"1" * 5000)
    ),
    "text": Example("text", ".txt", tuple(f"Paragraph {i} α\nof text.\n\n".encode() for i in FIVE), markers=(b"\n\n",)),
    "markdown": Example(
        "text", ".md", (_MARKDOWN.encode(),), markers=(b"<!--", b"-->", b"```", b"\n# ", b"\n~~~\n", b"---\n", b"`"), recovers=False
    ),
}
EVERYWHERE = (
    b"",
    b"\n",
    b"\r\n",
    b"\r",
    b"\0",
    b"\xff",
    b"\xef\xbb\xbf",
    b" ",
    b"\t",
    b"\n\n\n",
    b"x",
    b"5",
    b"-",
    "\u2028".encode(),
    b"\x1f\x8b",
)


def edited(content: bytes, edits: list[Edit]) -> bytes:
    """`content` after the edits: put bytes in, take out, overwrite, repeat or cut off."""
    for kind, place, length, put in edits:
        start = int(place * len(content))
        end = min(len(content), start + max(1, int(length * 60)))
        if kind == "insert":
            content = content[:start] + put + content[start:]
        elif kind == "delete":
            content = content[:start] + content[end:]
        elif kind == "replace":
            content = content[:start] + put + content[end:]
        elif kind == "repeat":
            content = content[:end] + content[start:]
        else:
            content = content[:start]
    return content


def random_edits(example: Example, draw: random.Random) -> list[Edit]:
    payloads = EVERYWHERE + example.markers
    return [
        (
            draw.choices(("insert", "delete", "replace", "repeat", "cut"), (4, 3, 4, 2, 1))[0],
            draw.random(),
            draw.random() ** 3,
            draw.choice(payloads) if draw.random() < 0.9 else draw.randbytes(3),
        )
        for _ in range(draw.choice((1, 1, 2, 3, 6)))
    ]


def read(example: Example, content: bytes, folder: Path, unit: str = "document") -> tuple[list[Document], str, int]:
    """Documents, the message of the UserError if there was one, records counted; whatever is wrong raises AssertionError."""
    path = folder / f"damaged{example.suffix}"
    path.write_bytes(content)
    records, documents, found, said = Ledger(), Ledger(), list[Document](), ""
    signal.signal(signal.SIGALRM, _hang)
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    try:
        source = Source.model_validate({"modality": example.modality, "files": [path], "max_n_share": 1, "unit": unit})
        for document in read_documents(source, path, records, documents):
            found.append(document)
    except UserError as error:
        said = str(error)
        assert said.startswith(str(path)), f"the file is not named: {said}"
        # A line is named wherever one is to blame; else the message counts why every record was set aside.
        assert re.match(re.escape(str(path)) + r":\d+: |.*: not one usable", said, re.DOTALL), f"no line and no reason: {said}"
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
    records.as_dict()  # read == written + rejected
    written = documents.as_dict()["written"]
    assert written == len(found)
    assert found or said, "neither a document nor an error"
    assert all(re.match(re.escape(str(path)) + r":\d+", place) for places in records.examples.values() for place in places)
    if not (example.modality == "text" and unit != "document"):
        assert records.written == len(found) + documents.rejected
    for document in found:
        assert document.id
        assert document.source == str(path)
        assert document.letters.encode()
        if example.modality == "text":
            assert document.letters.strip()
        else:
            assert set(document.letters) <= set(ALPHABETS[example.modality].letters)
    if example.contiguous and example.modality != "text" and not content.startswith(b"\x1f\x8b"):
        # No letter is made up, and none is left out in the middle.
        squeezed = re.sub(rb"[\s\d]", b"", content).upper().replace(*((b"U", b"T") if example.modality == "rna" else (b"", b"")))
        assert all(document.letters.encode() in squeezed for document in found)
    return found, said, records.read


def _hang(*_: object) -> None:
    raise AssertionError(f"not done after {SECONDS} s")


def check_anywhere(example: Example, edits: list[Edit], folder: Path, zipped: bool, unit: str = "document") -> str:
    """Damage anywhere, also in the gz stream. Returns what came of it."""
    content = edited(gzip.compress(example.content, 1, mtime=0), edits) if zipped else edited(example.content, edits)
    found, said, _ = read(example, content, folder, unit)
    return "error" if said and not found else "error after documents" if said else "documents"


@cache
def _alone(example: Example, record: bytes, folder: Path) -> str:
    """The letters of a record that stands alone in its file."""
    ((document,), _, _) = read(example, example.head + record + example.tail, folder)
    return document.letters


def check_one_record(example: Example, edits: list[Edit], folder: Path, which: int) -> str:
    """Damage in one record: what stands away from it is read as if nothing had happened."""
    records = list(example.records)
    records[which] = edited(records[which], edits)
    found, _, counted = read(example, example.head + b"".join(records) + example.tail, folder)
    if records[which][:5] == example.records[which][:5] and (example.modality, example.suffix) != ("protein", ".gbff"):
        # It still begins as a record: it is counted, whatever became of it; only the next one may have been swallowed.
        # (In GenBank the proteins are counted, and an entry whose table of features is damaged has none.)
        assert counted >= len(records) - (which + 1 < len(records)), f"only {counted} records are counted"
    there = Counter(document.letters for document in found)
    for number, record in enumerate(example.records):
        if abs(number - which) > 1:
            assert there[_alone(example, record, folder)], f"record {number} is lost, though the damage is in record {which}"
    return "documents"
