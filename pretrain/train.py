"""Continued pre-training with the Hugging Face `Trainer` on DeepSpeed, one rank per process."""

from __future__ import annotations

import json
import math
from functools import partial
from pathlib import Path
from typing import Any

from transformers import AutoConfig, AutoTokenizer, PrinterCallback, set_seed

from artefacts.errors import UserError
from artefacts.folder import check_absent, discard, fingerprint, new_folder, read_manifest, write_manifest
from data_convert.shards import load_shards
from pretrain.bits import english_blocks, name_sources
from pretrain.blocks import collate, unlearnt_ids
from pretrain.card import write_card
from pretrain.checks import check_batch, check_context, check_disk, check_fit
from pretrain.model import load_model, write_plain
from pretrain.order import BlockOrder, OrderedBlocks, columns
from pretrain.recipe import PretrainRecipe
from pretrain.trainer import GeneTrainer, training_arguments
from pretrain.universal import BY_RANKS, AfterUniversal, is_universal
from pretrain.watch import Recorder, history
from tokenizer.private import letterless
from tokenizer.saving import carry_tokenizer
from training.checkpoints import (
    STOP,
    STOPPED,
    NoLastCheckpoint,
    StopWhenAsked,
    check_run,
    newest_complete,
    read_run,
    settings,
    world_size,
)
from training.estimate import checkpoint_bytes, sizes_of
from training.launch import keep_cpu_simple, leave, share_cores
from training.recipe import accumulation_of, check_hardware, check_rows

NOT_OF_THE_RUN = ("english", "sample_tokens", "planned", "nodes", "peak_tflops")
"""Fields that may change when a run is continued, beside those of every training."""


def train(recipe: PretrainRecipe, *, overwrite: bool = False) -> dict[str, Any]:
    """Train, measure held-out bits before and after, write the model folder. Returns the content of losses.json.

    A run that was cut short continues from its newest complete checkpoint, exactly as if it had not been.

    Raises:
        UserError: what `check` refuses; existing output; checkpoints of a run with other settings.
        SystemExit: asked to stop (SIGTERM, or the file `stop`): a checkpoint is saved.
    """
    check_absent(recipe.out, overwrite)
    ranks = world_size()
    tokenizer, order, shards = check(recipe, ranks)
    heldout = _first_per_modality(load_shards(recipe.shards, "heldout"), recipe.heldout_blocks)
    name_sources(heldout, read_manifest(recipe.shards)["counts"].get("files"))
    block_tokens = len(heldout[0]["input_ids"])
    if recipe.english is not None:
        heldout += english_blocks(tokenizer, recipe.english, block_tokens)
    keep_cpu_simple()
    share_cores()
    set_seed(recipe.seed)
    work = checkpoints_of(recipe)
    run = settings(recipe, ("model", "shards"), NOT_OF_THE_RUN)
    checkpoint = newest_complete(work)
    universal = checkpoint is not None and is_universal(checkpoint) and read_run(checkpoint)["run"]["ranks"] != ranks
    if checkpoint is not None:
        remedy = f"run `python -m pretrain.universal {checkpoint}`, which makes the number free; "
        check_run(checkpoint, run, BY_RANKS if universal else (), remedy)
    blocks_per_step = recipe.micro_batch * accumulation_of(recipe, ranks) * ranks
    steps = recipe.steps or max(1, math.ceil(recipe.epochs * order.size / blocks_per_step - 1e-9))
    # before the model: ZeRO-3 must be known when it is loaded
    arguments = training_arguments(recipe, work, steps, ranks, universal)
    model = load_model(recipe, arguments)
    silent = letterless(tokenizer.added_tokens_decoder)
    recorder, stop = Recorder(heldout, silent, recipe, tokenizer), StopWhenAsked(work)
    trainer = GeneTrainer(
        recipe,
        run,
        model=model,
        args=arguments,
        train_dataset=OrderedBlocks(shards, order, steps * blocks_per_step),
        data_collator=partial(collate, unlearnt=unlearnt_ids(recipe.model, list(recipe.no_loss_on))),
        callbacks=[recorder, NoLastCheckpoint(), stop],
    )
    trainer.remove_callback(PrinterCallback)
    recorder.trainer, trainer.speed = trainer, recorder.speed
    if checkpoint is not None:
        _check_position(checkpoint, order, blocks_per_step)
    if universal:
        trainer.add_callback(AfterUniversal(trainer))
    if trainer.is_world_process_zero():
        (work / STOP).unlink(missing_ok=True)
    trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    if stop.stopped:
        if trainer.is_world_process_zero():
            print(f"stopped at step {trainer.state.global_step} with a checkpoint; the same command goes on from there", flush=True)
        leave()
        raise SystemExit(STOPPED)
    final = work / "final"
    trainer.save_model(str(final))  # every rank: ZeRO-3 gathers the weights
    losses = summary(trainer, recorder, order, block_tokens)
    if trainer.is_world_process_zero():
        with new_folder(recipe.out, overwrite=overwrite) as folder:
            write_plain(final, recipe, folder)
            carry_tokenizer(recipe.model, folder)
            (folder / "losses.json").write_text(json.dumps(losses, indent=1) + "\n", encoding="utf-8")
            lines = "".join(json.dumps(line) + "\n" for line in history(trainer.state.log_history))
            (folder / "history.jsonl").write_text(lines, encoding="utf-8")
            write_card(folder, recipe, losses)
            write_manifest(
                folder,
                "pretrained",
                recipe=recipe.model_dump(mode="json"),
                inputs={"model": fingerprint(recipe.model), "shards": fingerprint(recipe.shards)},
                counts={name: losses[name] for name in ("tokens", "steps", "parameters", "trained", "blocks")},
            )
        discard(work, recipe.out)
    leave()
    return losses


def checkpoints_of(recipe: PretrainRecipe) -> Path:
    """The folder of a run's checkpoints, beside its output."""
    return recipe.out.with_name(recipe.out.name + ".checkpoints")


def check(recipe: PretrainRecipe, ranks: int) -> tuple[Any, BlockOrder, Any]:
    """Refuse what would fail late, before weights are read. Returns the tokenizer, the order of blocks and the training shards.

    Raises:
        UserError: shards of another tokenizer, a model with fewer rows than its tokenizer has ids, documents beyond its
            context, a batch the ranks do not divide, bf16 without hardware for it, no disk for the checkpoints, a mixture
            that the shards cannot give.
    """
    shards = load_shards(recipe.shards, "train")
    check_fit(recipe.model, recipe.shards)
    tokenizer = AutoTokenizer.from_pretrained(recipe.model)
    config = AutoConfig.from_pretrained(recipe.model)
    check_rows(config.vocab_size, len(tokenizer), recipe.model)
    modalities, tokens, longest = columns(shards)
    check_context(config, int(longest.max()), recipe.shards)
    check_batch(recipe, ranks)
    check_hardware(recipe.precision)
    one = checkpoint_bytes(sizes_of(config), recipe)
    there = len(list(checkpoints_of(recipe).glob("checkpoint-*")))
    room = max(1, recipe.keep_checkpoints + 1 - there) * one
    check_disk(recipe.out, room, f"{recipe.keep_checkpoints} checkpoints and the one being written")
    return tokenizer, BlockOrder(modalities, tokens, recipe.mixture, recipe.seed), shards


def _check_position(checkpoint: Path, order: BlockOrder, blocks_per_step: int) -> None:
    noted = read_run(checkpoint)["position"]
    if noted["blocks"] != noted["step"] * blocks_per_step:
        raise UserError(
            f"{checkpoint}: its steps have {noted['blocks'] // noted['step']} blocks, now they would have {blocks_per_step}; set "
            "micro_batch and accumulation so that micro_batch x accumulation x ranks is what it was"
        )
    if noted["of_modality"] != order.consumed(noted["step"] * blocks_per_step):
        raise UserError(
            f"{checkpoint}: has read {noted['of_modality']} blocks, but this version of the code would have read others; continue "
            f"with the one it began with, or begin anew from its weights with model={checkpoint}"
        )


def summary(trainer: GeneTrainer, recorder: Recorder, order: BlockOrder, block_tokens: int) -> dict[str, Any]:
    """The content of losses.json."""
    measurements = [line["heldout"] for line in trainer.state.log_history if "heldout" in line]
    blocks = trainer.state.global_step * trainer.blocks_per_step
    model: Any = trainer.model
    parameters = list(model.parameters())
    return {
        "before": measurements[0],
        "after": measurements[-1],
        "tokens": blocks * block_tokens,
        "blocks": order.consumed(blocks),
        "steps": trainer.state.global_step,
        "seconds": round(recorder.seconds, 1),
        "parameters": sum(_size(parameter) for parameter in parameters),
        "trained": sum(_size(parameter) for parameter in parameters if parameter.requires_grad),
        "heldout_blocks_per_modality": trainer.recipe.heldout_blocks,
        "seed": trainer.recipe.seed,
    }


def _size(parameter: Any) -> int:
    return int(getattr(parameter, "ds_numel", parameter.numel()))  # ZeRO-3 partitions them


def _first_per_modality(heldout: Any, blocks: int) -> list[dict[str, Any]]:
    taken: dict[str, int] = {}
    rows = []
    for index, modality in enumerate(heldout["modality"]):
        if taken.get(modality, 0) < blocks:
            taken[modality] = taken.get(modality, 0) + 1
            rows.append(heldout[index])
    return rows
