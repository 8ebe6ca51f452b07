"""Instruction tuning: records -> TRL `SFTTrainer` with PEFT -> adapter folder, or model folder where all weights are trained."""

from __future__ import annotations

import json
import os
import shutil
import time
from pathlib import Path
from typing import Any

from transformers import AutoConfig, AutoTokenizer, GenerationConfig, PrinterCallback, set_seed

from artefacts.errors import Ledger, UserError, say_read
from artefacts.folder import check_absent, discard, fingerprint, new_folder, write_manifest
from data_convert.conversations import answer_ids
from instruct.tune.base import base_fingerprint
from instruct.tune.encode import Encoded, encode
from instruct.tune.model import adapter, check_way, load_model
from instruct.tune.recipe import InstructRecipe
from instruct.tune.rows import Rows, order_of, plan, weights_of
from instruct.tune.trainer import AnswerTrainer, training_arguments
from instruct.tune.watch import FEW, Watch, counts_of, history, scored_records
from tokenizer.generation import load_causal
from tokenizer.private import check_tags
from tokenizer.saving import carry_tokenizer, with_fixed_date
from training.checkpoints import STOP, STOPPED, NoLastCheckpoint, StopWhenAsked, continue_from, read_run, settings, world_size
from training.launch import keep_cpu_simple, leave, share_cores
from training.precision import DTYPES
from training.recipe import accumulation_of, check_hardware, check_rows

ADAPTER = ("adapter_config.json", "adapter_model.safetensors")
NOT_OF_THE_RUN = ("planned", "nodes")
"""Fields that may change when a run is continued, beside those of every training."""


def tune(recipe: InstructRecipe, *, overwrite: bool = False) -> None:
    """Train, and write the folder with tokenizer, history and manifest.

    A run that was cut short continues from its newest complete checkpoint, exactly as if it had not been.

    Raises:
        UserError: what `check` refuses; no usable record; existing output; checkpoints of a run with other settings.
        SystemExit: asked to stop (SIGTERM, or the file `stop`): a checkpoint is saved.
    """
    check_absent(recipe.out, overwrite)
    tokenizer = check(recipe)
    ledgers = {"train": Ledger(), "dev": Ledger()}
    aside: list[str] = []
    train = encode(tokenizer, recipe.records / "train.jsonl", recipe.max_tokens, ledgers["train"], aside=aside)
    dev = encode(tokenizer, recipe.records / "dev.jsonl", recipe.max_tokens, ledgers["dev"], recipe.dev_records, recipe.seed)
    if not int(os.environ.get("RANK") or 0):  # the others read the same
        for split, ledger in ledgers.items():
            say_read(str(recipe.records / f"{split}.jsonl"), ledger.as_dict(), recipe.out / "set_aside.txt")
    scored = scored_records(dev.records, recipe.metric_records) if recipe.metric_every is not None else []
    scored_of = counts_of(train.tasks, scored) if recipe.metric_every is not None else {}
    ranks = world_size()
    rows = rows_of(recipe, train, ranks)
    keep_cpu_simple()
    share_cores()
    set_seed(recipe.seed)
    work = recipe.out.with_name(recipe.out.name + ".checkpoints")
    run = settings(recipe, ("model", "records"), NOT_OF_THE_RUN)
    checkpoint = continue_from(work, run)
    per_step = recipe.micro_batch * accumulation_of(recipe, ranks) * ranks
    # before the model: ZeRO-3 must be known when it is loaded
    arguments = training_arguments(recipe, work, len(rows) // per_step, ranks)
    model = load_model(recipe, arguments)
    watch, stop = Watch(recipe, tokenizer, dev, scored, work), StopWhenAsked(work)
    trainer = AnswerTrainer(
        recipe,
        run,
        rows,
        model=model,
        args=arguments,
        processing_class=tokenizer,
        peft_config=adapter(recipe, model),
        callbacks=[watch, NoLastCheckpoint(), stop],
    )
    trainer.remove_callback(PrinterCallback)
    watch.trainer = trainer
    if checkpoint is not None:
        _check_position(checkpoint, rows, per_step)
    if trainer.is_world_process_zero():
        (work / STOP).unlink(missing_ok=True)
        for task, number in scored_of.items():
            if number < FEW:
                print(f"warning: {task}: {number or 'no'} dev records to score, too few to choose the best weights by", flush=True)
    started = time.monotonic()
    trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    seconds = time.monotonic() - started
    if stop.stopped:
        if trainer.is_world_process_zero():
            print(f"stopped at step {trainer.state.global_step} with a checkpoint; the same command goes on from there", flush=True)
        leave()
        raise SystemExit(STOPPED)
    final = watch.best(trainer.state)
    if final is None:
        final = work / "final"
        trainer.save_model(str(final))  # every rank: ZeRO-3 gathers the weights
    if trainer.is_world_process_zero():
        counts = {
            **{split: ledger.as_dict() for split, ledger in ledgers.items()},
            "trainable_parameters": _trainable(trainer.model),
            "steps": trainer.state.global_step,
            "best_step": trainer.state.best_global_step,
            **({"scored": scored_of} if scored_of else {}),
            "records": rows.consumed(trainer.state.global_step * per_step),
            "seconds": round(seconds, 1),
        }
        _write(recipe, final, history(trainer.state.log_history, recipe.log_every), counts, aside, overwrite)
        discard(work, recipe.out)
    leave()


def check(recipe: InstructRecipe) -> Any:
    """Refuse what would fail late, before records are read. Returns the tokenizer.

    Raises:
        UserError: a model with fewer rows than its tokenizer has ids, without a chat template, with a context shorter
            than max_tokens; with a template that writes today's date or ends answers where no generation ends; hardware or a library
            that is not there.
    """
    tokenizer = AutoTokenizer.from_pretrained(recipe.model)
    check_tags(tokenizer.backend_tokenizer, recipe.model)
    config = AutoConfig.from_pretrained(recipe.model)
    check_rows(config.vocab_size, len(tokenizer), recipe.model)
    if tokenizer.chat_template is None:
        raise UserError(
            f"{recipe.model}: its tokenizer has no chat template, so there is no telling where an answer begins; extend the base with "
            "`llama-gene tokenizer extend`, which gives it one, or put a chat_template.jinja into the folder"
        )
    if with_fixed_date(tokenizer.chat_template) != tokenizer.chat_template:
        raise UserError(
            f"{recipe.model}: its chat template writes today's date, so a run continued tomorrow would train on other tokens; "
            "`llama-gene tokenizer extend` fixes the date, or write one into chat_template.jinja in place of strftime_now"
        )
    _check_end(recipe.model, tokenizer, config)
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token  # only ever stands behind a row, where it has no label and nothing sees it
    if recipe.max_tokens > config.max_position_embeddings:
        raise UserError(
            f"max_tokens={recipe.max_tokens}: the context of {recipe.model} is {config.max_position_embeddings}; "
            f"set max_tokens={config.max_position_embeddings}, longer records are set aside and noted"
        )
    check_way(recipe)
    check_hardware(recipe.precision)
    return tokenizer


def _check_end(model: Path, tokenizer: Any, config: Any) -> None:
    """Refuse a base that, once tuned, would never stop: `tokenizer extend` notes the template's end of turn, others may not have."""
    noted = GenerationConfig.from_pretrained(model) if (model / "generation_config.json").is_file() else config
    stops = noted.eos_token_id if isinstance(noted.eos_token_id, list) else [noted.eos_token_id]
    answer = answer_ids(tokenizer, [{"role": "user", "content": "?"}], "yes")
    if not set(answer) & set(stops):
        raise UserError(
            f"{model}: the chat template ends an answer with '{tokenizer.decode(answer[-1:])}' (id {answer[-1]}), which ends no "
            "generation; add that id to eos_token_id in generation_config.json, or extend the base with `llama-gene tokenizer extend`"
        )


def rows_of(recipe: InstructRecipe, train: Encoded, ranks: int) -> Rows:
    """The rows of the whole run."""
    order = order_of(train.tasks, recipe.balance, recipe.seed)
    per_step = recipe.micro_batch * accumulation_of(recipe, ranks) * ranks
    records = max(1, round(recipe.epochs * order.size))
    room = recipe.max_tokens if recipe.packing else None
    rows = plan(order, [len(ids) for ids in train.ids], records, per_step, room, recipe.steps)
    return Rows(train, rows, weights_of(train, order, recipe.loss_per))


def _check_position(checkpoint: Path, rows: Rows, per_step: int) -> None:
    noted = read_run(checkpoint)["position"]
    if noted["of_task"] != rows.consumed(noted["step"] * per_step):
        raise UserError(
            f"{checkpoint}: has read {noted['of_task']} records, but this version of the code would have read others; continue with "
            "the one it began with, or remove that folder to start over"
        )


def _trainable(model: Any) -> int:
    # ZeRO-3 partitions the parameters: what is left of one here has no size of its own
    return sum(getattr(parameter, "ds_numel", parameter.numel()) for parameter in model.parameters() if parameter.requires_grad)


def _write(
    recipe: InstructRecipe, final: Path, lines: list[dict[str, Any]], counts: dict[str, Any], aside: list[str], overwrite: bool
) -> None:
    with new_folder(recipe.out, overwrite=overwrite) as folder:
        if recipe.train == "all":
            _plain_model(recipe, final, folder)
        else:
            for name in ADAPTER:
                shutil.move(final / name, folder / name)
        carry_tokenizer(recipe.model, folder)
        (folder / "history.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
        if aside:
            (folder / "set_aside.txt").write_text("".join(f"{name}\n" for name in aside), encoding="utf-8")
        write_manifest(
            folder,
            "tuned" if recipe.train == "all" else "adapter",
            recipe=recipe.model_dump(mode="json"),
            inputs={"model": base_fingerprint(recipe.model), "records": fingerprint(recipe.records)},
            counts=counts,
        )


def _plain_model(recipe: InstructRecipe, final: Path, folder: Path) -> None:
    """What the trainer saved, read and written once more: of a tied model DeepSpeed saves the one matrix twice."""
    from transformers.integrations.deepspeed import unset_hf_deepspeed_config

    unset_hf_deepspeed_config()  # else ZeRO-3 would spread what is read here over ranks that are not here
    load_causal(final, dtype=DTYPES[recipe.precision]).save_pretrained(folder)
