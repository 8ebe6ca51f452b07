"""Train a gene BPE on plain letters: `llama-gene tokenizer train`.

The result is a plain `tokenizers` JSON over the alphabet's letters, usable on its own, plus a manifest beside it.
Sequences are cut into short windows first: BPE trainers treat a line as one word, and a chromosome as one word never
finishes (512-base windows lose nothing against 4,096: docs/lab-notebook.md).
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer, models, trainers
from tqdm import tqdm

from artefacts.errors import Ledger, UserError
from artefacts.folder import check_absent, fingerprint, new_file, write_manifest
from artefacts.recipe import Recipe
from tokenizer.alphabets import ALPHABETS, Alphabet, reverse_complement
from tokenizer.readers import read_fasta


class TrainBpe(Recipe):
    """One gene BPE."""

    alphabet: str
    """dna or protein (RNA shares the DNA pieces)."""
    vocab_size: int
    """Pieces, the alphabet's letters included."""
    files: list[Path]
    """FASTA files, gz too."""
    out: Path
    """The `tokenizers` JSON to write; its manifest goes to `<out>.manifest.json`."""
    window: int = 512
    """Letters per training window; pieces never span two windows."""
    longest_piece: int = 12
    """Letters in the longest piece. Without a cap, BPE memorises repeats of hundreds of bases."""
    reverse_complement: bool = True
    """DNA only: every second window is read from the other strand, so that both strands have pieces."""
    max_letters: int | None = None
    """Train on a seeded sample of windows of about this many letters; null takes everything."""
    seed: int = 0


def train_bpe(recipe: TrainBpe, *, overwrite: bool = False) -> Tokenizer:
    """Train and write one gene BPE.

    Ties between equally frequent pairs go to the smaller pair of ids (the rule of `BpeTrainer`).

    Raises:
        UserError: unknown alphabet, unreadable input, fewer pieces asked for than the alphabet has letters, or text too
            small to yield the pieces asked for.
    """
    alphabet = gene_alphabet(recipe.alphabet)
    if recipe.vocab_size <= len(alphabet.letters):
        raise UserError(
            f"vocab_size={recipe.vocab_size}: the {alphabet.name} alphabet alone has {len(alphabet.letters)} letters; ask for more"
        )
    check_absent(recipe.out, overwrite)
    ledger = Ledger()
    windows = list(_windows(recipe, alphabet, ledger))
    if recipe.max_letters is not None:
        windows = _sample(windows, recipe.max_letters, recipe.seed)
    bpe = Tokenizer(models.BPE())
    trainer = trainers.BpeTrainer(
        vocab_size=recipe.vocab_size,
        initial_alphabet=list(alphabet.letters),
        limit_alphabet=len(alphabet.letters),
        max_token_length=recipe.longest_piece + 1,  # the library's bound is exclusive
        show_progress=sys.stderr.isatty(),
    )
    bpe.train_from_iterator(windows, trainer)
    if bpe.get_vocab_size() < recipe.vocab_size:
        raise UserError(
            f"{', '.join(map(str, recipe.files))}: only {bpe.get_vocab_size()} pieces can be learned from "
            f"{sum(map(len, windows))} letters; give more sequence or ask for vocab_size={bpe.get_vocab_size()}"
        )
    # BpeTrainer numbers the alphabet by code point and drops nothing, but pieces over letters it never saw must exist too.
    missing = set(alphabet.letters) - set(bpe.get_vocab())
    assert not missing, f"letters {missing} have no piece: they would be deleted silently"
    with new_file(recipe.out, overwrite=overwrite) as path:
        bpe.save(str(path))
    write_manifest(
        recipe.out,
        "gene-bpe",
        recipe=recipe.model_dump(mode="json"),
        inputs={str(file): fingerprint(file) for file in recipe.files},
        counts={**ledger.as_dict(), "windows": len(windows), "letters": sum(map(len, windows))},
    )
    return bpe


def gene_alphabet(name: str) -> Alphabet:
    """dna or protein. Raises UserError for anything else (rna included: it shares the DNA pieces)."""
    if name not in ("dna", "protein"):
        raise UserError(f"alphabet '{name}': choose dna or protein (rna uses the dna pieces, with U written as T)")
    return ALPHABETS[name]


def _windows(recipe: TrainBpe, alphabet: Alphabet, ledger: Ledger) -> Iterator[str]:
    turn = 0
    for file in tqdm(recipe.files, desc=f"read {alphabet.name}", disable=None):
        for sequence in read_fasta(file, alphabet, ledger):
            for start in range(0, len(sequence.letters), recipe.window):
                window = sequence.letters[start : start + recipe.window]
                if alphabet.name == "dna" and recipe.reverse_complement and turn % 2:
                    window = reverse_complement(window)
                turn += 1
                yield window


def _sample(windows: list[str], max_letters: int, seed: int) -> list[str]:
    order = np.random.default_rng(seed).permutation(len(windows))
    taken, letters = [], 0
    for index in order:
        if letters >= max_letters:
            break
        taken.append(windows[index])
        letters += len(windows[index])
    return taken
