"""Continued pre-training with the Hugging Face `Trainer` on DeepSpeed, one rank per process."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, Trainer, TrainerCallback, TrainingArguments, set_seed

from artefacts.checkpoints import NoLastCheckpoint, continue_from, settings
from artefacts.errors import UserError
from artefacts.folder import check_absent, fingerprint, new_folder, read_manifest, write_manifest
from artefacts.launch import deepspeed_config, keep_cpu_simple, leave, share_cores
from data_convert.shards import load_shards, tokenizer_fingerprint
from pretrain.bits import heldout_bits
from pretrain.blocks import collate
from pretrain.recipe import PretrainRecipe
from tokenizer.saving import carry_tokenizer


def train(recipe: PretrainRecipe, *, overwrite: bool = False) -> dict[str, Any]:
    """Train, measure held-out bits before and after, write the model folder. Returns the content of losses.json.

    A run that was cut short continues from its newest complete checkpoint, exactly as if it had not been.

    Raises:
        UserError: shards of another tokenizer, a model with fewer rows than its tokenizer has ids, existing output,
            checkpoints of a run with other settings.
    """
    check_absent(recipe.out, overwrite)
    shards = load_shards(recipe.shards, "train")
    heldout = load_shards(recipe.shards, "heldout")
    check_fit(recipe.model, recipe.shards)
    tokenizer = AutoTokenizer.from_pretrained(recipe.model)
    check_rows(AutoConfig.from_pretrained(recipe.model).vocab_size, tokenizer, recipe.model)
    keep_cpu_simple()
    share_cores()
    set_seed(recipe.seed)
    work = recipe.out.with_name(recipe.out.name + ".checkpoints")
    arguments = training_arguments(recipe, work)
    checkpoint = continue_from(work, settings(recipe, ("model", "shards")))
    model = AutoModelForCausalLM.from_pretrained(recipe.model, dtype=torch.bfloat16 if recipe.precision == "bf16" else torch.float32)
    measured = _first_per_modality(heldout, recipe.heldout_blocks)
    silent = [index for index, token in tokenizer.added_tokens_decoder.items() if token.special]
    recorder = Recorder(measured, silent, recipe)
    callbacks = [recorder, NoLastCheckpoint()]
    trainer = GeneTrainer(model=model, args=arguments, train_dataset=shards, data_collator=collate, callbacks=callbacks)
    recorder.trainer = trainer
    trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    log = trainer.state.log_history
    measurements = [line["heldout"] for line in log if "heldout" in line]
    final = work / "final"
    trainer.save_model(str(final))  # every rank: ZeRO-3 gathers the weights
    blocks = trainer.state.global_step * recipe.micro_batch * recipe.accumulation * arguments.world_size
    losses = {
        "before": measurements[0],
        "after": measurements[-1],
        "tokens": blocks * len(shards[0]["input_ids"]),
        "steps": trainer.state.global_step,
        "seconds": round(recorder.seconds, 1),
        "parameters": sum(getattr(parameter, "ds_numel", parameter.numel()) for parameter in model.parameters()),  # ZeRO-3 partitions them
        "heldout_blocks_per_modality": recipe.heldout_blocks,
        "seed": recipe.seed,
    }
    if trainer.is_world_process_zero():
        with new_folder(recipe.out, overwrite=overwrite) as folder:
            for item in final.iterdir():
                if item.name != "training_args.bin":  # a pickle, and nothing a model folder needs
                    shutil.move(item, folder / item.name)
            carry_tokenizer(recipe.model, folder)
            (folder / "losses.json").write_text(json.dumps(losses, indent=1) + "\n", encoding="utf-8")
            (folder / "history.jsonl").write_text("".join(json.dumps(line) + "\n" for line in history(log)), encoding="utf-8")
            write_manifest(
                folder,
                "pretrained",
                recipe=recipe.model_dump(mode="json"),
                inputs={"model": fingerprint(recipe.model), "shards": fingerprint(recipe.shards)},
                counts={name: losses[name] for name in ("tokens", "steps", "parameters")},
            )
        shutil.rmtree(work)
    leave()
    return losses


class GeneTrainer(Trainer):
    """Trainer without weight decay on embeddings and head: rare pieces would shrink towards zero between their uses."""

    def get_decay_parameter_names(self, model: Any) -> list[str]:
        names = super().get_decay_parameter_names(model)
        return [name for name in names if "embed_tokens" not in name and "lm_head" not in name]


class Recorder(TrainerCallback):
    """Records what the report draws: training loss, speed, and held-out bits before, during and after.

    Everything goes into the trainer's own `log_history`: checkpoints carry it, so a continued run loses nothing and
    repeats nothing.
    """

    def __init__(self, heldout: list[dict[str, Any]], silent: list[int], recipe: PretrainRecipe) -> None:
        self.heldout, self.silent, self.recipe = heldout, silent, recipe
        self.trainer: Trainer | None = None
        self.seconds = 0.0
        """Training time up to the last logged step, over all parts of a continued run, measurements left out."""
        self._clock, self._step = time.monotonic(), 0

    def _measure(self, state: Any) -> None:
        assert self.trainer is not None
        found = heldout_bits(self.trainer.model, self.heldout, self.silent, self.recipe.micro_batch)
        state.log_history.append({"step": state.global_step, "heldout": found})
        if self.trainer.is_world_process_zero():
            text = ", ".join(f"{name} {value['bits_per_letter']:.3f} bits per {value['unit']}" for name, value in found.items())
            print(f"step {state.global_step}: held-out {text}", flush=True)

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step == 0:
            self._measure(state)
        self.seconds = max((line["seconds"] for line in state.log_history if "seconds" in line), default=0.0)
        self._clock, self._step = time.monotonic(), state.global_step

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        last = state.global_step >= state.max_steps
        if last:
            control.should_log = True  # else the loss of the steps behind the last multiple of log_every would be lost
        if last or state.global_step % self.recipe.evaluate_every == 0:
            paused = time.monotonic()
            self._measure(state)
            self._clock += time.monotonic() - paused

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **kwargs: Any) -> None:
        if not logs or "loss" not in logs:
            return
        assert self.trainer is not None
        now = time.monotonic()
        blocks = (state.global_step - self._step) * args.per_device_train_batch_size * args.gradient_accumulation_steps * args.world_size
        tokens = blocks * len(self.trainer.train_dataset[0]["input_ids"])  # type: ignore[index]
        self._step, elapsed, self._clock = state.global_step, max(now - self._clock, 1e-9), now
        self.seconds += elapsed
        state.log_history[-1] |= {"tokens_per_second": round(tokens / elapsed, 1), "seconds": self.seconds}


def history(log: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The lines of history.jsonl, of the trainer's log: held-out bits per letter, or training loss and speed."""
    lines = []
    for line in log:
        if "heldout" in line:
            bits = {name: value["bits_per_letter"] for name, value in line["heldout"].items()}
            lines.append({"step": line["step"], "heldout": bits})
        elif "loss" in line:
            lines.append({name: line[name] for name in ("step", "loss", "learning_rate", "tokens_per_second")})
    return lines


def training_arguments(recipe: PretrainRecipe, work: Path) -> TrainingArguments:
    """TrainingArguments in transformers 5's names."""
    return TrainingArguments(
        output_dir=str(work),
        max_steps=recipe.steps or -1,
        num_train_epochs=recipe.epochs,
        per_device_train_batch_size=recipe.micro_batch,
        gradient_accumulation_steps=recipe.accumulation,
        learning_rate=recipe.learning_rate,
        lr_scheduler_type=recipe.schedule,
        warmup_steps=recipe.warmup,
        weight_decay=recipe.weight_decay,
        max_grad_norm=recipe.gradient_clip,
        bf16=recipe.precision == "bf16",
        activation_checkpointing=recipe.activation_checkpointing,
        logging_steps=recipe.log_every,
        save_strategy="steps",
        save_steps=recipe.save_every,
        save_total_limit=recipe.keep_checkpoints,
        seed=recipe.seed,
        data_seed=recipe.seed,
        use_cpu=not torch.cuda.is_available(),
        deepspeed=str(deepspeed_config(recipe.deepspeed)),
        remove_unused_columns=False,
        dataloader_pin_memory=torch.cuda.is_available(),
        report_to="none",
    )


def check_fit(model: Path, shards: Path) -> None:
    """Refuse shards that were packed with another tokenizer."""
    packed_with = read_manifest(shards, "shards")["inputs"]["tokenizer"]
    own = tokenizer_fingerprint(model)
    if packed_with != own:
        raise UserError(f"{shards}: packed with tokenizer {packed_with}, but {model} has {own}; pack again with this model's tokenizer")


def check_rows(rows: int, tokenizer: Any, path: Path) -> None:
    """Refuse a model that has fewer embedding rows than its tokenizer has ids; training never resizes."""
    if rows < len(tokenizer):
        raise UserError(f"{path}: {rows} embedding rows for {len(tokenizer)} ids; extend it with `llama-gene tokenizer extend` first")


def _first_per_modality(heldout: Any, blocks: int) -> list[dict[str, Any]]:
    taken: dict[str, int] = {}
    rows = []
    for index, modality in enumerate(heldout["modality"]):
        if taken.get(modality, 0) < blocks:
            taken[modality] = taken.get(modality, 0) + 1
            rows.append(heldout[index])
    return rows
