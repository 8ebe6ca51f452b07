"""Instruction tuning: records -> TRL `SFTTrainer` with PEFT LoRA -> adapter folder."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from peft import LoraConfig
from tqdm import tqdm
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, set_seed
from trl import SFTConfig

from artefacts.checkpoints import STOPPED, NoLastCheckpoint, StopWhenAsked, continue_from, settings
from artefacts.errors import Ledger, UserError
from artefacts.folder import check_absent, fingerprint, new_folder, write_manifest
from artefacts.launch import deepspeed_config, keep_cpu_simple, leave, share_cores
from artefacts.training import shared_arguments
from data_convert.conversations import conversations
from data_convert.records import read_records
from instruct.answers import IGNORED, AnswerTrainer
from instruct.recipe import InstructRecipe
from tokenizer.saving import carry_tokenizer

BATCH = 512


def tune(recipe: InstructRecipe, *, overwrite: bool = False) -> None:
    """Train the adapter and write its folder with tokenizer, history and manifest.

    A run that was cut short continues from its newest complete checkpoint.

    Raises:
        UserError: no usable record, a model with fewer rows than its tokenizer has ids, existing output, checkpoints of a
            run with other settings.
        SystemExit: asked to stop (SIGTERM): a checkpoint is saved.
    """
    check_absent(recipe.out, overwrite)
    tokenizer = AutoTokenizer.from_pretrained(recipe.model)
    rows = AutoConfig.from_pretrained(recipe.model).vocab_size
    if rows < len(tokenizer):
        raise UserError(f"{recipe.model}: {rows} embedding rows for {len(tokenizer)} ids; extend it first")
    ledgers = {"train": Ledger(), "dev": Ledger()}
    train = encode(tokenizer, recipe.records / "train.jsonl", recipe.max_tokens, ledgers["train"])
    dev = encode(tokenizer, recipe.records / "dev.jsonl", recipe.max_tokens, ledgers["dev"], recipe.dev_records, recipe.seed)
    work = recipe.out.with_name(recipe.out.name + ".checkpoints")
    run = settings(recipe, ("model", "records"))
    checkpoint = continue_from(work, run)
    keep_cpu_simple()
    share_cores()
    set_seed(recipe.seed)
    model = AutoModelForCausalLM.from_pretrained(recipe.model, dtype=torch.bfloat16 if recipe.precision == "bf16" else torch.float32)
    stop = StopWhenAsked(work)
    trainer = AnswerTrainer(
        model=model,
        args=sft_config(recipe, work),
        train_dataset=train,
        eval_dataset=dev,
        processing_class=tokenizer,
        peft_config=lora_config(recipe, model),
        callbacks=[NoLastCheckpoint(), stop],
    )
    trainer.run = run
    started = time.monotonic()
    trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    seconds = time.monotonic() - started
    if stop.stopped:
        leave()
        raise SystemExit(STOPPED)
    final = work / "final"
    trainer.save_model(str(final))
    if trainer.is_world_process_zero():
        with new_folder(recipe.out, overwrite=overwrite) as folder:
            for name in ("adapter_config.json", "adapter_model.safetensors"):
                shutil.move(final / name, folder / name)
            carry_tokenizer(recipe.model, folder)
            lines = [json.dumps(line) + "\n" for line in history(trainer.state.log_history)]
            (folder / "history.jsonl").write_text("".join(lines), encoding="utf-8")
            write_manifest(
                folder,
                "adapter",
                recipe=recipe.model_dump(mode="json"),
                inputs={"model": fingerprint(recipe.model), "records": fingerprint(recipe.records)},
                counts={
                    **{split: ledger.as_dict() for split, ledger in ledgers.items()},
                    "trainable_parameters": _trainable(trainer.model),
                    "steps": trainer.state.global_step,
                    "seconds": round(seconds, 1),
                },
            )
        shutil.rmtree(work)
    leave()


def _trainable(model: Any) -> int:
    # ZeRO-3 partitions the parameters: what is left of one here has no size of its own
    return sum(getattr(parameter, "ds_numel", parameter.numel()) for parameter in model.parameters() if parameter.requires_grad)


def encode(tokenizer: Any, path: Path, max_tokens: int, ledger: Ledger, most: int | None = None, seed: int = 0) -> Dataset:
    """Records to `input_ids` and `labels` (-100 on the prompt). Too long records are set aside and counted."""
    records = list(read_records(path))
    if most is not None and len(records) > most:
        keep = np.random.default_rng(seed).permutation(len(records))[:most]
        records = [records[index] for index in sorted(keep)]
    rows: dict[str, list[list[int]]] = {"input_ids": [], "labels": []}
    for start in tqdm(range(0, len(records), BATCH), desc=f"encode {path.name}", unit=f"{BATCH} records", disable=None):
        batch = records[start : start + BATCH]
        pairs = conversations(tokenizer, [record["prompt"] for record in batch], [record["completion"][0]["content"] for record in batch])
        for record, (prompt, answer) in zip(batch, pairs, strict=True):
            ledger.read += 1
            if len(prompt) + len(answer) > max_tokens:
                ledger.reject(f"longer than max_tokens={max_tokens}", record["id"])
                continue
            rows["input_ids"].append(prompt + answer)
            rows["labels"].append([IGNORED] * len(prompt) + answer)
            ledger.written += 1
    if not rows["input_ids"]:
        raise UserError(f"{path}: none of {ledger.read} records fits max_tokens={max_tokens}; raise it or crop the sequences in the card")
    return Dataset.from_dict(rows)


def lora_config(recipe: InstructRecipe, model: Any) -> LoraConfig:
    """LoRA on the attention and feed-forward projections, the vocabulary matrices trained in full on request."""
    return LoraConfig(
        r=recipe.lora_rank,
        lora_alpha=recipe.lora_alpha,
        lora_dropout=recipe.lora_dropout,
        target_modules=recipe.lora_targets,
        # both matrices or none: with the input alone, new tokens could be read but never written
        modules_to_save=["embed_tokens", "lm_head"] if recipe.train_embeddings else None,
        ensure_weight_tying=bool(recipe.train_embeddings and model.config.tie_word_embeddings),
        task_type="CAUSAL_LM",
    )


def sft_config(recipe: InstructRecipe, work: Path) -> SFTConfig:
    """TRL's configuration in the names of version 1."""
    return SFTConfig(
        **shared_arguments(recipe, work, deepspeed_config(recipe.deepspeed) if recipe.deepspeed else None),
        num_train_epochs=recipe.epochs,
        per_device_eval_batch_size=recipe.micro_batch,
        max_length=recipe.max_tokens,
        packing=recipe.packing,
        eval_packing=False,
        # not by length: a task's records are all of one length, so such batches would hold a single task each
        train_sampling_strategy="random",
        eval_strategy="steps",
        eval_steps=recipe.evaluate_every,
    )


def history(log: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The lines of history.jsonl, of the trainer's log, which checkpoints carry: the loss curves that the report draws."""
    return [{"step": line["step"], name: line[name]} for line in log for name in ("loss", "eval_loss") if name in line]
