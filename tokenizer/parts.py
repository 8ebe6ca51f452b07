"""The parts an extension is made of: base, gene BPEs, and the tokenizer they make together."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tokenizers import Tokenizer

from artefacts.errors import UserError
from tokenizer.base import Base, locate, read_base
from tokenizer.vocabulary import NewIds, extend


@dataclass(frozen=True)
class Parts:
    """What an extension is made of, before anything is written."""

    source: Path
    """Folder or file of the base on this machine."""
    revision: str | None
    """Of a base from the hub."""
    base: Base
    genes: dict[str, Tokenizer]
    extended: Tokenizer
    new: NewIds


def gather(base: Path, dna: Path, protein: Path, *, weights: bool) -> Parts:
    """Read the parts; of a base on the hub, fetch them first.

    Args:
        weights: fetch the base's weights too.

    Raises:
        UserError: a missing or foreign BPE, an unreadable base, or one that is extended already.
    """
    genes = {}
    for name, path in (("dna", dna), ("protein", protein)):
        if not path.is_file():
            raise UserError(f"{path}: no such {name} BPE; train one with `llama-gene tokenizer train --alphabet {name}`")
        genes[name] = Tokenizer.from_file(str(path))
    source, revision = locate(base, weights=weights)
    found = read_base(source)
    extended, new, _private = extend(found, genes["dna"], genes["protein"])
    return Parts(source, revision, found, genes, extended, new)
