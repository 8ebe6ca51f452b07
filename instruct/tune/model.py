"""The model of a tuning run: loaded in one place, with the parts that are trained."""

from __future__ import annotations

import json
from typing import Any

from peft import LoraConfig
from transformers import BitsAndBytesConfig, TrainingArguments

from artefacts.errors import UserError
from instruct.tune.recipe import InstructRecipe
from tokenizer.generation import load_causal
from tokenizer.new_ids import new_ids
from training.launch import deepspeed_config
from training.precision import DTYPES
from training.vocabulary import VOCABULARY, is_vocabulary, keep_old_rows


def check_way(recipe: InstructRecipe) -> None:
    """Refuse ways of training that this machine, or a library, does not have.

    Raises:
        UserError: QLoRA without bitsandbytes; single rows under ZeRO-3; new rows of a base that was not extended.
    """
    if recipe.train == "qlora":
        import importlib.util

        if importlib.util.find_spec("bitsandbytes") is None:
            raise UserError("train=qlora: bitsandbytes is not installed; pip install 'llama-gene[qlora]', or use train=lora")
    if recipe.rows == "new":
        new_ids(recipe.model)
        if recipe.train != "all" and recipe.deepspeed is not None:
            stage = json.loads(deepspeed_config(recipe.deepspeed).read_text(encoding="utf-8"))["zero_optimization"].get("stage", 0)
            if stage == 3:  # PEFT's layer for them reads weights that ZeRO-3 has spread over the ranks
                raise UserError("rows=new under ZeRO-3: PEFT cannot train single rows there; set deepspeed=zero2, or rows=all")


def load_model(recipe: InstructRecipe, arguments: TrainingArguments) -> Any:
    """The base. `arguments` is not read, but must exist: making it tells transformers of ZeRO-3."""
    dtype = DTYPES[recipe.precision]
    # QLoRA (Dettmers et al. 2023, section 3): NF4 with its scales quantised too
    four_bits = BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True, bnb_4bit_compute_dtype=dtype
    )
    model = load_causal(
        recipe.model.resolve(),  # the adapter notes this name, and a relative one is elsewhere taken for a hub id
        dtype=dtype,
        attn_implementation=recipe.attention,
        **({"quantization_config": four_bits} if recipe.train == "qlora" else {}),
    )
    if recipe.train == "all":
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(recipe.rows != "none" or not is_vocabulary(name))
        if recipe.rows == "new":
            keep_old_rows(model, new_ids(recipe.model))
    return model


def adapter(recipe: InstructRecipe, model: Any) -> LoraConfig | None:
    """PEFT's configuration, which TRL puts around the model; None where all weights are trained.

    Both matrices or none: with the input alone, new tokens could be read but never written. A tied pair stays one matrix; of
    an untied pair PEFT trains the rows of the head only where the head is named.
    """
    if recipe.train == "all":
        return None
    tied = bool(model.config.tie_word_embeddings)
    rows = new_ids(recipe.model) if recipe.rows == "new" else None
    return LoraConfig(
        r=recipe.lora.rank,
        lora_alpha=recipe.lora.alpha,
        lora_dropout=recipe.lora.dropout,
        target_modules=recipe.lora.targets,
        use_dora=recipe.train == "dora",
        modules_to_save=list(VOCABULARY) if recipe.rows == "all" else None,
        trainable_token_indices={name: rows for name in VOCABULARY if not (tied and name == "lm_head")} if rows else None,
        ensure_weight_tying=tied and recipe.rows == "all",
        task_type="CAUSAL_LM",
    )
