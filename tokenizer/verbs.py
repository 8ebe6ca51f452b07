"""Commands of the tokenizer room. Work is imported only when its command is called."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from artefacts.command import Verb


def _tokenizer_create() -> Verb[Any]:
    from tokenizer.create import CreateBase, create_base

    return Verb(
        CreateBase,
        lambda recipe, overwrite: create_base(recipe, overwrite=overwrite),
        "Make a tiny random base LLaMA, its vocabulary trained on text or taken from an existing tokenizer.",
        "llama-gene tokenizer create --text corpus.jsonl --vocab-size 1024 --out runs/base",
    )


def _tokenizer_train() -> Verb[Any]:
    from tokenizer.bpe.train import TrainBpe, train_bpe

    return Verb(
        TrainBpe,
        lambda recipe, overwrite: train_bpe(recipe, overwrite=overwrite),
        "Train a gene BPE on FASTA files.",
        "llama-gene tokenizer train --alphabet dna --vocab-size 4096 --out runs/dna.json genome.fa.gz",
        positional="files",
    )


def _tokenizer_extend() -> Verb[Any]:
    from tokenizer.extend import Extend, extend_base, preview

    return Verb(
        Extend,
        lambda recipe, overwrite: extend_base(recipe, overwrite=overwrite),
        "Extend a base LLaMA (tokenizer and embedding rows) with gene vocabularies. Text keeps exactly its ids.",
        "llama-gene tokenizer extend --base runs/base --dna runs/dna.json --protein runs/protein.json --out runs/extended",
        dry_run=preview,
    )


def _tokenizer_inspect() -> Verb[Any]:
    from tokenizer.colours import InspectRecipe, inspect

    return Verb(
        InspectRecipe,
        lambda recipe, overwrite: inspect(recipe),
        "Show how an extended tokenizer cuts a text, in colour, with counts per modality.",
        "llama-gene tokenizer inspect 'The promoter <dna>TATAAATGGC</dna> binds.' --tokenizer runs/extended",
        positional="text",
    )


def _tokenizer_gguf() -> Verb[Any]:
    from tokenizer.gguf import Gguf, export_for_gguf

    return Verb(
        Gguf,
        lambda recipe, overwrite: export_for_gguf(recipe, overwrite=overwrite),
        "Write a folder that llama.cpp's converter reads; text is mapped before it is encoded (docs/gguf.md).",
        "llama-gene tokenizer gguf --model runs/model --out runs/for-gguf",
    )


VERBS: dict[str, tuple[str, Callable[[], Verb[Any]]]] = {
    "tokenizer create": ("make a tiny random base LLaMA", _tokenizer_create),
    "tokenizer train": ("train a gene BPE", _tokenizer_train),
    "tokenizer extend": ("extend a base LLaMA with gene vocabularies", _tokenizer_extend),
    "tokenizer inspect": ("show how a text is cut into tokens", _tokenizer_inspect),
    "tokenizer gguf": ("export a model for llama.cpp", _tokenizer_gguf),
}
"""Command -> (one line for the overview, how to make it)."""
