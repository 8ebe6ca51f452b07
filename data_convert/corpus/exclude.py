"""Benchmark sequences that must not stand in training data: which documents contain one, or are called as one.

A document is found when a whole benchmark sequence stands in it, letter by letter; DNA and RNA on either strand, a
protein without its final stop. A document that holds only a piece of one is not. It is found too when it, or what it is
cut from, or a protein that it codes for, has an accession that names a benchmark record (sequences/accessions.py).

Method: of every benchmark sequence one stretch of fixed length is kept, the one with the least hash, so that repeats like
AAAA are rarely taken. A stretch fits a 64-bit number exactly. All stretches of a document are looked up in a bit table,
then in the sorted numbers, and what is found is compared letter by letter.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from artefacts.errors import Ledger, UserError, at
from data_convert.tasks.records import problem_of_inputs
from sequences.accessions import accessions
from sequences.alphabets import ALPHABETS, BLANKS, DNA, PROTEIN, Alphabet, guess, reverse_complement
from sequences.files import blocks, numbered_lines, with_head
from sequences.formats import FASTA, LINES, TABLE, UNIPROT, sniff, table_header
from sequences.json_lines import json_objects
from sequences.readers import fasta_records
from sequences.tables import Table

HOLDS, NAMED = "holds a benchmark sequence", "has the accession of a benchmark record"
NAMES = re.compile(r"(?:^|[\W_])(?:id|ids|name|names|acc|accession|entry|uniprot|uniprotkb|protein|transcript|refseq)(?:$|[\W_])")
"""Columns of accessions. A chromosome's, beside places in it, names no record of the benchmark."""
STRETCH = {"dna": (16, 4), "protein": (12, 5)}
"""Letters of a stretch, and bits of a letter."""
PROTEIN_ID = re.compile(r"\[protein_id=([^\]]*)\]")
"""As NCBI writes it into the headers of coding sequences."""
LONGEST_NAME = 25
"""A column's name that is longer, and spelled in letters of a sequence, is a sequence: the table has no header."""
TABLE_BITS = 22
SCRAMBLE = np.uint64(0x9E3779B97F4A7C15)


class Excluded:
    """The benchmark sequences of one alphabet."""

    def __init__(self, sequences: Iterable[str], alphabet: Alphabet) -> None:
        self._letters, self._bits = STRETCH[alphabet.name]
        self._codes = np.full(256, 2**self._bits - 1, dtype=np.uint64)
        for code, letter in enumerate(alphabet.letters):
            self._codes[ord(letter)] = code
        either = sorted({strand for s in sequences for strand in ((s, reverse_complement(s)) if alphabet is DNA else (s,))})
        self._sequences = [s.encode() for s in either if len(s) >= self._letters]
        found = [self._stretches(s) for s in self._sequences]
        offsets = [int(_scrambled(numbers).argmin()) for numbers in found]
        keys = np.array([numbers[offset] for numbers, offset in zip(found, offsets, strict=True)], dtype=np.uint64)
        order = np.argsort(keys, kind="stable")
        self._keys, self._offsets, self._order = keys[order], np.array(offsets, dtype=np.int64)[order], order
        self._table = np.zeros(1 << TABLE_BITS, dtype=bool)
        self._table[self._slots(self._keys)] = True

    def __len__(self) -> int:
        """Sequences, both strands counted."""
        return len(self._sequences)

    def held_by(self, documents: Sequence[str]) -> NDArray[np.bool_]:
        """[documents] Whether each contains one of the sequences. Upper-case letters, synonyms applied."""
        held = np.zeros(len(documents), dtype=bool)
        if not self._sequences or not documents:
            return held
        text = "\n".join(documents).encode()  # a line break is no letter, so nothing is found across two documents
        numbers = self._stretches(text)
        places = np.flatnonzero(self._table[self._slots(numbers)])
        first = np.searchsorted(self._keys, numbers[places], "left")
        last = np.searchsorted(self._keys, numbers[places], "right")
        ends = np.cumsum([len(document) + 1 for document in documents])
        for place, begin, end in zip(places[first < last], first[first < last], last[first < last], strict=True):
            owner = int(np.searchsorted(ends, place, "right"))
            if not held[owner]:
                held[owner] = any(self._stands(text, int(place), row) for row in range(begin, end))
        return held

    def _stands(self, text: bytes, place: int, row: int) -> bool:
        start = place - int(self._offsets[row])
        return start >= 0 and text.startswith(self._sequences[self._order[row]], start)

    def _stretches(self, text: bytes) -> NDArray[np.uint64]:
        """[letters - length + 1] Every stretch as a number: twice as long at each step, and one letter longer where the length needs it."""
        one = self._codes[np.frombuffer(text, dtype=np.uint8)]
        numbers, size, bits = one, 1, self._bits
        for digit in f"{self._letters:b}"[1:]:
            numbers, size = (numbers[:-size] << np.uint64(bits * size)) | numbers[size:], 2 * size
            if digit == "1":
                numbers, size = (numbers[:-1] << np.uint64(bits)) | one[size:], size + 1
        return numbers

    def _slots(self, numbers: NDArray[np.uint64]) -> NDArray[np.uint64]:
        return _scrambled(numbers) >> np.uint64(64 - TABLE_BITS)


def _scrambled(numbers: NDArray[np.uint64]) -> NDArray[np.uint64]:
    return (numbers ^ (numbers >> np.uint64(29))) * SCRAMBLE


Found = tuple[dict[str, Excluded], dict[str, Ledger], frozenset[str]]


def read_excluded(files: tuple[Path, ...], max_broken: float = 1.0) -> Found:
    """Modality -> benchmark sequences of all files; file -> ledger of its rows; accessions. Letters of unknown kind are guessed.

    Raises:
        UserError: missing or damaged files, files of another kind, a file without one accession or sequence long enough to be
            found, or with more than `max_broken` rows without either.
    """
    # a file that has changed since is another one
    states = tuple((state.st_size, state.st_mtime_ns) for file in files if file.is_file() for state in [file.stat()])
    return _read(files, max_broken, states)


@lru_cache(maxsize=2)
def _read(files: tuple[Path, ...], max_broken: float, states: tuple[tuple[int, int], ...]) -> Found:
    found: dict[str, set[str]] = {name: set() for name in STRETCH}
    ledgers: dict[str, Ledger] = {}
    names = set[str]()
    least = " or ".join(f"{size} letters of {name}" for name, (size, _) in STRETCH.items())
    for file in files:
        ledger = ledgers[str(file)] = Ledger(max_broken)
        for line, cells, called in _rows(file):
            ledger.read += 1
            if known := accessions(called):
                names |= known
                ledger.notes["named by accession"] += 1
            usable = [(name, letters) for cell in cells if (name := _modality(letters := cell.removesuffix("*")))]
            long = [(name, letters) for name, letters in usable if len(letters) >= STRETCH[name][0]]
            if any(_is_kmers(cell) for cell in cells):
                ledger.reject(BLANKS, at(file, line))
            elif not usable and not known:
                ledger.reject("no sequence", at(file, line))
            elif not long and not known:
                ledger.reject("too short", at(file, line), on_purpose=True)
            else:
                ledger.written += 1
                for name, letters in long:
                    found[name].add(letters.upper().replace("U", "T") if name == "dna" else letters.upper())
        ledger.close(file, Ledger(), "benchmark sequence", hint=f"At least {least}, or an accession, are needed")
    sets = {name: Excluded(letters, ALPHABETS[name]) for name, letters in found.items()}
    return {**sets, "rna": sets["dna"]}, ledgers, frozenset(names)


def _is_kmers(cell: str) -> bool:
    letters = "".join(cell.split())
    return letters != cell and len(letters) >= STRETCH["dna"][0] and _modality(letters) == "dna"


def _modality(letters: str) -> str:
    """dna (RNA too) or protein; empty for what is no sequence."""
    alphabet = guess(letters)
    return "" if not letters or alphabet.first_foreign(letters) >= 0 else "protein" if alphabet is PROTEIN else "dna"


def _rows(file: Path) -> Iterator[tuple[int, list[str], str]]:
    """Line, cells and names of each row, whatever its columns are; of FASTA and records of `convert tasks` the sequences."""
    form = sniff(with_head(blocks(file))[0])[0]
    if form == FASTA:
        for line, header, letters in fasta_records(file):
            yield line, [letters], " ".join([header.partition(" ")[0], *PROTEIN_ID.findall(header)])
    elif form == "JSON":
        for line, record in json_objects(file):
            if isinstance(record, str) or "inputs" not in record or problem_of_inputs(record):
                raise UserError(f"{at(file, line)}: not a record of `llama-gene convert tasks`; convert the tasks again")
            yield line, [item["letters"] for item in record["inputs"]], str(record.get("id", ""))
    elif form in (TABLE, LINES) or (form == UNIPROT and table_header(next(numbered_lines(file))[1])):
        table = Table(file)
        without_header = any((len(name) >= LONGEST_NAME and _modality(name)) or accessions(name) for name in table.names)
        if without_header:
            yield table.header_line, table.names, " ".join(table.names)
        columns = [place for place, name in enumerate(table.names) if without_header or NAMES.search(name.casefold())]
        for row in table:
            yield row.line, row.cells, " ".join(row.cells[place] for place in columns if row.cells)
    else:
        raise UserError(f"{file}: benchmark sequences are read from FASTA, tables and records of `convert tasks`; this is {form}")
