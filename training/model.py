"""The model of a run: loaded in one place, with the parts that are trained, and turned back into a plain folder.

Shapes: V rows of a vocabulary matrix, D hidden size.
"""

import shutil
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.tensor import distribute_tensor
from transformers import AutoConfig, TrainingArguments

from artefacts.errors import UserError
from tokenizer.encoders import BlockEncoder, read_encoders
from tokenizer.generation import load_causal
from tokenizer.saving import new_ids
from training.checkpoints import world_size
from training.launch import zero_of
from training.loss import KmerTable, ScoringHead, score_in_head, way_for
from training.recipe import TrainingRecipe

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
"""What `precision` means for the weights."""
VOCABULARY = ("embed_tokens", "lm_head")
"""The two vocabulary matrices of a LLaMA."""
ADAPTER_FILES = ("adapter_config.json", "adapter_model.safetensors")
NO_ADAPTER = ("all", "rows")
"""Values of `train` that move the model's own weights."""


def load_model(recipe: TrainingRecipe, arguments: TrainingArguments, merged: bool, checkpoint: Path | None = None) -> Any:
    """The base with its trained parts. The one place where weights are loaded for training.

    `arguments` is not read, but must exist: making it tells transformers of ZeRO-3, under which `from_pretrained` spreads
    the weights over the ranks while it reads them. Nothing is resized here or later: under ZeRO-3 an embedding has size 0
    outside of its own forward (transformers#26112), and the extended base was made offline.

    Args:
        merged: adapters go into the weights at the end of the run; otherwise they are its result, and are kept small.
        checkpoint: what the run goes on from. FSDP2 reads whole weights from there, as each rank's part; else the trainer does it.
    """
    from peft import get_peft_model
    from transformers import BitsAndBytesConfig

    whole = recipe.train in NO_ADAPTER
    # what FSDP2 has spread keeps its dtype, and AdamW wants float32 (see `widen_trained`)
    dtype = torch.float32 if recipe.fsdp and whole else DTYPES[recipe.precision]
    source = checkpoint if recipe.fsdp and whole and checkpoint is not None else recipe.model
    # QLoRA (Dettmers et al. 2023, section 3): NF4 with its scales quantised too
    four_bits = BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True, bnb_4bit_compute_dtype=dtype
    )
    model = load_causal(
        source.resolve(),  # the adapter notes this name, and a relative one is elsewhere taken for a hub id
        dtype=dtype,
        attn_implementation=recipe.attention,
        **spread(recipe),
        **({"quantization_config": four_bits} if recipe.train == "qlora" else {}),
    )
    if recipe.compile:
        compile_parts(model, recipe.compile)
    if whole:
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(recipe.rows != "none" if is_vocabulary(name) else recipe.train == "all")
        return model
    # float32 adapters beside bf16 weights stop ZeRO-3, which has one dtype (trl#2514)
    model = get_peft_model(model, adapter(recipe, model.config, merged), autocast_adapter_dtype=zero_of(recipe.deepspeed).get("stage") != 3)
    if recipe.activation_checkpointing:
        model.enable_input_require_grads()  # else it finds nothing to train after frozen embeddings
    return model


def spread(recipe: TrainingRecipe) -> dict[str, Any]:
    """What has `from_pretrained` read each rank's part of the weights only, as FSDP2's; nothing for one rank."""
    if not recipe.fsdp or world_size() == 1:
        return {}
    from transformers.distributed import DistributedConfig

    return {"distributed_config": DistributedConfig(fsdp_size=world_size())}


def compile_parts(model: Any, backend: str) -> None:
    """Compile what has one shape for all rows of a run, layer by layer; names of weights stay as they are."""
    for layer in model.model.layers:
        for part in (layer.mlp, layer.input_layernorm, layer.post_attention_layernorm):
            part.compile(backend=backend)


def adapter(recipe: TrainingRecipe, config: Any, merged: bool) -> Any:
    """PEFT's configuration: adapters on the targets, and what is trained of the vocabulary matrices.

    Both matrices or none: with the input alone, new tokens could be read but never written. A tied pair stays one matrix; of
    an untied pair PEFT trains the rows of the head only where the head is named. Single rows keep an adapter small; where it
    is merged, full copies do it, under ZeRO-3 too.
    """
    from peft import LoraConfig

    tied = bool(config.tie_word_embeddings)
    rows = new_ids(recipe.model) if recipe.rows == "new" and not merged else None
    copies = recipe.rows != "none" and rows is None
    config = LoraConfig(
        r=recipe.lora.rank,
        lora_alpha=recipe.lora.alpha,
        lora_dropout=recipe.lora.dropout,
        target_modules=recipe.lora.targets,
        use_dora=recipe.train == "dora",
        modules_to_save=list(VOCABULARY) if copies else None,
        trainable_token_indices={name: rows for name in VOCABULARY if not (tied and name == "lm_head")} if rows else None,
        ensure_weight_tying=tied and copies,
        task_type="CAUSAL_LM",
    )
    config.target_modules = recipe.lora.targets  # PEFT makes a set of them, which every process writes in another order
    return config


def score_and_widen(model: Any, recipe: TrainingRecipe, merged: bool) -> None:
    """Put our loss into the head, hold back old rows, and put what is trained into float32; once a trainer has the model.

    TRL puts a loss of its own into the head, and what QLoRA trains into bf16.
    """
    base = model if recipe.train in NO_ADAPTER else model.get_base_model()
    tables = kmer_tables(recipe.model) if recipe.scores_bases else ()
    score_in_head(base, way_for(recipe.loss, torch.cuda.is_available()), tables)
    if recipe.rows == "new" and (merged or recipe.train in NO_ADAPTER):
        keep_old_rows(model, new_ids(recipe.model))
    if recipe.deepspeed is None:
        widen_trained(model)


def kmer_tables(folder: Path) -> list[KmerTable]:
    """The k-mers of a model's vocabulary; alphabets that share theirs are one table.

    Raises:
        UserError: it has none.
    """
    try:
        blocks = [encoder for encoder in read_encoders(folder).values() if isinstance(encoder, BlockEncoder)]
    except UserError as error:
        raise UserError(f"loss=bases needs a vocabulary of k-mers: {error}") from None
    if not blocks:
        raise UserError(
            f"{folder}: loss=bases scores k-mers letter by letter, and this vocabulary has none; set loss=auto, or extend the base "
            "with k-mers (`llama-gene tokenizer train --pieces kmers`)"
        )
    return list({block.kmer_ids.tobytes(): KmerTable(block.k, len(block.bases), block.kmer_ids) for block in blocks}.values())


def is_vocabulary(name: str) -> bool:
    """Whether a parameter of this name is one of the two vocabulary matrices."""
    return any(part in name for part in VOCABULARY)


def keep_old_rows(model: Any, new: list[int]) -> None:
    """Zero the gradients of all rows but `new` in both vocabulary matrices.

    AdamW then never moves them, not by one bit, as long as they have no weight decay: their moments stay zero. Its states
    take memory for all rows. The loss in chunks does not even compute the gradients of old rows.
    """
    for module in model.modules():
        if isinstance(module, ScoringHead):
            module.trained = slice(min(new), max(new) + 1)
    for name, parameter in model.named_parameters():
        if is_vocabulary(name) and parameter.requires_grad:
            rows = getattr(parameter, "ds_shape", parameter.shape)[0]
            mask_V1 = torch.zeros(rows, 1, dtype=parameter.dtype)
            mask_V1[new] = 1

            if hasattr(parameter, "placements"):  # FSDP2 calls no other hooks than those behind its own sum over the ranks
                mask_V1 = distribute_tensor(mask_V1.to(parameter.device), parameter.device_mesh, parameter.placements)
                parameter.register_post_accumulate_grad_hook(partial(_mask, mask_V1))
                continue

            def masked(gradient_VD: Tensor, mask_V1: Tensor = mask_V1) -> Tensor:
                return gradient_VD * mask_V1.to(gradient_VD.device)

            parameter.register_hook(masked)


def _mask(mask_V1: Tensor, parameter: Any) -> None:
    parameter.grad.mul_(mask_V1)


def widen_trained(model: nn.Module) -> None:
    """Put trained weights into float32, frozen ones stay as they are; the passes run in bf16 all the same, by autocast.

    AdamW moves a weight by about the learning rate, and bf16 rounds away what is less than 1/512 of it, so a plain run in
    bf16 would hardly learn. Under DeepSpeed this is not needed: it keeps float32 copies of its own.
    """
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()


def size(parameter: Any) -> int:
    """Elements of a parameter, of all ranks together where ZeRO-3 has spread it."""
    return int(getattr(parameter, "ds_numel", parameter.numel()))


def write_result(recipe: TrainingRecipe, trained: Path, folder: Path, merged: bool) -> None:
    """Put what the trainer saved into `folder`, as an adapter or as a model that plain transformers loads.

    Called on one rank, when training is over.
    """
    from transformers.integrations.deepspeed import unset_hf_deepspeed_config

    unset_hf_deepspeed_config()  # else ZeRO-3 would spread what is read here over ranks that are not here
    dtype = DTYPES[recipe.precision]
    if recipe.train not in NO_ADAPTER and merged:
        from peft import PeftModel

        base = load_causal(recipe.model, dtype=dtype)
        PeftModel.from_pretrained(base, trained).merge_and_unload().save_pretrained(folder)
    elif recipe.train not in NO_ADAPTER:
        for name in ADAPTER_FILES:
            shutil.move(trained / name, folder / name)
    elif AutoConfig.from_pretrained(trained).tie_word_embeddings or recipe.deepspeed is None:
        # DeepSpeed clones tensors before they are saved, so the one matrix of a tied model is written twice; without it
        # what was trained is in float32
        load_causal(trained, dtype=dtype).save_pretrained(folder)
    else:
        for path in [*trained.glob("*.safetensors*"), trained / "config.json", trained / "generation_config.json"]:
            shutil.move(path, folder / path.name)
