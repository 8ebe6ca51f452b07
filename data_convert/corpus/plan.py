"""A corpus cut into parts that can be converted independently, in a fixed order: the recipe's sources and files, held-out files first.

The cut depends on the files and the recipe alone, never on who converts them or how many do.
"""

import contextlib
import hashlib
import itertools
import json
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from artefacts.errors import UserError
from artefacts.folder import fingerprint
from data_convert.corpus.pack_recipe import PackRecipe
from data_convert.corpus.shards import tokenizer_fingerprint
from data_convert.corpus.words import WORDING, mixed_format
from sequences.files import GZIP_MAGIC, open_bytes
from sequences.formats import FASTA, sniff
from sequences.readers import sequence_format

FORMAT = 6
"""Of the parts' files; a part of another format is converted again."""
CHOOSING = frozenset(
    ["files", "heldout_files", "annotations", "heldout_annotations", "max_tokens", "max_heldout_tokens", "share", "max_repeats"]
)
"""Fields of a source that choose among what was converted, or that a part knows itself; its parts depend on the others."""


@dataclass(frozen=True, slots=True)
class Part:
    """A file, or a range of its bytes."""

    number: int
    source: int
    """Index of its source in the recipe."""
    file: Path
    held_out: bool
    """From a file of held-out documents."""
    start: int
    stop: int
    """Bytes of the file."""
    whole: bool
    key: str
    """Changes with the file, the tokenizer and what the recipe says about converting it."""
    annotation: Path | None = None

    def __str__(self) -> str:
        return f"{self.file}" if self.whole else f"{self.file}[bytes {self.start}-{self.stop}]"


def plan(recipe: PackRecipe) -> list[Part]:
    """All parts of a corpus. Reads little more than the files' sizes.

    Raises:
        UserError: missing or unreadable files, a folder without tokenizer.json.
    """
    common = [FORMAT, tokenizer_fingerprint(recipe.tokenizer), recipe.block_tokens, [fingerprint(file) for file in recipe.exclude]]
    parts: list[Part] = []
    for index, source in enumerate(recipe.sources):
        fields = source.model_dump(mode="json", exclude=set(CHOOSING))
        fields["words"] = [recipe.seed, fingerprint(WORDING)] if source.spoken else []
        for held_out, file, annotation in source.all_files():
            if source.modality == "text":
                open_bytes(file).close()
            elif source.modality == "mixed":
                mixed_format(file)
            else:
                sequence_format(file)
            if annotation:
                open_bytes(annotation).close()
            # what is annotated is judged as a whole
            cuts = [0, file.stat().st_size] if source.regions else _cuts(file, recipe.part_bytes, source.modality)
            states = [file.stat(), *([annotation.stat()] if annotation else [])]
            for start, stop in itertools.pairwise(cuts):
                of_file = [str(file), held_out, *(n for state in states for n in (state.st_size, state.st_mtime_ns)), start, stop]
                identity = [*common, fields, bool(source.heldout_files), str(annotation), *of_file]
                key = hashlib.sha256(json.dumps(identity).encode()).hexdigest()[:16]
                parts.append(Part(len(parts), index, file, held_out, start, stop, len(cuts) == 2, key, annotation))
    return parts


def _cuts(file: Path, size: int, modality: str) -> list[int]:
    """Where to cut a file between records: 0, ..., its size."""
    end = file.stat().st_size
    with file.open("rb") as handle:
        head = handle.read(1 << 16)
        begins = _record_start(file, head, modality)
        cuts = [0]
        if begins is not None:
            while cuts[-1] + size < end:
                handle.seek(cuts[-1] + size - 1)
                handle.readline()  # the rest of a line that began before
                place = handle.tell()
                before_blank = False
                while line := handle.readline():
                    if line.startswith(b">") if begins == ">" else before_blank or begins == "line":
                        break
                    before_blank = not line.strip()
                    place = handle.tell()
                if not line or place >= end:
                    break
                cuts.append(place)
    return [*cuts, end]


def _record_start(file: Path, head: bytes, modality: str) -> str | None:
    """How a record begins: `>`, any `line`, or behind a `blank` line; None where the file must stay whole."""
    if head.startswith(GZIP_MAGIC):
        return None
    if modality not in ("text", "mixed"):
        return ">" if sniff(head)[0] == FASTA else None
    if modality == "mixed":
        return "line" if head.lstrip().startswith(b"{") else None
    return {".jsonl": "line", ".txt": "blank"}.get(file.suffix.lower())


@contextlib.contextmanager
def content(part: Part, folder: Path) -> Iterator[Path]:
    """A file with the part's bytes: the file itself, or a copy of the range in `folder`, removed afterwards."""
    if part.whole:
        yield part.file
        return
    with tempfile.TemporaryDirectory(dir=folder) as temporary:
        # the suffix tells the reader the format
        copy = Path(temporary) / part.file.name
        with part.file.open("rb") as handle, copy.open("wb") as target:
            handle.seek(part.start)
            left = part.stop - part.start
            while left and (block := handle.read(min(left, 1 << 20))):
                left -= len(block)
                target.write(block)
        yield copy


def content_hash(file: Path) -> str:
    """SHA-256 of the bytes of a part's content."""
    with file.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def file_fingerprint(file: Path, hashes: list[str]) -> str:
    """16 hex digits of the content of all parts of a file."""
    if not hashes:
        raise UserError(f"{file}: no part of it was converted")
    return hashlib.sha256("".join(hashes).encode()).hexdigest()[:16]
