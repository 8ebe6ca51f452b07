"""Recipes of `baseline train` and `baseline predict`; what ships is under configs/baselines."""

import functools
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from artefacts.recipe import Recipe, validate, with_variant
from data_convert.tasks.kinds import KINDS
from eval.baselines.embedding.recipe import EncoderUse, Windows
from eval.baselines.heads.options import LossOptions, Network


def _listed(given: Any) -> Any:
    return [] if given is None else given if isinstance(given, list) else [given]


Folders = Annotated[list[Path], BeforeValidator(_listed), Field(max_length=2)]
"""A folder, or of a pair one each."""


class Schedule(Recipe):
    """Optimisation: AdamW (0.9, 0.98, 1e-8), linear warm-up, linear decay to 0, gradient norm clipped."""

    epochs: int = Field(default=50, ge=1)
    learning_rate: float = Field(default=1e-4, gt=0)
    warmup: float = Field(default=100, ge=0)
    """Steps over which the learning rate rises; below 1 a share of all steps."""
    weight_decay: float = 0.01
    """None on biases and LayerNorm weights."""
    batch: int = Field(default=16, ge=1)
    """Records per pass."""
    accumulation: int = Field(default=1, ge=1)
    """Passes per step."""
    clip: float = 1.0
    patience: int | None = Field(default=None, ge=1)
    """Stop after so many epochs without a better dev score; null: never, as upstream."""


class TrainRecipe(Windows, EncoderUse):
    """Train LucaBase, LucaPPI or LucaPPI2 on frozen embeddings; the best dev epoch predicts test."""

    WRITES = ("out", "predictions")
    VARIANT = ("comparison", "comparisons")
    data: Path
    """Folder of the original (train/train.csv, dev/dev.csv, test/test.csv, label.txt), or of instruction records (`convert tasks`)."""
    task: str | None = None
    """Task of a records folder that holds several."""
    max_broken: float = Field(default=0.1, ge=0, le=1)
    """Share of a file's rows that may be broken and set aside; more stop the run."""
    out: Path
    """Folder of the head to write."""
    comparison: str | None = None
    """One of `comparisons`; null: the recipe as it stands. What is given beside it, such as encoders=FOLDER, goes over it."""
    comparisons: dict[str, dict[str, Any]] = {}
    """Name -> what that comparison of the original changes in this recipe."""
    encoders: list[str] = Field(default=["one-hot"], min_length=1, max_length=2)
    """Encoder of the inputs (folder, hub id, one-hot, kmer, placed); of a pair one for both, or one each."""
    embeddings: Folders = []
    """Folder of `baseline embed` (or of the original) that holds the embeddings, of a pair one for both, or one each; then no encoder
    is opened. What the folder says of its making has to agree with this recipe; folders of the original say nothing, and are believed."""
    network: Network = Network()
    loss: LossOptions
    metric: Literal["accuracy", "macro_f1", "mcc", "auroc", "spearman", "pearson"]
    """Chooses the epoch on dev."""
    max_length: list[int] = Field(default=[4096], min_length=1, max_length=2)
    """Rows of an input that are used, two special tokens included as the original counts; of a pair one for both, or one each."""
    matrix_add_special_token: bool = False
    """Keep the rows of the special tokens."""
    schedule: Schedule = Schedule()
    standardise: bool = False
    """Regression: train on targets of mean 0 and deviation 1, which short runs need; the original does not."""
    max_train: int | None = None
    """Records drawn by the seed; null: all."""
    max_dev: int | None = None
    max_test: int | None = None
    dev_share: float = Field(default=0.1, gt=0, lt=1)
    """Cut from train where there is no dev file."""
    system: str = "luca"
    """Name in predictions, tables and reports."""
    predictions: Path | None = None
    """Folder in which `<system>.jsonl` of several tasks is gathered for `eval score`; test predictions of this task are put there too."""
    seed: int = 1221
    cache_gb: float = Field(default=4.0, ge=0)
    """Memory for embeddings that are made on the fly; what is beyond it is made anew in every epoch."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if len(self.encoders) > 1 and self.network.net != "lucappi2" and self.encoders[0] != self.encoders[1]:
            raise ValueError("two encoders need two towers: network.net=lucappi2")
        kind = KINDS[self.loss.kind]
        if self.metric not in kind.head_metrics:
            raise ValueError(f"metric {self.metric} is not for {kind.name} tasks, which are chosen by {' or '.join(kind.head_metrics)}")
        if self.standardise and not kind.number:
            raise ValueError("standardise is for regression")
        return self

    def resolved(self) -> Self:
        """With the chosen comparison put in.

        Raises:
            UserError: no such comparison, or a mistake in it.
        """
        if self.comparison is None:
            return self
        values = with_variant(self.model_dump(mode="json"), *self.VARIANT)
        return validate(type(self), values, {}, f"comparison {self.comparison}")

    def per_input(self, values: list[Any]) -> list[Any]:
        """One value for each input."""
        inputs = 1 + self.network.pair
        return values * inputs if len(values) == 1 else values[:inputs]


ORIGINAL: dict[str, tuple[Any, ...]] = {
    "network.zero_rows": (True,),
    "network.dropout": (0.1,),
    "network.classifier": (128,),
    "schedule.epochs": (50,),
    "schedule.learning_rate": (1e-4, 2e-4),
    "schedule.warmup": (100, 1000),
    "schedule.weight_decay": (0.01,),
    "schedule.clip": (1.0,),
    "schedule.patience": (None,),
    "standardise": (False,),
    **dict.fromkeys(("max_train", "max_dev", "max_test"), (None,)),
}
"""What all recipes of the original have, whatever the task."""


def departures(recipe: TrainRecipe) -> dict[str, str]:
    """Field -> what a recipe has where no recipe of the original has it, and what those have."""
    found = {}
    for field, known in ORIGINAL.items():
        value = functools.reduce(getattr, field.split("."), recipe)
        if value not in known:
            found[field] = f"{value}, the original has {' or '.join(map(str, known))}"
    return found


class PredictRecipe(EncoderUse):
    """Predict with a trained or shipped head, CSV in and out as the original's predict_v1."""

    model: Path
    """Folder of `baseline train`, or of a head that LucaOne ships (config.json with model.safetensors or pytorch_model.bin)."""
    task: Path | None = None
    """Recipe under configs/baselines that describes a shipped head; folders of `baseline train` describe themselves."""
    comparison: str | None = None
    """Of that recipe."""
    labels: Path | None = None
    """label.txt; else the one beside the head."""
    encoders: list[str] = []
    """Encoders in place of those that the head was trained with, such as the same weights elsewhere; also in place of embeddings that
    it was trained with."""
    embeddings: Folders = []
    """Folder that holds the embeddings, of a pair one for both, or one each; encoders beside it say what made them."""
    emb_dir: str | None = None
    """`embeddings` under the original's name, two of them joined by #; matrix_embedding_exists is then false where it is not given."""
    matrix_embedding_exists: bool = True
    """What the folders of embeddings lack is refused; else the head's encoder makes it, which is not kept."""
    input_file: Path | None = None
    """CSV or TSV: seq_id,seq_type,seq or seq_id,seq; pairs: seq_id_a,seq_id_b,seq_type_a,seq_type_b,seq_a,seq_b; or FASTA."""
    records: Path | None = None
    """Folder of instruction records instead: `out` gets lines of their test records for `eval score`, named <system>.jsonl."""
    records_task: str | None = None
    """Task of a records folder that holds several."""
    seq_id: str | None = None
    seq_id_a: str | None = None
    seq_id_b: str | None = None
    seq: str | None = None
    """One sample instead of a file; without `out` its answer is printed."""
    seq_a: str | None = None
    seq_b: str | None = None
    seq_type: str | None = None
    """Of files without a column of types, and of one sample."""
    seq_type_a: str | None = None
    seq_type_b: str | None = None
    out: Path | None = None
    """CSV to write; rows of one that exists are kept and their ids not predicted again. With `records` a .jsonl that may hold
    other tasks, whose lines are kept."""
    threshold: float = Field(default=0.5, ge=0, le=1)
    """Binary and multilabel: probability from which the label is given."""
    topk: int = Field(default=1, ge=1)
    """Multiclass: labels listed."""
    ground_truth_idx: int | None = Field(default=None, ge=0)
    """Column copied into ground_truth."""
    on_bad: Literal["refuse", "set_aside"] = "refuse"
    """set_aside writes bad rows with their reason to <out>.rejected.csv."""
    max_broken: float = Field(default=0.1, ge=0, le=1)
    """Share of rows that may be set aside; more stop the run."""
    batch: int = Field(default=32, ge=1)
    # the original's predict_v1: a head below --model_path
    dataset_name: str | None = None
    """With the next six: the head models/<dataset_name>/<dataset_type>/<task_type>/<model_type>/<input_type>/<time_str>/checkpoint-<step>
    below `model`, its labels below logs/, its encoder below llm/ or from the hub; the recipe of the ten tasks is found by the name."""
    dataset_type: str | None = None
    task_type: Literal["binary_class", "multi_class", "multi_label", "regression"] | None = None
    """Has to be the head's, as model_type and input_mode have."""
    model_type: Literal["luca_base", "lucappi", "lucappi2"] | None = None
    input_type: Literal["matrix", "seq", "vector", "seq_matrix", "seq_vector"] | None = None
    time_str: str | None = None
    step: str | None = None
    """Number of the checkpoint, or best."""
    input_mode: Literal["single", "pair"] | None = None
    task_level_type: Literal["seq_level", "token_level"] | None = None
    llm_truncation_seq_length: int | None = Field(default=None, ge=3)
    """Rows of an input that are used, two special tokens included, where that is more than the head was trained with."""
    print_per_num: int | None = Field(default=None, ge=1)
    """Say how far it is after so many rows."""

    @model_validator(mode="before")
    @classmethod
    def _emb_dir(cls, values: Any) -> Any:
        if isinstance(values, dict) and values.get("emb_dir") is not None:
            if values.get("embeddings"):
                raise ValueError("embeddings and emb_dir are the same folders; give one of them")
            values = {"matrix_embedding_exists": False} | values | {"embeddings": str(values["emb_dir"]).split("#"), "emb_dir": None}
        return values

    @model_validator(mode="after")
    def _one_input(self) -> Self:
        if not self.embeddings and "matrix_embedding_exists" in self.model_fields_set:
            raise ValueError("matrix_embedding_exists is of the embeddings in emb_dir=FOLDER; name it, or leave both out")
        if self.task_level_type == "token_level":
            raise ValueError("token_level: upstream's predictors are empty; fine-tune LucaOneForTokenClassification (docs/lucaone.md)")
        if self.input_type not in (None, "matrix"):
            raise ValueError(f"input_type={self.input_type}: heads read matrices only; the ten shipped ones have input_type=matrix")
        if sum(given is not None for given in (self.input_file, self.seq, self.seq_a, self.records)) != 1:
            raise ValueError("give one of input_file, records, seq, or seq_a with seq_b")
        if self.out is None and self.seq is None and self.seq_a is None:
            raise ValueError("'out' is missing; pass --out FILE (--save_path of the original), without which only one sample is printed")
        if self.records is not None and self.out is not None and self.out.suffix != ".jsonl":
            raise ValueError(f"out={self.out}: predictions of records go to <system>.jsonl, which eval score reads")
        if (self.seq_a is None) != (self.seq_b is None):
            raise ValueError("a pair needs seq_a and seq_b")
        return self
