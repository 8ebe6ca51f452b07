"""Make a gene vocabulary: a BPE trained on plain letters, letters alone, or k-mers: `llama-gene tokenizer train`.

The result is a plain `tokenizers` JSON over the alphabet's letters, usable on its own, plus a manifest beside it. What is
learned is exactly what `tokenizers`' BpeTrainer learns on the same windows (tokenizer/bpe/learn.py), in a fraction of its time
and memory.
"""

from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator
from tokenizers import Tokenizer, decoders, models, normalizers
from tqdm import tqdm

from artefacts.errors import Ledger, UserError, say_read, write_set_aside
from artefacts.folder import check_absent, fingerprint, new_file, write_manifest
from artefacts.recipe import Recipe
from sequences.alphabets import ALPHABETS, PLAIN_LETTERS, Alphabet
from sequences.readers import read_sequences, sequence_format
from tokenizer.bpe.learn import Merges, learn
from tokenizer.bpe.windows import Cutting, WindowStore
from tokenizer.kmers import upper_case, vocabulary_of

MAX_LETTERS = 2**32 - 2**24
"""Positions are 32-bit."""


class TrainBpe(Recipe):
    """Train a gene BPE on FASTA files; or write letters or k-mers, which need none (--pieces kmers --k 6)."""

    alphabet: str
    """dna or protein (RNA shares the DNA pieces)."""
    pieces: Literal["bpe", "letters", "kmers"] = "bpe"
    """bpe is learned from files; letters and kmers are what the alphabet says. Which to take for what: docs/vocabularies.md."""
    k: int | None = Field(None, ge=2)
    """kmers only: letters in each, cut one after the other from the start of a span. 6 for DNA is what most models take."""
    vocab_size: int | None = Field(None, le=1_000_000)
    """bpe only: pieces, the alphabet's letters included."""
    files: list[Path] = []
    """bpe only: FASTA, FASTQ, GenBank, UniProt (protein), tables with a column `sequence`, or one sequence a line; gz too."""
    out: Path
    """The `tokenizers` JSON to write; its manifest goes to `<out>.manifest.json`."""
    window: int = Field(512, ge=2)
    """Letters per training window; pieces never span two windows (512 lose nothing against 4,096)."""
    longest_piece: int | None = Field(12, ge=2)
    """Letters in the longest piece; null for no cap, which makes BPE memorise repeats of hundreds of bases."""
    reverse_complement: bool = True
    """DNA only: every second window is read from the other strand, so that both strands have pieces."""
    unknown_run: int | None = Field(10, ge=1)
    """Runs of at least this many unknown letters (N; X in proteins) are left out; null keeps them all."""
    ambiguous: Literal["keep", "cut"] = "keep"
    """IUPAC ambiguity codes (B, Z, J in proteins): kept as letters, or left out, windows ending there."""
    soft_masked: float = Field(1.0, ge=0, le=1)
    """Share of soft-masked (lower-case) repeats to train on: 1 takes all, 0 leaves them out, between draws by the seed."""
    max_letters: int | None = Field(None, ge=1)
    """Train on a uniform, seeded sample of windows of about this many letters, in bounded memory; null takes everything."""
    max_broken: float = Field(0.1, ge=0, le=1)
    """Share of a file's records that may be broken and set aside; more stop the run."""
    seed: int = Field(0, ge=0, lt=2**31)

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        bpe = self.pieces == "bpe"
        if bpe and (self.vocab_size is None or not self.files):
            raise ValueError("a BPE is learned: it needs vocab_size and files (pieces=letters and pieces=kmers need neither)")
        if not bpe and (self.vocab_size is not None or self.files):
            raise ValueError(f"pieces={self.pieces} learns nothing; leave vocab_size and files out")
        if (self.k is None) == (self.pieces == "kmers"):
            raise ValueError("k is the length of k-mers: pieces=kmers needs it, for example k=6; the others have none")
        return self


def train_bpe(recipe: TrainBpe, *, overwrite: bool = False) -> Tokenizer:
    """Train and write one gene BPE.

    Raises:
        UserError: unknown alphabet, unreadable input, fewer pieces asked for than the alphabet has letters, or text too
            small to yield the pieces asked for.
    """
    alphabet = gene_alphabet(recipe.alphabet)
    if recipe.vocab_size is None:
        return _write_fixed(recipe, alphabet, overwrite)
    if recipe.vocab_size <= len(alphabet.letters):
        raise UserError(
            f"vocab_size={recipe.vocab_size}: the {alphabet.name} alphabet alone has {len(alphabet.letters)} letters; ask for more"
        )
    check_absent(recipe.out, overwrite)
    for file in recipe.files:
        sequence_format(file)
    ledger = Ledger(recipe.max_broken)
    store = read_windows(recipe, alphabet, ledger)
    letters, codes = store.kept_letters, store.codes()
    if codes.size > MAX_LETTERS:
        raise UserError(f"{letters} letters are more than positions of 32 bits can number; set max_letters={MAX_LETTERS // 2}")
    with tqdm(total=recipe.vocab_size - len(store.letters), desc=f"merge {alphabet.name}", unit="piece", disable=None) as bar:
        merges = learn(codes, len(store.letters), recipe.vocab_size, recipe.longest_piece, progress=bar.update)
    made = len(store.letters) + len(merges.pairs)
    if made < recipe.vocab_size:
        raise UserError(
            f"{', '.join(map(str, recipe.files))}: only {made} pieces can be learned from {letters} letters; "
            f"give more sequence or ask for vocab_size={made}"
        )
    bpe = plain_tokenizer(store.letters, merges)
    with new_file(recipe.out, overwrite=overwrite) as path:
        bpe.save(str(path))
        write_manifest(
            recipe.out,
            "gene-bpe",
            recipe=recipe.model_dump(mode="json"),
            inputs={str(file): fingerprint(file) for file in recipe.files},
            counts={**ledger.as_dict(), **store.counts(), "letters": letters, "rarest_merge": int(merges.counts[-1])},
        )
    beside = recipe.out.with_name(f"{recipe.out.name}.set_aside.tsv")
    write_set_aside(beside, ledger)
    say_read(", ".join(map(str, recipe.files)), ledger.as_dict(), beside)
    return bpe


def _write_fixed(recipe: TrainBpe, alphabet: Alphabet, overwrite: bool) -> Tokenizer:
    """Letters or k-mers: nothing to read."""
    vocabulary = vocabulary_of(alphabet, recipe.k or 1)
    with new_file(recipe.out, overwrite=overwrite) as path:
        vocabulary.save(str(path))
        counts = {"pieces": len(alphabet.letters) + (len(PLAIN_LETTERS[alphabet.name]) ** recipe.k if recipe.k else 0)}
        write_manifest(recipe.out, "gene-vocabulary", recipe=recipe.model_dump(mode="json"), inputs={}, counts=counts)
    print(f"{recipe.out}: {counts['pieces']} {alphabet.name} pieces ({recipe.pieces})")
    return vocabulary


def gene_alphabet(name: str) -> Alphabet:
    """dna or protein. Raises UserError for anything else (rna included: it shares the DNA pieces)."""
    if name not in ("dna", "protein"):
        raise UserError(f"alphabet '{name}': choose dna or protein (rna uses the dna pieces, with U written as T)")
    return ALPHABETS[name]


def read_windows(recipe: TrainBpe, alphabet: Alphabet, ledger: Ledger) -> WindowStore:
    """The training windows of a recipe's files, read as a stream."""
    cutting = Cutting(
        recipe.window,
        recipe.reverse_complement and alphabet.name == "dna",
        recipe.unknown_run,
        recipe.ambiguous == "keep",
        recipe.soft_masked,
        recipe.seed,
    )
    store = WindowStore(alphabet, cutting, recipe.max_letters)
    total = sum(file.stat().st_size for file in recipe.files)
    with tqdm(total=total, desc=f"read {alphabet.name}", unit="B", unit_scale=True, disable=None) as bar:
        for file in recipe.files:
            for sequence in read_sequences(file, alphabet, ledger, keep_case=True, progress=bar.update):
                store.add(sequence.letters.encode("ascii"))
    return store


def plain_tokenizer(letters: str, merges: Merges) -> Tokenizer:
    """A `tokenizers` BPE over plain letters: ids are the letters by code point, then one per merge."""
    pieces = list(letters)
    named = []
    for left, right in merges.pairs.tolist():
        named.append((pieces[left], pieces[right]))
        pieces.append(pieces[left] + pieces[right])
    tokenizer = Tokenizer(models.BPE({piece: index for index, piece in enumerate(pieces)}, named))
    tokenizer.normalizer = normalizers.Sequence(upper_case(letters))
    tokenizer.decoder = decoders.Fuse()
    return tokenizer
