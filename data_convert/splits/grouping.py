"""What a split by groups is asked for; by `convert audit` for all tasks together, by `convert tasks` for one."""

from typing import Any, Literal

from pydantic import Field, model_validator

from artefacts.recipe import Recipe

Policy = Literal["join", "unseen"]


class Grouping(Recipe):
    """What counts as near duplicates, and how pairs are split."""

    identity: float = Field(0.8, ge=0.5, le=1)
    """DNA and RNA this alike are near duplicates: equal letters of the best local alignment per letter of the shorter."""
    protein_identity: float = Field(0.5, ge=0.3, le=1)
    """The same for proteins."""
    clusters: Literal["builtin", "mmseqs"] = "builtin"
    """What finds near duplicates; mmseqs needs the program on PATH, and its search joins the measurement after the split too."""
    pairs: Policy = "join"
    """join: the inputs of a pair are one group, nothing is left out, one giant group is likely. unseen: sequences are split,
    a pair is kept where all of its inputs fall on one side, mixed pairs are left out and counted."""

    @model_validator(mode="before")
    @classmethod
    def _by_name(cls, value: Any) -> Any:
        return {} if value == "cluster" else value

    def least(self, alphabet: str) -> float:
        """The identity from which two sequences of this alphabet (`dna`, `protein`) are near duplicates."""
        return self.protein_identity if alphabet == "protein" else self.identity

    @property
    def rule(self) -> str:
        """What no group of the split shares, in words."""
        what = "MMseqs2" if self.clusters == "mmseqs" else "built-in"
        pairs = "inputs of a pair joined" if self.pairs == "join" else "pairs only where all inputs are on one side"
        return (
            f"exact, reverse-complement and containment duplicates, {what} clusters at {self.identity:g} (DNA, RNA) and "
            f"{self.protein_identity:g} (protein) identity, {pairs}"
        )
