"""Configuration of a LucaOne encoder; reads the config.json of LucaOne's Hugging Face layout."""

from __future__ import annotations

from typing import Any

from transformers import PreTrainedConfig

POOLINGS = ("cls", "mean", "value_attention")


class LucaOneConfig(PreTrainedConfig):
    """Sizes of the encoder and of the classification heads.

    Not supported, and refused: absolute positions, a LayerNorm over the embeddings, no token types, dropout (the released
    models have none of them), and the poolings context_attention and weighted_attention.
    """

    model_type = "lucaone"

    def __init__(
        self,
        vocab_size: int = 39,
        hidden_size: int = 2560,
        num_hidden_layers: int = 20,
        num_attention_heads: int = 40,
        intermediate_size: int | None = None,
        type_vocab_size: int = 2,
        pad_token_id: int = 0,
        initializer_range: float = 0.02,
        classifier_num_labels: int | None = None,
        classifier_dropout_prob: float = 0.1,
        classifier_pooling_type: str = "value_attention",
        classifier_pos_weight: float | None = None,
        classifier_weight: list[float] | None = None,
        task_level: str = "seq_level",
        task_type: str = "embedding",
        **kwargs: Any,
    ) -> None:
        """Args: intermediate_size: 4 hidden_size where it is not given, as upstream's code has it."""
        self.vocab_size, self.type_vocab_size = vocab_size, type_vocab_size
        self.hidden_size, self.num_hidden_layers, self.num_attention_heads = hidden_size, num_hidden_layers, num_attention_heads
        self.intermediate_size = intermediate_size or 4 * hidden_size
        self.initializer_range = initializer_range
        self.classifier_dropout_prob, self.classifier_pooling_type = classifier_dropout_prob, classifier_pooling_type
        self.classifier_pos_weight, self.classifier_weight = classifier_pos_weight, classifier_weight
        self.task_level, self.task_type = task_level, task_type
        # refused in check(): here, because saved configurations hold these keys with the only values that are supported
        self.no_position_embeddings = kwargs.pop("no_position_embeddings", True)
        self.no_token_type_embeddings = kwargs.pop("no_token_type_embeddings", False)
        self.use_embed_layer_norm = kwargs.pop("use_embed_layer_norm", False)
        if classifier_num_labels is not None and "num_labels" not in kwargs and "id2label" not in kwargs:
            kwargs["num_labels"] = classifier_num_labels
        kwargs.setdefault("tie_word_embeddings", False)  # the released decoder is a copy of its own
        kwargs["pad_token_id"] = pad_token_id
        super().__init__(**kwargs)
        self.check()

    def check(self) -> None:
        """Raise ValueError for what the model does not have."""
        if not self.no_position_embeddings or self.no_token_type_embeddings or self.use_embed_layer_norm:
            raise ValueError(
                "this LucaOne has position embeddings, no type embeddings or a LayerNorm over them, which no released model has; "
                "only no_position_embeddings=true, no_token_type_embeddings=false, use_embed_layer_norm=false are supported"
            )
        if self.hidden_size % self.num_attention_heads or (self.hidden_size // self.num_attention_heads) % 2:
            raise ValueError(f"hidden_size {self.hidden_size} must be an even multiple of num_attention_heads {self.num_attention_heads}")
        if self.classifier_pooling_type not in POOLINGS:
            raise ValueError(f"classifier_pooling_type '{self.classifier_pooling_type}' is not supported; one of {', '.join(POOLINGS)}")
