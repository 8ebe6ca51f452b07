"""The model of a run: loaded in one place, with the parts that are trained, and turned back into a plain folder."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, TrainingArguments

from pretrain.recipe import PretrainRecipe
from tokenizer.generation import load_causal
from tokenizer.new_ids import new_ids
from training.loss import score_in_head, way_for
from training.precision import DTYPES, widen_trained
from training.vocabulary import VOCABULARY, is_vocabulary, keep_old_rows


def load_model(recipe: PretrainRecipe, arguments: TrainingArguments) -> Any:
    """The base with its trained parts, scoring labels in its head. The one place where weights are loaded for training.

    `arguments` is not read, but must exist: making it tells transformers of ZeRO-3, under which `from_pretrained` spreads
    the weights over the ranks while it reads them. Nothing is resized here or later: under ZeRO-3 an embedding has size 0
    outside of its own forward (transformers#26112), and the extended base was made offline.
    """
    model = load_causal(
        recipe.model,
        dtype=DTYPES[recipe.precision],
        attn_implementation=recipe.attention,
    )
    causal = model
    if recipe.train == "lora":
        model = add_lora(model, recipe)
    else:
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(recipe.rows != "none" if is_vocabulary(name) else recipe.train == "all")
    score_in_head(causal, way_for(recipe.loss, torch.cuda.is_available()))
    if recipe.rows == "new":
        keep_old_rows(model, new_ids(recipe.model))
    if recipe.deepspeed is None:
        widen_trained(model)
    return model


def add_lora(model: Any, recipe: PretrainRecipe) -> Any:
    """Wrap the model by PEFT: adapters on the targets, and full copies of the vocabulary matrices where rows are trained.

    Both matrices or none: with the input alone, new pieces could be read but never written. A tied pair stays one matrix.
    """
    from peft import LoraConfig, get_peft_model

    matrices = list(VOCABULARY) if recipe.rows != "none" else None
    config = LoraConfig(
        r=recipe.lora.rank,
        lora_alpha=recipe.lora.alpha,
        lora_dropout=recipe.lora.dropout,
        target_modules=recipe.lora.targets,
        modules_to_save=matrices,
        ensure_weight_tying=bool(matrices and model.config.tie_word_embeddings),
        task_type="CAUSAL_LM",
    )
    # autocast_adapter_dtype: float32 adapters beside bf16 weights stop ZeRO-3, which has one dtype (trl#2514)
    wrapped = get_peft_model(model, config, autocast_adapter_dtype=False)
    wrapped.enable_input_require_grads()  # else activation checkpointing finds nothing to train behind frozen embeddings
    return wrapped


def write_plain(trained: Path, recipe: PretrainRecipe, folder: Path) -> None:
    """Put what the trainer saved into `folder` as a model that plain transformers loads: adapters are merged into the base.

    Called on one rank, when training is over.
    """
    from transformers.integrations.deepspeed import unset_hf_deepspeed_config

    unset_hf_deepspeed_config()  # else ZeRO-3 would spread what is read here over ranks that are not here
    dtype = DTYPES[recipe.precision]
    if recipe.train == "lora":
        from peft import PeftModel

        base = load_causal(recipe.model, dtype=dtype)
        PeftModel.from_pretrained(base, trained).merge_and_unload().save_pretrained(folder)
    elif AutoConfig.from_pretrained(trained).tie_word_embeddings or recipe.deepspeed is None:
        # DeepSpeed clones tensors before they are saved, so the one matrix of a tied model is written twice; without it what was
        # trained is in float32
        load_causal(trained, dtype=dtype).save_pretrained(folder)
    else:
        for item in trained.iterdir():
            if item.name != "training_args.bin":  # a pickle, and nothing a model folder needs
                shutil.move(item, folder / item.name)
