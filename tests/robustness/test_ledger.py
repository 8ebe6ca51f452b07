"""Every record of the real corpus files and every row of the real task files, counted by lines that share no code with the readers.

What was read = what came out + what was set aside, and the letters of what came out are the letters of the file. Files of more than
LARGEST bytes are read by `make torture` alone; benchmarks/corpus_ledger.py follows the letters on into the shards.
"""

from __future__ import annotations

import csv
import gzip
import json
import re
from pathlib import Path

import pytest
from whole_way import LONG

from artefacts.errors import Ledger
from data_convert.tasks.cards import find_cards
from data_convert.tasks.examples import Reader, TaskLedger
from sequences.alphabets import DNA, PROTEIN
from sequences.readers import read_sequences
from sequences.texts import read_texts

pytestmark = pytest.mark.shared
LARGEST = 1 << 19
ROOMS = {"genomes": DNA, "proteins": PROTEIN, "text": None}


def plain(file: Path) -> bytes:
    raw = file.read_bytes()
    return gzip.decompress(raw) if raw[:2] == b"\x1f\x8b" else raw


def counted(file: Path, raw: bytes) -> tuple[int, int]:
    """Records and letters (of texts 0)."""
    name = file.name.removesuffix(".gz")
    if name.endswith(".jsonl"):
        return sum(bool(line.strip()) for line in raw.split(b"\n")), 0
    if name.endswith(".tsv"):
        header, *rows = (line.split("\t") for line in raw.decode().rstrip("\n").split("\n"))
        place = [column.lower() for column in header].index("sequence")
        return len(rows), sum(len(row[place]) for row in rows)
    if name.endswith(".gbff"):
        entries = re.findall(rb"\nORIGIN[^\n]*\n(.*?)//", raw, re.DOTALL)
        return len(entries), sum(len(re.sub(rb"[\s\d]", b"", entry)) for entry in entries)
    lines = raw.splitlines()
    heads = sum(line.startswith(b">") for line in lines)
    return heads, sum(len(line.strip()) for line in lines if not line.startswith(b">"))


def test_every_record_of_the_corpus_is_read_or_set_aside(shared_data: Path) -> None:
    seen = 0
    for room, alphabet in ROOMS.items():
        for file in sorted(path for path in (shared_data / room).rglob("*") if path.is_file()):
            if file.name.endswith((".csv", ".md", ".txt")) or (not LONG and file.stat().st_size > LARGEST):
                continue
            ledger, (records, letters) = Ledger(), counted(file, plain(file))
            if alphabet is None:
                out = [text.text for text in read_texts(file, ledger)]
            else:
                out = [sequence.letters for sequence in read_sequences(file, alphabet, ledger)]
            balance = ledger.as_dict()
            assert (balance["read"], balance["written"]) == (records, len(out)), file
            assert balance["written"] + balance["rejected"] == records, file
            if alphabet is not None and not balance["rejected"]:
                assert sum(map(len, out)) == letters, file
            seen += 1
    assert seen >= 5, f"{seen} files of a corpus at {shared_data}"


def test_every_row_of_the_task_files_is_an_example_or_set_aside(shared_data: Path) -> None:
    seen = 0
    for card in find_cards(["*"]):
        for split, name in card.files.model_dump().items():
            file = shared_data / str(name)
            if not name or not file.is_file() or card.format not in ("csv", "tsv", "json"):
                continue
            if not LONG and file.stat().st_size > LARGEST:
                continue
            text = plain(file).decode()
            if card.format == "json":
                rows = len(json.loads(text)) if text.lstrip().startswith("[") else sum(bool(line.strip()) for line in text.split("\n"))
            else:
                cells = csv.reader(text.splitlines(), delimiter="," if card.format == "csv" else "\t")
                rows = sum(bool("".join(row).strip()) for row in cells) - card.header
            ledger = TaskLedger()
            examples = list(Reader(card, shared_data).read(name, ledger, split))
            balance = ledger.as_dict()
            assert (balance["read"], balance["written"]) == (rows, len(examples)), file
            assert len(examples) + balance["rejected"] == rows, file
            assert len({(example.line, example.row) for example in examples}) == len(examples), "no row stands for two"
            seen += 1
    assert seen >= 5, f"{seen} task files at {shared_data}"
