"""Recipes of `eval sequences`."""

from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from artefacts.recipe import Recipe
from eval.recipe import Subject
from sequences.alphabets import TAGS

FIGURES = "figures.json"
FIELDS = ("evaluation", "system", "alphabet", "spelling", "exactness", "note", "seed", "intervals", "figures")
"""A folder's document of `eval sequences`, and what it holds."""


class SequencesRecipe(Recipe):
    """What is measured, and how it reads."""

    model: Path
    """Extended model folder (`tokenizer extend`, `pretrain`, `merge`) or hub id."""
    adapter: Path | None = None
    """PEFT adapter on that model, left unmerged."""
    system: str = Field(default="llama-gene", pattern=r"^[\w. +-]+$")
    """Name of this system in tables."""
    alphabet: Literal["dna", "rna", "protein"] = "dna"
    """What the sequences are."""
    context: int | None = Field(default=None, ge=8)
    """Tokens of a window, beginning and tag included; null takes the model's own, at most 8,192."""
    batch_tokens: int = Field(default=4096, ge=1)
    """Tokens per forward pass, padding included."""
    precision: Literal["auto", "fp32"] = "auto"
    """auto computes in the dtype of the weights; of bf16 weights, fp32 gives differences that are not rounded to three digits."""
    max_broken: float = Field(default=0.1, ge=0, le=1)
    """Share of a file's records that may be broken and set aside; more stop the run."""
    seed: int = 0
    """Draws windows, changes and the resamples of the intervals."""
    out: Path
    """Folder for rows.csv and figures.json. What is finished waits in `<out>.partial` until all is."""

    @property
    def subject(self) -> Subject:
        return Subject(model=self.model, adapter=self.adapter)


class FilesRecipe(SequencesRecipe):
    """One that reads sequences."""

    files: list[Path] = Field(min_length=1)
    """FASTA, FASTQ, GenBank, tables with a column `sequence`, one sequence a line; plain or gz. Plain arguments are these."""


def _two_strands(recipe: "ScoreSequencesRecipe | VariantsRecipe") -> None:
    if recipe.both_strands and recipe.alphabet == "protein":
        raise ValueError("a protein has no other strand; leave both_strands out")


class ScoreSequencesRecipe(FilesRecipe):
    """Log-likelihood and bits per letter of each record, and on request of each letter (docs/sequences-without-training.md)."""

    overlap: float = Field(default=0.5, ge=0, lt=1)
    """A sequence longer than a window is read in several; this share of each is letters of the one before, read again as context."""
    both_strands: bool = False
    """Also the reverse complement; the two log-likelihoods are averaged."""
    bases: bool = False
    """Also each letter's own log-likelihood, in bases.jsonl."""
    counted: list[Path] = []
    """Files of sequences on which the cheap baseline beside the model is counted: a context model, each letter
    by those before it. Give what the model was trained on."""
    order: int = Field(default=12, ge=0, le=12)
    """Letters of its longest context."""

    @model_validator(mode="after")
    def _strands(self) -> Self:
        _two_strands(self)
        return self


class VariantsRecipe(SequencesRecipe):
    """How much less likely each variant of a VCF or table makes its sequence; AUROC and AUPRC where labels are given."""

    variants: Path
    """VCF (also without its header), or a table with the columns chrom, pos (from 1), ref and alt; plain or gz."""
    genome: list[Path] = Field(min_length=1)
    """FASTA or GenBank whose record names are the chromosomes."""
    window: Literal["centred", "left"] = "centred"
    """centred: the whole window's log-likelihood, the variant in its middle; left: the allele's alone, behind a window to its left."""
    letters: int = Field(default=512, ge=2)
    """Letters of a window."""
    both_strands: bool = False
    """Also the reverse complement; the two differences are averaged."""
    label: str | None = None
    """Column of labels, or INFO/KEY of a VCF: adds AUROC and AUPRC of minus delta."""
    positive: list[str] = ["1"]
    """Labels of variants that should be less likely, such as Pathogenic."""
    negative: list[str] = ["0"]
    """Labels of the others. Any other label is scored and counted, but judged by no metric."""

    @field_validator("positive", "negative", mode="before")
    @classmethod
    def _as_written(cls, labels: Any) -> Any:
        """A label that YAML takes for a number is the text of it."""
        return [str(label) if isinstance(label, int | float) else label for label in labels] if isinstance(labels, list) else labels

    @model_validator(mode="after")
    def _sides(self) -> Self:
        _two_strands(self)
        if both := set(self.positive) & set(self.negative):
            raise ValueError(f"'{min(both)}' is both positive and negative; name it once")
        return self


class RecoverRecipe(FilesRecipe):
    """The next letters after real contexts, greedy: the share that is right, beside a Markov control on the same contexts."""

    contexts: int = Field(default=200, ge=1)
    """Windows drawn from the files."""
    context_letters: int = Field(default=1020, ge=1)
    """Letters before those that are asked for."""
    letters: int = Field(default=30, ge=1)
    """Letters asked for."""
    greedy: Literal["token", "base"] = "base"
    """base: the likeliest next letter by the sum over all pieces that begin so; token: the likeliest piece."""
    markov: int = Field(default=6, ge=1, le=12)
    """Order of the Markov control, counted on the same contexts."""


class PerturbRecipe(FilesRecipe):
    """Real sequences against changed ones: synonymous codons, codons in another order, CAG repeats, shuffles that keep neighbours."""

    changes: list[Literal["synonymous", "reordered", "cag", "dinucleotide"]] = Field(
        default=["synonymous", "reordered", "cag", "dinucleotide"], min_length=1
    )
    """synonymous: every codon exchanged for another of its amino acid, in records that are whole coding sequences; reordered: codons
    of one amino acid change places, so that only their order differs; cag: CAG repeats inserted; dinucleotide: letters shuffled, all
    counts of neighbours kept."""
    pairs: int = Field(default=200, ge=1)
    """Most pairs of each change."""
    letters: int = Field(default=600, ge=12)
    """Letters of a pair's real side; coding sequences are cut to whole codons, shorter ones are taken whole."""
    repeats: int = Field(default=20, ge=1)
    """CAG repeats inserted."""

    @model_validator(mode="after")
    def _nucleotides(self) -> Self:
        if self.alphabet == "protein":
            raise ValueError("codons and neighbouring bases are those of nucleotides; leave alphabet=protein out")
        return self


class PairsRecipe(FilesRecipe):
    """Proteins after their own gene and after another one: the coding sequences of GenBank files."""

    alphabet: Literal["protein"] = "protein"
    """Residues are scored."""
    most: int = Field(default=500, ge=2)
    """Genes, drawn by the seed from those that fit into a window with their protein."""
    heldout_share: float | None = Field(default=None, gt=0, le=1)
    """Only genes that `convert pack` holds out with this `heldout_share`; null takes all."""
    between: str = Field(default=" codes for ", min_length=1)
    """Words between gene and protein, as in mixed documents of the training."""

    @field_validator("between")
    @classmethod
    def _words(cls, between: str) -> str:
        if tag := next((tag for tag in TAGS if tag in between), None):
            raise ValueError(f"between: {tag} marks a sequence; give words")
        return between


class RetrieveRecipe(FilesRecipe):
    """A key and a value hidden in real sequence, asked for at the end, by length of the prompt."""

    lengths: list[int] = Field(default=[512, 1024, 2048, 4096], min_length=1)
    """Letters of a prompt: sequence, key and value hidden in it, and the key again."""
    each: int = Field(default=50, ge=1)
    """Prompts of each length."""
    key: int = Field(default=24, ge=1)
    """Letters of a key."""
    value: int = Field(default=24, ge=1)
    """Letters of a value."""
    greedy: Literal["token", "base"] = "base"
    """As in `eval sequences recover`."""

    @model_validator(mode="after")
    def _room(self) -> Self:
        if min(self.lengths) < 2 * (2 * self.key + self.value):
            raise ValueError(f"lengths: {min(self.lengths)} letters leave no sequence to hide a key and a value in; ask for more")
        return self
