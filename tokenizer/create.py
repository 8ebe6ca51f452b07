"""Make a tiny base LLaMA: `llama-gene tokenizer create`. For the embedded default, for tests, and for small real runs.

The vocabulary is either a byte-level BPE trained on the text given (Llama 3's pattern and special tokens) or an existing
tokenizer; the weights are a randomly initialised `LlamaForCausalLM`.
"""

import shutil
from pathlib import Path
from typing import Any, Literal

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

from artefacts.errors import SET_ASIDE, Ledger, UserError, say_read, write_set_aside
from artefacts.folder import fingerprint, new_folder, write_manifest
from artefacts.recipe import Recipe
from sequences.texts import read_texts
from tokenizer.base import BYTE_LEVEL, Base, next_id, read_base
from tokenizer.conversations import end_of_turn
from tokenizer.generation import answering_greedily
from tokenizer.gguf_base import WORDS
from tokenizer.saving import save_tokenizer

LLAMA3_SPECIAL = ["<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"]


class CreateBase(Recipe):
    """Make a tiny random base LLaMA, its vocabulary trained on text or taken from an existing tokenizer."""

    out: Path
    """Model folder to write."""
    text: list[Path] = []
    """Text files (.txt, .jsonl, gz) to train a byte-level BPE on; leave empty when `tokenizer` is given."""
    vocab_size: int = 1024
    """Ids of the trained BPE, special tokens left out; ignored when `tokenizer` is given."""
    tokenizer: Path | None = None
    """An existing tokenizer (tokenizer.model, tokenizer.json or folder) whose vocabulary the random model takes."""
    hidden_size: int = 128
    layers: int = 4
    heads: int = 4
    kv_heads: int = 2
    intermediate_size: int = 352
    max_positions: int = 1024
    tied: bool = False
    """Share the input and the output matrix (Llama 3.2 1B and 3B do, larger ones do not)."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    seed: int = 0


def create_base(recipe: CreateBase, *, overwrite: bool = False) -> None:
    """Write the base's folder: tokenizer, weights, configuration.

    Raises:
        UserError: neither or both of `text` and `tokenizer`; heads that do not divide the width; text too small.
    """
    if bool(recipe.text) == bool(recipe.tokenizer):
        raise UserError("give either text= to train a base vocabulary on, or tokenizer= to take one, not both")
    if recipe.hidden_size % recipe.heads or recipe.heads % recipe.kv_heads:
        raise UserError(f"hidden_size={recipe.hidden_size}, heads={recipe.heads}, kv_heads={recipe.kv_heads}: each must divide by the next")
    with new_folder(recipe.out, overwrite=overwrite) as folder:
        ledger = Ledger()
        base = read_base(recipe.tokenizer) if recipe.tokenizer else train_byte_level(recipe.text, recipe.vocab_size, ledger)
        save_tokenizer(base.tokenizer, folder, base.family, base.config)
        if base.sentencepiece_model is not None:
            shutil.copyfile(base.sentencepiece_model, folder / "tokenizer.model")  # extending reads the merge order from it
        _random_llama(recipe, base, end_of_turn(folder)).save_pretrained(folder)
        if recipe.text:
            write_set_aside(folder / SET_ASIDE, ledger)
            say_read(", ".join(map(str, recipe.text)), ledger.as_dict(), recipe.out / SET_ASIDE)
        inputs = {str(file): fingerprint(file) for file in (base.files or recipe.text)}
        write_manifest(folder, "base", recipe=recipe.model_dump(mode="json"), inputs=inputs, counts={"text": ledger.as_dict()})


def train_byte_level(files: list[Path], vocab_size: int, ledger: Ledger) -> Base:
    """A byte-level BPE in Llama 3's style: its split pattern, its special tokens after the vocabulary, BOS put in front."""
    tokenizer = Tokenizer(models.BPE(ignore_merges=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(WORDS["llama-bpe"])
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=vocab_size, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False)
    texts = [document.text for file in files for document in read_texts(file, ledger)]
    # every chat turn spells these; a real LLaMA has an id for each
    texts.append("\n\n".join(["user", "assistant", "system"] * 1000))
    tokenizer.train_from_iterator(texts, trainer)
    if tokenizer.get_vocab_size() < vocab_size:
        raise UserError(
            f"{', '.join(map(str, files))}: only {tokenizer.get_vocab_size()} ids can be learned from "
            f"{sum(map(len, texts))} characters; give more text or ask for fewer"
        )
    tokenizer.add_special_tokens(LLAMA3_SPECIAL)
    bos = LLAMA3_SPECIAL[0]
    tokenizer.post_processor = processors.Sequence(
        [
            processors.ByteLevel(trim_offsets=False),
            processors.TemplateProcessing(single=f"{bos} $A", special_tokens=[(bos, tokenizer.token_to_id(bos))]),
        ]
    )
    return Base(tokenizer, BYTE_LEVEL, {"bos_token": bos, "eos_token": LLAMA3_SPECIAL[1]})


def _random_llama(recipe: CreateBase, base: Base, end: int | None) -> Any:
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(recipe.seed)
    config = LlamaConfig(
        vocab_size=next_id(base.tokenizer),
        hidden_size=recipe.hidden_size,
        num_hidden_layers=recipe.layers,
        num_attention_heads=recipe.heads,
        num_key_value_heads=recipe.kv_heads,
        intermediate_size=recipe.intermediate_size,
        max_position_embeddings=recipe.max_positions,
        tie_word_embeddings=recipe.tied,
        bos_token_id=base.tokenizer.token_to_id(base.config["bos_token"]),
        eos_token_id=base.tokenizer.token_to_id(base.config["eos_token"]),
    )
    model = LlamaForCausalLM(config).to(getattr(torch, recipe.dtype))
    if end not in (None, config.eos_token_id):  # the chat template ends answers with it
        model.generation_config.eos_token_id = [config.eos_token_id, end]
    return answering_greedily(model)
