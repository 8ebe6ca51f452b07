"""Stretches of a genome by chromosome and place: `cut` is the one place that cuts them, strand-true.

Places are BED's: from 0, the end not included. A `Genome` is read where it lies in an uncompressed FASTA file: one pass over the
file, line by line, makes the index, which holds a few numbers a chromosome.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from artefacts.errors import UserError, at
from sequences.alphabets import reverse_complement
from sequences.files import refuse_foreign


class Place(NamedTuple):
    """A stretch of a chromosome, as it is read on its strand."""

    start: int
    end: int
    """On a circular chromosome it may lie beyond the chromosome's last letter: the stretch goes on at the first."""
    minus: bool = False
    """Read on the other strand."""


def cut(letters: Callable[[int, int], str], places: Iterable[Place]) -> str:
    """The letters of stretches joined in their order, each on its strand; `letters(start, end)` reads the chromosome."""
    return "".join(reverse_complement(letters(start, end)) if minus else letters(start, end) for start, end, minus in places)


@dataclass(slots=True)
class _Chromosome:
    offset: int
    """Of its first letter in the file."""
    length: int = 0
    letters: int = 0
    """Of a whole line."""
    line: int = 0
    """Bytes of a whole line, its end included."""


class Genome:
    """The chromosomes of a file; it stays open.

    Raises:
        UserError: missing, packed, no FASTA, a name twice, or lines of different lengths within a chromosome.
    """

    def __reduce__(self) -> Any:
        return Genome, (self.path,)  # another process opens it anew

    def __init__(self, path: Path) -> None:
        if not path.is_file():
            raise UserError(f"{path}: no such genome; set source")
        self.path, self._handle = path, path.open("rb")
        self.chromosomes: dict[str, _Chromosome] = {}
        refuse_foreign(path, self._handle.read(512))
        self._handle.seek(0)
        offset, now, short = 0, None, False
        for number, raw in enumerate(self._handle, 1):
            offset += len(raw)
            line = raw.rstrip()
            if line.startswith(b">"):
                name = line[1:].split(None, 1)[0].decode("utf-8", "replace") if line[1:].strip() else ""
                if not name or name in self.chromosomes:
                    raise UserError(f"{at(path, number)}: a chromosome without a name, or '{name}' a second time; mend the genome")
                self.chromosomes[name] = now = _Chromosome(offset)
                short = False
            elif line:
                if now is None:
                    raise UserError(f"{at(path, number)}: not FASTA: letters above the first '>'; give an uncompressed FASTA file")
                if short or (now.line and len(raw) > now.line):
                    raise UserError(f"{at(path, number)}: lines of different lengths; wrap the genome anew (`seqkit seq -w 60`)")
                if not now.line:
                    now.letters, now.line = len(line), len(raw)
                short = len(line) < now.letters
                now.length += len(line)
            elif now is not None:
                short = True
        if not self.chromosomes:
            raise UserError(f"{at(path, 1)}: no chromosome in it; give an uncompressed FASTA file")

    def letters(self, name: str, start: int, end: int) -> str:
        """The letters as they stand in the file. Raises KeyError for no such chromosome, IndexError for places that it has not."""
        found = self.chromosomes[name]
        if not 0 <= start < end <= found.length:
            raise IndexError(f"{name} has {found.length:,} letters")
        first, last = (found.offset + place // found.letters * found.line + place % found.letters for place in (start, end - 1))
        self._handle.seek(first)
        return self._handle.read(last + 1 - first).translate(None, b"\r\n").decode("latin-1")
