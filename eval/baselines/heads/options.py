"""What a head looks like and what it is trained by: fields of the recipes above."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from artefacts.recipe import Recipe
from data_convert.tasks.kinds import KINDS

HeadKind = Literal["binary", "multiclass", "multilabel", "regression"]


class Network(Recipe):
    """What a head looks like, all but the widths of its inputs and outputs."""

    net: Literal["luca_base", "lucappi", "lucappi2"] = "luca_base"
    """luca_base: one sequence; lucappi: a pair of one kind, one tower for both; lucappi2: a pair of two kinds, a tower each."""
    pooling: Literal["value_attention", "max", "mean"] = "value_attention"
    layers: int = Field(default=0, ge=0)
    """Transformer layers in front of the pooling; 0 for none (the linear variant)."""
    heads: int = Field(default=8, gt=0)
    width: int = Field(default=1024, gt=0)
    """Width of that Transformer."""
    inner: int = Field(default=4096, gt=0)
    act: bool = False
    """Another Linear and GELU in front of that Transformer (upstream's matrix_encoder_act)."""
    fc: list[Annotated[int, Field(gt=0)]] = []
    """Widths of [Linear, GELU] after the pooling; upstream's pairs have 128."""
    classifier: int = Field(default=128, gt=0)
    """Width of the hidden layer of the classifier."""
    dropout: float = Field(default=0.1, ge=0, lt=1)
    zero_rows: bool = False
    """Put an all-zero row before and after each matrix and let both count, as the shipped heads were trained."""

    @property
    def pair(self) -> bool:
        return self.net != "luca_base"

    @model_validator(mode="after")
    def _heads_divide(self) -> Self:
        if self.layers and self.width % (2 * self.heads):
            raise ValueError(f"width {self.width} must be an even multiple of heads {self.heads}")
        return self


class LossOptions(Recipe):
    """Binary and multilabel: cross-entropy with logits; multiclass: cross-entropy; regression: l2 or l1."""

    kind: HeadKind
    regression: Literal["l2", "l1"] = "l2"
    pos_weight: float | None = None
    """Weight of the positive class (binary, multilabel)."""
    class_weights: list[float] | None = None
    """Weight of each class (multiclass)."""

    @model_validator(mode="after")
    def _weights_fit(self) -> Self:
        for name in ("pos_weight", "class_weights"):
            if getattr(self, name) is not None and KINDS[self.kind].weights != name:
                fitting = [kind.name for kind in KINDS.values() if kind.weights == name]
                raise ValueError(f"{name} is for {' and '.join(fitting)} tasks, not {self.kind}")
        return self
