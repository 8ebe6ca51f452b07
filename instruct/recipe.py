"""The instruction-tuning recipe and its cross-checks."""

from __future__ import annotations

from pathlib import Path

from pydantic import model_validator

from artefacts.training import TrainingRecipe


class InstructRecipe(TrainingRecipe):
    """LoRA instruction tuning with TRL, loss on the answer and its end-of-turn token only."""

    model: Path
    """Gene base model (`pretrain`), or an extended base."""
    records: Path
    """Instruction records (`convert tasks`)."""
    out: Path
    """Adapter folder to write. Checkpoints live in `<out>.checkpoints` until the run is complete."""
    lora_rank: int = 16
    lora_alpha: int = 32
    lora_dropout: float = 0.0
    lora_targets: list[str] = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
    train_embeddings: bool = False
    """Train both vocabulary matrices in full beside the adapter. Needed when pre-training left the chat's own tokens
    untrained, as on a random base; a real LLaMA knows them."""
    epochs: float = 2.0
    micro_batch: int = 32
    """Records per rank and forward pass; with packing, blocks of max_tokens."""
    max_tokens: int = 512
    """Longest record; a longer one is set aside and counted, never cut: the answer stands at its end."""
    packing: bool = False
    """Pack whole records into blocks of max_tokens with isolation; otherwise batches are padded."""
    deepspeed: str | None = None
    """A config of configs/deepspeed by name or path; null runs one plain process."""
    evaluate_every: int = 100
    """Steps between losses on the dev records."""
    dev_records: int = 500
    """Dev records used for that loss."""

    @model_validator(mode="after")
    def _check(self) -> InstructRecipe:
        if self.ranks > 1 and self.deepspeed is None:
            raise ValueError("ranks > 1 needs a DeepSpeed config; set deepspeed=zero1")
        if self.packing and self.micro_batch != 1:
            raise ValueError("packing flattens the batch into one row; set micro_batch=1 and raise max_tokens or accumulation instead")
        return self
