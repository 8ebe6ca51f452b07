"""Configuration of a LucaOne encoder; reads the config.json of LucaOne's Hugging Face layout."""

from typing import Any

from transformers import PreTrainedConfig

POOLINGS = ("cls", "mean", "value_attention")
ONLY: dict[str, Any] = {
    "no_position_embeddings": True,
    "no_token_type_embeddings": False,
    "use_embed_layer_norm": False,
    "use_last_layer_norm": True,
    "embed_scale": 1.0,
    "token_dropout": False,
}
"""What every released encoder has, and the only values that the model computes."""
PROBLEMS = {"regression": "regression", "single_label_classification": "multi_class", "multi_label_classification": "multi_label"}
"""Names of transformers -> names of LucaOne."""
LOSS_TYPES = {
    "cross_entropy": None,  # what released configurations say whatever the task is
    "binary_cross_entropy": ("binary_class", "multi_label"),
    "mse": ("regression",),
    "mae": ("regression",),
}
"""classifier_loss_type -> tasks that have it; None: all."""
CHOICES = {
    "classifier_pooling_type": POOLINGS,
    "classifier_loss_type": tuple(LOSS_TYPES),
    "classifier_loss_reduction": ("mean", "sum", "none"),
    "task_level": ("seq_level", "token_level"),
    "task_type": ("embedding", "mlm", "multi_class", "binary_class", "regression", "multi_label"),
}


class LucaOneConfig(PreTrainedConfig):
    """Sizes of the encoder and of the classification heads.

    Not supported, and refused: what `ONLY` names with other values, and the poolings context_attention and weighted_attention.
    """

    model_type = "lucaone"
    tokenizer_class = "LucaOneTokenizer"
    """Of folders that hold no tokenizer."""

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
        classifier_loss_type: str = "cross_entropy",
        classifier_loss_reduction: str = "mean",
        classifier_pos_weight: float | None = None,
        classifier_weight: list[float] | None = None,
        task_level: str | None = None,
        task_type: str = "embedding",
        **kwargs: Any,
    ) -> None:
        """Args:
        intermediate_size: 4 hidden_size where it is not given, as upstream's code has it.
        classifier_num_labels: num_labels under LucaOne's name; None or -1, which converted folders say: not given.
        task_level: seq_level or token_level; None: that of the class of the head.
        """
        self.vocab_size, self.type_vocab_size = vocab_size, type_vocab_size
        self.hidden_size, self.num_hidden_layers, self.num_attention_heads = hidden_size, num_hidden_layers, num_attention_heads
        self.intermediate_size = intermediate_size or 4 * hidden_size
        self.initializer_range = initializer_range
        self.classifier_dropout_prob, self.classifier_pooling_type = classifier_dropout_prob, classifier_pooling_type
        self.classifier_loss_type, self.classifier_loss_reduction = classifier_loss_type, classifier_loss_reduction
        self.classifier_pos_weight, self.classifier_weight = classifier_pos_weight, classifier_weight
        self.task_level, self.task_type = task_level, task_type
        for name, only in ONLY.items():  # refused in check(): saved configurations hold these keys
            setattr(self, name, kwargs.pop(name, only))
        kwargs.pop("auto_map", None)  # names files of remote code, which a folder saved here would not hold
        if classifier_num_labels not in (None, -1) and "num_labels" not in kwargs and "id2label" not in kwargs:
            kwargs["num_labels"] = classifier_num_labels
        kwargs.setdefault("tie_word_embeddings", False)  # the released decoder is a copy of its own
        kwargs["pad_token_id"] = pad_token_id
        super().__init__(**kwargs)
        self.check()

    @property
    def classifier_num_labels(self) -> int | None:
        """num_labels under LucaOne's name; `from_pretrained(..., classifier_num_labels=4)` sets it."""
        return self.num_labels

    @classifier_num_labels.setter
    def classifier_num_labels(self, value: int) -> None:
        self.num_labels = value

    def check(self) -> None:
        """Raise ValueError for what the model does not have; called again by the models, as fields may be set after `__init__`."""
        for name, only in ONLY.items():
            if getattr(self, name) != only:
                raise ValueError(f"this LucaOne has {name}={getattr(self, name)}, which no released model has; only {only} is supported")
        if self.hidden_size % self.num_attention_heads or (self.hidden_size // self.num_attention_heads) % 2:
            raise ValueError(f"hidden_size {self.hidden_size} must be an even multiple of num_attention_heads {self.num_attention_heads}")
        for name, choices in CHOICES.items():
            if getattr(self, name) not in choices and (name, self.task_level) != ("task_level", None):
                raise ValueError(f"{name} '{getattr(self, name)}' is not supported; one of {', '.join(choices)}")
        if self.problem_type is not None and self.task_type not in ("embedding", "mlm", PROBLEMS[self.problem_type]):
            raise ValueError(f"problem_type '{self.problem_type}' and task_type '{self.task_type}' are two tasks; give one of them")
        tasks = LOSS_TYPES[self.classifier_loss_type]
        if tasks is not None and self.head_task is not None and self.head_task not in tasks:
            raise ValueError(f"classifier_loss_type '{self.classifier_loss_type}' is for {' and '.join(tasks)}, not {self.head_task}")
        if self.head_task == "binary_class" and self.num_labels not in (1, 2):
            raise ValueError(f"binary_class has one label or two, not classifier_num_labels={self.num_labels}")

    @property
    def head_task(self) -> str | None:
        """multi_class, binary_class, regression or multi_label; None: the labels tell."""
        if self.problem_type is not None:
            return PROBLEMS[self.problem_type]
        return None if self.task_type in ("embedding", "mlm") else self.task_type
