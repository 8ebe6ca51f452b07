"""Seeded samples of text and sequences for tests."""

from __future__ import annotations

import json
import random
from pathlib import Path

SUBJECTS = ["the gene", "a protein", "this promoter", "every cell", "the donor site", "an acceptor", "our BRCA1 sample", "DNA", "mRNA"]
VERBS = ["binds", "cleaves", "folds near", "moves 0.35 um from", "is not like", "reads", "copies", "TAGS", "phosphorylates"]
OBJECTS = ["the membrane", "ATP", "42 residues", "naïve cells", "an intron", "GATTACA", "(no label)", "yes or no", "the TATA box"]


def english(lines: int, seed: int = 0) -> list[str]:
    """Biology-like lines with capitals, numbers, accents and words made of gene letters."""
    draw = random.Random(seed)
    return [
        f"{draw.choice(SUBJECTS).capitalize()} {draw.choice(VERBS)} {draw.choice(OBJECTS)}, n = {draw.randrange(999)}."
        for _ in range(lines)
    ]


def letters(alphabet: str, length: int, seed: int) -> str:
    return "".join(random.Random(seed).choices(alphabet, k=length))


def forget_weights(folder: Path) -> None:
    """Take the hashes of weights out of a folder's manifest: a test is about to change them."""
    manifest = folder / "manifest.json"
    noted = json.loads(manifest.read_text(encoding="utf-8"))
    del noted["weights"]
    manifest.write_text(json.dumps(noted), encoding="utf-8")
